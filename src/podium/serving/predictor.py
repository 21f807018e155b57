"""One version's model in memory, for many threads: rows to predictions, small requests together in one batch."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.errors import PodiumError
from podium.registry.loading import NO_THRESHOLD, LoadedModel
from podium.serving.image_memory import decoding_bytes, slow_to_open
from podium.serving.observers import Answers, Images, Keep
from podium.serving.request_body import LIST_BYTES, VALUE_BYTES, Rows
from podium.serving.request_error import RequestError, about_rows

BATCH = 64
"""Images that pass the network at once: larger batches are no faster on a CPU, and in between a request can end."""
NEEDED = ("decode", "decode_array", "spec", "bad_image", "classes", "probabilities", "name")
"""What registered models of all versions of Podium have, by which a server asks them."""


PROBABILITY_BYTES = 200
"""Of memory for a probability in an answer, without the name of its class: an array, a float in a dictionary, JSON."""


class CancelledError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class _Turn:
    """Images that wait for the network."""

    images: NDArray[np.uint8]
    found: "Future[NDArray[np.float32]]" = field(default_factory=Future)


class Predictor:
    """A loaded model and the version it is of."""

    def __init__(self, loaded: LoadedModel, number: int, digest: str) -> None:
        self.number = number
        self.digest = digest
        """Of the files that it was loaded from."""
        self.loaded = loaded
        self._model: Any = loaded.model.unwrap_python_model()  # type: ignore[no-untyped-call]
        if missing := [name for name in NEEDED if not hasattr(self._model, name)]:
            raise PodiumError(
                f"{loaded.name} can't be served here: its code lacks {', '.join(missing)}; it was registered by another"
                " version of Podium. `mlflow models serve` serves it"
            )
        self._network = threading.Lock()
        self._turns: deque[_Turn] = deque()
        self.on_batch: Callable[[int], object] = lambda _: None
        """Is called with the size of each batch."""

    def memory(self, rows: Rows, most: int) -> int:
        """Bytes that `answer` takes at most for `rows`. Raises RequestError 413 naming rows that need above `most`."""
        spec = self._model.spec
        pixels = int(spec.channels * spec.height * spec.width)
        if rows.column == "array":
            return pixels * min(len(rows.values), BATCH) + self._answer_bytes(rows)
        slow = [(row, why) for row, data in enumerate(rows.values) if (why := slow_to_open(data))]
        if slow:
            raise about_rows(slow, len(rows.values))
        each = [decoding_bytes(data, spec) for data in rows.values]
        problems = [
            (row, f"decoding it would take {need / 1e6:,.0f} MB of memory; at most {most / 1e6:,.0f} MB are allowed"
                  " (serve.max_decoded_mb)")
            for row, need in enumerate(each)
            if need > most
        ]  # fmt: skip
        if problems:
            raise about_rows(problems, len(each), 413)
        return max(each) + pixels * min(len(each), BATCH) + self._answer_bytes(rows)

    def _answer_bytes(self, rows: Rows) -> int:
        """What the probabilities of all classes take, as numbers, in records and as JSON."""
        if not rows.probabilities:
            return 0
        return len(rows.values) * sum(PROBABILITY_BYTES + 3 * len(json.dumps(name)) for name in self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(str(one) for one in self._model.classes)

    def answer(self, rows: Rows, cancelled: threading.Event, keep: Keep | None = None) -> list[dict[str, Any]]:
        """Label, probability and model of each row, for JSON. Raises RequestError naming the rows that are no images
        (400), or for which the model gives no numbers (500).

        `keep` is called with each batch. Where the model may abstain, the label is None if it is not sure enough, and
        `reason` says so. Raises CancelledError soon after `cancelled` is set: after the image or batch that is at work.
        """
        abstain = self.loaded.abstain
        if rows.abstain and abstain is None:
            raise RequestError(400, f"abstain must not be true: {self.loaded.name} can't abstain, for {NO_THRESHOLD}")
        records = self._records(self.probabilities(rows, cancelled, keep), every=rows.probabilities)
        if rows.abstain and abstain is not None:
            for record in records:
                unsure = record["probability"] < abstain["threshold"]
                record |= {"label": None, "reason": "unsure"} if unsure else {"reason": None}
        return records

    def probabilities(
        self, rows: Rows, cancelled: threading.Event, keep: Keep | None = None, *, aside: bool = False
    ) -> NDArray[np.float32]:
        """The probability of each class (N, K) for N rows, all of them finite. Raises as `answer` does.

        `aside`: no request waits for it; so none has to wait until the network is free of it.
        """
        network = self._model.probabilities if aside else self._in_turn
        found: list[NDArray[np.float32]] = []
        problems: list[tuple[int, str]] = []
        for start in range(0, len(rows.values), BATCH):
            began = time.perf_counter()
            images, sizes, bad = self._decoded(rows, start, cancelled)
            problems += bad
            if problems:
                continue
            found.append(self._finite(network(images), start, len(rows.values)))
            if keep is not None:
                images.setflags(write=False)
                seconds = time.perf_counter() - began
                answers = Answers(self.number, self.classes, found[-1], seconds, self.digest)
                keep(self._seen(rows, start, images, sizes), answers)
        if problems:
            raise about_rows(problems, len(rows.values))
        return np.concatenate(found)

    def _finite(self, found: NDArray[np.float32], start: int, count: int) -> NDArray[np.float32]:
        """`found`, of the rows from `start` on among `count`. Raises RequestError 500 for NaN, which JSON lacks."""
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            why = f"{self.loaded.name} gave probabilities that are no numbers (NaN or infinite)"
            raise about_rows([(start + int(place), why) for place in bad], count, 500)
        return found

    def _seen(self, rows: Rows, start: int, images: NDArray[np.uint8], sizes: list[tuple[int, int]] | None) -> Images:
        values = rows.values[start : start + BATCH]
        size = images.nbytes + sum(len(one) if rows.column == "image" else _list_bytes(one) for one in values)
        known = None if sizes is None else np.array(sizes, np.int64)
        return Images(rows.column, values, images, range(start, start + len(values)), len(rows.values), size, known)

    def _decoded(
        self, rows: Rows, start: int, cancelled: threading.Event
    ) -> tuple[NDArray[np.uint8], list[tuple[int, int]] | None, list[tuple[int, str]]]:
        """The pixels, the sizes as sent where the model's decoder says them, and what is wrong with each bad row."""
        model, values = self._model, rows.values[start : start + BATCH]
        whole = getattr(model, "decode_file", None)  # one that an earlier Podium registered has none
        sizes: list[tuple[int, int]] = []
        images = np.empty((len(values), model.spec.channels, model.spec.height, model.spec.width), np.uint8)
        problems: list[tuple[int, str]] = []
        for place, value in enumerate(values):
            if cancelled.is_set():
                raise CancelledError
            try:
                if rows.column == "array":
                    images[place] = model.decode_array(value, model.spec)
                    sizes.append((len(value[0]), len(value)))
                elif whole is None:
                    images[place] = model.decode(value, model.spec)
                else:
                    found = whole(value, model.spec)
                    images[place] = found.pixels
                    sizes.append((found.width, found.height))
            except model.bad_image as error:
                problems.append((start + place, str(error)))
        return images, sizes if len(sizes) == len(values) else None, problems

    def _in_turn(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probabilities of `images`; what waits while the network is at work is one batch afterwards.

        Whoever gets the network takes along those that wait, so nothing is delayed to make a batch larger.
        """
        turn = _Turn(images)
        self._turns.append(turn)
        while not turn.found.done():
            with self._network:
                if not turn.found.done():
                    self._run(self._next_batch())
        return turn.found.result()

    def _next_batch(self) -> list[_Turn]:
        taken: list[_Turn] = []
        count = 0
        while self._turns and (not taken or count + len(self._turns[0].images) <= BATCH):
            taken.append(self._turns.popleft())
            count += len(taken[-1].images)
        return taken

    def _run(self, turns: list[_Turn]) -> None:
        try:
            images = turns[0].images if len(turns) == 1 else np.concatenate([turn.images for turn in turns])
            probabilities = self._model.probabilities(images)
        except Exception as error:  # of torch: whoever waits has to know
            for turn in turns:
                turn.found.set_exception(error)
            return
        self.on_batch(len(images))
        start = 0
        for turn in turns:
            turn.found.set_result(probabilities[start : start + len(turn.images)])
            start += len(turn.images)

    def _records(self, probabilities: NDArray[np.float32], *, every: bool) -> list[dict[str, Any]]:
        classes, name = self.classes, str(self._model.name)
        best = probabilities.argmax(axis=1).tolist()
        top = probabilities.max(axis=1).astype(np.float64).tolist()
        found: list[dict[str, Any]] = [
            {"label": classes[k], "probability": p, "model": name} for k, p in zip(best, top, strict=True)
        ]
        if every:
            for record, row in zip(found, probabilities.tolist(), strict=True):
                record["probabilities"] = dict(zip(classes, row, strict=True))
        return found


def _list_bytes(pixels: list[Any]) -> int:
    """What an image of nested lists takes in memory, about: (height, width) or (height, width, channels)."""
    height, width = len(pixels), len(pixels[0])
    channels = len(pixels[0][0]) if isinstance(pixels[0][0], list) else 1
    return height * (LIST_BYTES + width * (LIST_BYTES * (channels > 1) + VALUE_BYTES * channels))
