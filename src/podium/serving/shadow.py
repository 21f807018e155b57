"""The observer that asks the other version too: champion and challenger on the same images, off the answer's path."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from podium.data.decode import encode_png
from podium.serving.canary import image_digest
from podium.serving.observers import Answers, Images
from podium.serving.predictor import Predictor
from podium.serving.request_body import Rows
from podium.serving.request_error import RequestError
from podium.shadow.pair_store import Pair, PairStore, Reply, Versions
from podium.text import one_line

LOG = logging.getLogger("podium.serve")
Current = Callable[[], Predictor | None]


class Shadow:
    """Writes what both versions say of each answered image into `store`.

    Where the challenger's answer was the client's (a canary), the champion is the one that is asked here.
    """

    name = "shadow"

    def __init__(
        self,
        store: PairStore,
        model: str,
        champion: Current,
        challenger: Current,
        *,
        most_decoded: int,
        keep_images: bool,
        count: Callable[[str, int], object] = lambda *_: None,
    ) -> None:
        self.store, self.model, self.champion, self.challenger = store, model, champion, challenger
        self.most_decoded, self.keep_images = most_decoded, keep_images
        self._count = count
        """Is called with `agreed`, `disagreed` or `failed`, and for how many images."""
        self._dropped, self._lock = 0, threading.Lock()
        self._versions: Versions | None = None
        self._failing = ""
        self._same = 0
        """The version that answered and was to be compared with itself last."""

    def dropped(self, images: int) -> None:
        """So many images were not seen: the queue was full."""
        with self._lock:
            self._dropped += images

    def seen(self, request_id: str, images: Images, answers: Answers) -> None:
        """Ask the other version for the images, and write both answers. Raises sqlite3.Error where that fails."""
        canary = answers.role == "challenger"
        other = self.champion() if canary else self.challenger()
        if other is None:
            return  # not loaded yet
        if other.number == answers.number:
            self._log_same(other.number)
            return
        own, asked = _own(answers), self._ask(other, images)
        champion, challenger = (asked, own) if canary else (own, asked)
        versions = [(answers.number, answers.digest), (other.number, other.digest)]
        (old, old_digest), (new, new_digest) = reversed(versions) if canary else versions
        pairs = [
            Pair(
                request_id,
                place + 1,
                images.count,
                image_digest(images.column, images.values[index]),
                champion[index],
                challenger[index],
                canary,
                self._image(images, index) if champion[index].label != challenger[index].label else None,
            )
            for index, place in enumerate(images.places)
        ]
        names = tuple(sorted({*answers.classes, *other.classes}))
        self._write(Versions(self.model, old, new, names, (old_digest, new_digest)), pairs)

    def end(self) -> None:
        """Write how many were dropped last, and close the file."""
        if self._versions is not None:
            self._write(self._versions, [])
        self.store.close()

    def _write(self, versions: Versions, pairs: Sequence[Pair]) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        self._versions = versions
        self.store.add(versions, pairs, dropped)
        agreed = sum(pair.agree for pair in pairs)
        failed = sum(pair.challenger.label is None for pair in pairs)
        for outcome, count in (("agreed", agreed), ("failed", failed), ("disagreed", len(pairs) - agreed - failed)):
            if count:
                self._count(outcome, count)

    def _ask(self, other: Predictor, images: Images) -> list[Reply]:
        """What the other version says; a reply without a label for each image that it can't use or fails on."""
        began = time.perf_counter()
        rows = Rows(images.column, list(images.values), probabilities=False)
        try:
            other.memory(rows, self.most_decoded)
            found = other.probabilities(rows, threading.Event(), aside=True)
        except RequestError as error:
            if len(rows.values) > 1:  # one of them is bad: each by itself tells which
                return [reply for index in range(len(rows.values)) for reply in self._ask(other, _one(images, index))]
            if error.status == 500:
                self._log_once(other, str(error))
            return [Reply(None, {}, time.perf_counter() - began)]
        except Exception as error:  # of the model: it is what is found out here
            self._log_once(other, f"{type(error).__name__}: {error}")
            return [Reply(None, {}, 0.0) for _ in rows.values]
        return _own(Answers(other.number, other.classes, found, time.perf_counter() - began))

    def _log_once(self, other: Predictor, why: str) -> None:
        """Log why the version fails, unless it was the last reason that was logged."""
        if why != self._failing:
            LOG.warning("version %s fails in the shadow: %s", other.number, one_line(why))
        self._failing = why

    def _log_same(self, number: int) -> None:
        """Log once for each version that there is nothing to compare it with."""
        if number != self._same:
            what = "version %s answers and is asked in the shadow too: nothing is compared until one of them changes"
            LOG.warning(what, number)
        self._same = number

    def _image(self, images: Images, index: int) -> bytes | None:
        """What the network saw, not the client's file: nothing that a client made is kept."""
        return encode_png(images.pixels[index]) if self.keep_images else None


def _own(answers: Answers) -> list[Reply]:
    each = answers.seconds / len(answers.probabilities)
    return [
        Reply(answers.classes[int(row.argmax())], dict(zip(answers.classes, map(float, row), strict=True)), each)
        for row in answers.probabilities
    ]


def _one(images: Images, index: int) -> Images:
    part = slice(index, index + 1)
    places, sizes = list(images.places)[part], None if images.sizes is None else images.sizes[part]
    return Images(images.column, images.values[part], images.pixels[part], places, images.count, images.size, sizes)
