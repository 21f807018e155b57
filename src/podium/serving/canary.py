"""Which of two versions answers an image: a stable share goes to the challenger, by the image's own bytes.

The same image always goes the same way: in every worker, on every server, after every start, whether it is sent alone
or among others. A larger share keeps the images that a smaller one had.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from podium.serving.follower import Follower
from podium.serving.observers import Answers, Images, Keep
from podium.serving.predictor import CancelledError, Predictor
from podium.serving.request_body import Column, Rows
from podium.serving.request_error import RequestError
from podium.text import one_line

LOG = logging.getLogger("podium.serve")


def image_digest(column: Column, value: Any) -> str:
    """SHA-256 of an image file as it was sent; of pixels, of their JSON without spaces."""
    data = value if column == "image" else json.dumps(value, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()


def is_canary(digest: str, share: float) -> bool:
    """Whether the image goes to the challenger: its digest's first 64 bits, as a number, are below that part of all."""
    return int(digest[:16], 16) < share * 2.0**64


@dataclass(frozen=True)
class Canary:
    """A share of the images for the version of a second follower."""

    follower: Follower
    share: float
    """0 to 1"""
    room: int
    """Bytes for the images of a request at most: one that would need more by the challenger is the champion's."""
    count: Callable[[str, int], object]
    """Is called with `challenger` or `champion`, or `fallback` where the challenger should have answered and failed;
    and for how many images."""

    def beside(self, champion: Predictor) -> "Predictor | Split":
        """Who answers a request that comes now."""
        challenger = self.follower.current
        if challenger is None or challenger.number == champion.number:
            return champion
        return Split(champion, challenger, self)


class Split:
    """Two versions that answer one request, each its images; to be used as a Predictor, once."""

    def __init__(self, champion: Predictor, challenger: Predictor, canary: Canary) -> None:
        self.champion, self.challenger, self.canary = champion, challenger, canary
        self._fits = True

    def memory(self, rows: Rows, most: int) -> int:
        """Bytes that `answer` takes at most. Raises RequestError 413 where the champion's would be above `most`."""
        need = self.champion.memory(rows, most)
        try:
            more = max(need, self.challenger.memory(rows, most))
        except RequestError:
            more = self.canary.room + 1
        self._fits = more == need or more <= self.canary.room
        return more if self._fits else need

    def answer(self, rows: Rows, cancelled: threading.Event, keep: Keep | None = None) -> list[dict[str, Any]]:
        """As the champion's: where the challenger fails, its images are the champion's too."""
        chosen = [is_canary(image_digest(rows.column, one), self.canary.share) for one in rows.values]
        for_it = [place for place, its in enumerate(chosen) if its]
        others = [place for place, its in enumerate(chosen) if not its]
        found = self._of_challenger(rows, for_it, cancelled, keep) if for_it and self._fits else None
        if found is None:
            self._count({"fallback": len(for_it), "champion": len(others)})
            return self.champion.answer(rows, cancelled, keep)
        if others:
            try:
                found |= _part(self.champion, rows, others, cancelled, keep)
            except RequestError:  # of all rows, so that it names those of the request
                return self.champion.answer(rows, cancelled)
        self._count({"challenger": len(for_it), "champion": len(others)})
        return [found[place] for place in range(len(rows.values))]

    def _count(self, images: dict[str, int]) -> None:
        for by, count in images.items():
            if count:
                self.canary.count(by, count)

    def _of_challenger(
        self, rows: Rows, places: list[int], cancelled: threading.Event, keep: Keep | None
    ) -> dict[int, dict[str, Any]] | None:
        seen: list[tuple[Images, Answers]] = []
        try:
            found = _part(self.challenger, rows, places, cancelled, lambda *one: seen.append(one))
        except CancelledError:
            raise
        except RequestError as error:  # images that it can't use: the champion says what is wrong with them
            if error.status == 500:
                LOG.error("version %s failed, the champion serves instead: %s", self.challenger.number, error)
            return None
        except Exception as error:
            said = one_line(f"{type(error).__name__}: {error}")
            LOG.error("version %s failed, the champion serves instead: %s", self.challenger.number, said)
            return None
        for images, answers in seen:
            if keep is not None:
                keep(images, replace(answers, role="challenger"))
        return found


def _part(
    predictor: Predictor, rows: Rows, places: Sequence[int], cancelled: threading.Event, keep: Keep | None
) -> dict[int, dict[str, Any]]:
    """The answers of some of the rows, by their place."""

    def placed(images: Images, answers: Answers) -> None:
        if keep is not None:
            its = [places[place] for place in images.places]
            keep(replace(images, places=its, count=len(rows.values)), answers)

    part = replace(rows, values=[rows.values[place] for place in places])  # all that was asked for goes with them
    return dict(zip(places, predictor.answer(part, cancelled, placed), strict=True))
