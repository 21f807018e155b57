"""Statistics of answered images, for drift: measured off the answer's path, and merged into windows on disk.

About once a second what was answered is merged into the version's open window, which all workers and servers share;
a kill loses no more than that second. No pixel is kept.
"""

import io
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.config.params import DriftParams
from podium.data.decode import formats, quiet
from podium.drift.reference import Reference
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import Verdict
from podium.drift.windows import Rules, Windows, folder_of
from podium.errors import PodiumError
from podium.serving.observers import Answers, Images, ObserverThread
from podium.serving.predictor import Predictor
from podium.serving.server_metrics import ServerMetrics
from podium.text import one_line

LOG = logging.getLogger("podium.serve")
EVERY = 1.0
"""Seconds after which what was answered is merged at the latest; a merge takes some milliseconds of a core."""
TOGETHER, MOST_WAITING = 256, 16_000_000
"""Images, or bytes of them, that are measured together at the latest."""
VERSIONS = 4
"""Versions whose windows are held: the one that answers, the one before, and those that shadow them."""


@dataclass
class _Version:
    """What was answered by one version and is not merged yet."""

    windows: Windows
    pending: Sketch
    waiting: list[tuple[Images, Answers, float]] = field(default_factory=list)
    """Not measured yet, with the time of each: together it takes a fraction of the time, and the GIL, of one by one."""
    shown: int = 0
    """Number of the window that the metrics show."""


class DriftObserver:
    """Keeps the windows of the versions that answer."""

    name = "drift"

    def __init__(self, params: DriftParams, model: str, metrics: ServerMetrics) -> None:
        self.params, self.model, self.metrics = params, model, metrics
        self._versions: dict[int, _Version] = {}
        self._random = np.random.default_rng()  # each process draws its own numbers
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._merged = float("-inf")
        self._said = ""

    def take_up(self, predictor: Predictor) -> None:
        """Keep windows of the version of `predictor` from now on. A version without a reference is logged, no more."""
        number = predictor.number
        if predictor.loaded.reference is None:
            LOG.warning(
                "drift: version %s was registered by an earlier Podium and holds no statistics of its training images:"
                " none are kept of what it answers (`dvc repro -f register` makes a version that has them)",
                number,
            )
            return
        try:
            reference = Reference.from_bytes(predictor.loaded.reference, f"drift.npz of version {number}")
        except PodiumError as error:  # it answers all the same
            LOG.error("drift: no statistics are kept: %s", one_line(str(error)))
            return
        folder = folder_of(self.params, self.model, number, predictor.digest)
        windows = Windows(folder, reference, Rules.of(self.params))
        with self._lock:
            if number not in self._versions:
                self._versions[number] = _Version(windows, windows.fresh())
            while len(self._versions) > VERSIONS:
                oldest = next(iter(self._versions))
                self._merge(self._versions.pop(oldest))
            self._show(number, new=False)

    def seen(self, request_id: str, images: Images, answers: Answers) -> None:
        """Take answered images; they are measured together, and merged where it is time."""
        with self._lock:
            version = self._versions.get(answers.number)
            if version is None:
                return
            version.waiting.append((images, answers, time.time()))
            if (
                sum(len(one.values) for one, _, _ in version.waiting) >= TOGETHER
                or sum(one.size for one, _, _ in version.waiting) >= MOST_WAITING
            ):
                self._measure(version)
            rest = self._merged + EVERY - time.monotonic()
            if rest <= 0:
                self._merge_all()
            elif self._timer is None:
                self._timer = threading.Timer(rest, self._merge_later)
                self._timer.daemon = True
                self._timer.start()

    def end(self) -> None:
        """Merge what is not merged."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._merge_all()

    def _merge_later(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self._merge_all()
            except Exception:  # of a thread that nobody waits for
                LOG.exception("drift: statistics could not be merged")

    def _measure(self, version: _Version) -> None:
        """Measure what waits, as many as may be in the window's sample, and add it to what is pending."""
        waiting, version.waiting = version.waiting, []
        if not waiting:
            return
        limit = min(version.windows.limit, version.pending.limit)
        draws = [self._random.random(len(answers.probabilities)) for _, answers, _ in waiting]
        which = [np.flatnonzero(one < limit) for one in draws]
        parts = list(zip(waiting, which, strict=True))
        rows = version.windows.reference.measure(
            np.concatenate([images.pixels[rows] for (images, _, _), rows in parts]),
            np.concatenate([_sizes(images, rows) for (images, _, _), rows in parts]),
            np.concatenate([answers.probabilities[rows] for (_, answers, _), rows in parts]),
        )
        predicted = np.concatenate([answers.probabilities.argmax(axis=1) for _, answers, _ in waiting])
        kept = np.concatenate([one[rows] for one, rows in zip(draws, which, strict=True)])
        version.pending.began = min(version.pending.began, waiting[0][2])
        version.pending.add(rows, kept, predicted, waiting[-1][2])

    def _merge_all(self) -> None:
        self._merged = time.monotonic()
        for number, version in self._versions.items():
            self._merge(version)
            self._show(number)

    def _merge(self, version: _Version) -> None:
        """Merge into the open window. Where that can't be written, what there is waits for the next time."""
        self._measure(version)
        if not version.pending.count:
            return
        try:
            version.windows.add(version.pending)
        except PodiumError as error:
            if one_line(str(error)) != self._said:
                LOG.error("drift: %s", one_line(str(error)))
            self._said = one_line(str(error))
            return
        self._said = ""
        version.pending = version.windows.fresh()

    def _show(self, number: int, *, new: bool = True) -> None:
        """The newest complete window as metrics, whichever process completed it; one that is `new` in the log too."""
        version = self._versions[number]
        numbers = version.windows.numbers()
        if not numbers or numbers[-1] == version.shown:
            return
        try:
            verdict = version.windows.newest()
        except PodiumError as error:
            LOG.error("drift: %s", one_line(str(error)))
            return
        if verdict is not None:
            version.shown = verdict.window
            self.metrics.show_drift(self.model, number, verdict)
            if verdict.drifted and new:
                LOG.warning("drift: version %s, %s", number, sentence(verdict))


def observed(observer: DriftObserver, most: int, metrics: ServerMetrics) -> ObserverThread:
    """The observer with its queue of `most` bytes of images, counted by `metrics`."""
    count = metrics.observed.labels
    return ObserverThread(
        observer, most, lambda outcome, images: count(metrics.worker, observer.name, outcome).inc(images)
    )


def sentence(verdict: Verdict) -> str:
    """What the newest window showed, for a log."""
    return f"window {verdict.window} ({verdict.count:,} images): {verdict.words or 'no drift'}"


def _sizes(images: Images, which: NDArray[np.intp]) -> NDArray[np.int64]:
    """(n, 2) width and height of some of the images as they were sent; 0: not known."""
    return np.array([_size(images.column, images.values[row]) for row in which], np.int64).reshape(-1, 2)


def _size(column: str, value: Any) -> tuple[int, int]:
    if column == "array":
        return len(value[0]), len(value)
    try:
        with quiet, Image.open(io.BytesIO(value), formats=formats()) as opened:
            return opened.size
    except Exception:  # Pillow's readers raise nearly anything, and a note in the file was left out for decoding
        return 0, 0
