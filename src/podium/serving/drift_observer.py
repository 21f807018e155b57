"""Statistics of answered images, for drift: measured off the answer's path, and merged into windows on disk.

About once a second what was answered is merged into the version's open window, which all workers and servers share;
a kill loses no more than that second. No pixel is kept.
"""

import logging
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DriftParams
from podium.drift.reference import Reference
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import Verdict
from podium.drift.windows import Rules, Windows, folder_of
from podium.errors import PodiumError
from podium.serving.observers import Answers, Images, ObserverThread
from podium.serving.predictor import Predictor
from podium.serving.server_metrics import ServerMetrics
from podium.text import one_line, reason_of

LOG = logging.getLogger("podium.serve")
EVERY = 1.0
"""Seconds after which what was answered is merged at the latest; a merge takes some milliseconds of a core."""
TOGETHER, MOST_WAITING = 256, 16_000_000
"""Images, or bytes of them, that are measured together at the latest."""
VERSIONS = 4
"""Versions whose windows are held: those that answer now, and those whose last answers may still come."""
LOG_AGAIN = 3600.0
"""Seconds after which what is still wrong is logged again."""
Key = tuple[int, str]
"""Number of a version, and the digest of its files."""


@dataclass
class _Version:
    """What was answered by one version and is not merged yet."""

    windows: Windows
    pending: Sketch
    answered: float
    """When it answered last, or was followed first."""
    waiting: list[tuple[Images, Answers, float]] = field(default_factory=list)
    """Not measured yet, with the time of each: together it takes a fraction of the time, and the GIL, of one by one."""
    images: int = 0
    """How many wait."""
    size: int = 0
    """What they take in memory."""
    shown: int = 0
    """Number of the window that the metrics show."""


class DriftObserver:
    """Keeps the windows of the versions that answer."""

    name = "drift"

    def __init__(self, params: DriftParams, model: str, metrics: ServerMetrics) -> None:
        self.params, self.model, self.metrics = params, model, metrics
        self._versions: dict[Key, _Version] = {}
        self._answer: dict[str, Key] = {}
        """By role: those that answer now, whose windows the metrics show."""
        self._random = np.random.default_rng()  # each process draws its own numbers
        self._lock = threading.Lock()
        """Of all that is here; held for no file, which may take any time."""
        self._merging = threading.Lock()
        """One merge at a time; taken before the other one."""
        self._timer: threading.Timer | None = None
        self._merged = float("-inf")
        self._logged: dict[str, float] = {}
        """What was logged lately, and when."""

    def follow(self, predictor: Predictor, role: str = "champion") -> None:
        """Keep windows of the version of `predictor` from now on, which has this role in place of another one.

        Waits for no other process, and raises nothing: without statistics it answers all the same. A version without a
        reference is logged, no more.
        """
        try:
            self._follow(predictor, role)
        except Exception as error:  # PodiumError says what is wrong, all else is a bug that must not stop a promotion
            expected = isinstance(error, PodiumError)
            LOG.error("drift: no statistics are stored: %s", one_line(reason_of(error, 1000)), exc_info=not expected)

    def _follow(self, predictor: Predictor, role: str) -> None:
        key = predictor.number, predictor.digest
        version = None
        try:
            version = self._made(predictor)
        finally:  # the one before does not answer any more, whatever this one is
            with self._lock:
                before = self._answer.pop(role, None)
                if version is not None:
                    version = self._versions.setdefault(key, version)
                    version.answered, version.shown = time.monotonic(), 0
                    self._answer[role] = key
                if before is not None and before not in self._answer.values():
                    self.metrics.hide_drift(self.model, before[0])
                self._let_go()
        if version is not None:
            self._show(key, version, new=False)

    def _made(self, predictor: Predictor) -> _Version | None:
        """What is kept of the version. Raises PodiumError where its reference is damaged."""
        number, stored = predictor.number, predictor.loaded.reference
        if stored is None:
            LOG.warning(
                "drift: version %s was registered by an earlier Podium and holds no statistics of its training images:"
                " none are stored of what it serves (`dvc repro -f register` makes a version that has them)",
                number,
            )
            return None
        reference = Reference.from_bytes(stored, f"drift.npz of version {number}")
        folder = folder_of(self.params, self.model, number, predictor.digest)
        windows = Windows(folder, reference, Rules.of(self.params), tell=self._log_once)
        try:
            windows.begin()
        except PodiumError as error:  # a later merge makes it, or says so again
            self._log_once(str(error))
        return _Version(windows, windows.fresh(), time.monotonic())

    def seen(self, request_id: str, images: Images, answers: Answers) -> None:
        """Take answered images; they are measured together, and merged where it is time."""
        with self._lock:
            version = self._versions.get((answers.number, answers.digest))
            if version is None:
                return
            version.waiting.append((images, answers, time.time()))
            version.answered = time.monotonic()
            version.images += len(images.values)
            version.size += images.size
            if version.images >= TOGETHER or version.size >= MOST_WAITING:
                self._measure(version)
            rest = self._merged + EVERY - time.monotonic()
            if rest > 0 and self._timer is None:
                self._timer = threading.Timer(rest, self._merge_later)
                self._timer.daemon = True
                self._timer.start()
        if rest <= 0:
            self._merge_all()

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
        version.images = version.size = 0
        if not waiting:
            return
        limit = min(version.windows.limit, version.pending.limit)
        draws = [self._random.random(len(answers.probabilities)) for _, answers, _ in waiting]
        which = [np.flatnonzero(one < limit) for one in draws]
        parts = list(zip(waiting, which, strict=True))
        rows = version.windows.reference.measure(
            np.concatenate([images.pixels[rows] for (images, _, _), rows in parts]),
            np.concatenate([_sizes(images)[rows] for (images, _, _), rows in parts]),
            np.concatenate([answers.probabilities[rows] for (_, answers, _), rows in parts]),
        )
        predicted = np.concatenate([answers.probabilities.argmax(axis=1) for _, answers, _ in waiting])
        kept = np.concatenate([one[rows] for one, rows in zip(draws, which, strict=True)])
        version.pending.began = min(version.pending.began, waiting[0][2])
        version.pending.add(rows, kept, predicted, waiting[-1][2])

    def _merge_all(self) -> None:
        with self._merging:
            with self._lock:
                self._merged = time.monotonic()
                versions = list(self._versions.items())
            for key, version in versions:
                self._merge(version)
                self._show(key, version)
            with self._lock:
                self._let_go()

    def _merge(self, version: _Version) -> None:
        """Merge into the open window. Where that can't be written, what there is waits for the next time."""
        with self._lock:
            self._measure(version)
            taken, version.pending = version.pending, version.windows.fresh()
        if not taken.count:
            return
        try:
            version.windows.add(taken)
        except Exception as error:  # nothing of it was written
            self._log_once(str(error) or type(error).__name__)
            with self._lock:
                taken.merge(version.pending)
                version.pending = taken

    def _log_once(self, what: str) -> None:
        """Log what is wrong, and again after LOG_AGAIN seconds if it lasts."""
        line, now = one_line(what), time.monotonic()
        self._logged = {one: at for one, at in self._logged.items() if at > now - LOG_AGAIN}
        if line not in self._logged:
            self._logged[line] = now
            LOG.error("drift: %s", line)

    def _let_go(self) -> None:
        """Keep VERSIONS at most: those that answer now, and of the others those that answered last."""
        others = [key for key in self._versions if key not in self._answer.values()]
        others.sort(key=lambda key: self._versions[key].answered)
        for key in others[: max(0, len(self._versions) - VERSIONS)]:
            version = self._versions[key]
            if not (version.waiting or version.pending.count):  # else after its next merge
                del self._versions[key]

    def _show(self, key: Key, version: _Version, *, new: bool = True) -> None:
        """The newest complete window as metrics, whichever process completed it; one that is `new` in the log too."""
        try:
            numbers = version.windows.numbers()
            verdict = version.windows.newest() if numbers and numbers[-1] != version.shown else None
        except PodiumError as error:
            self._log_once(str(error))
            return
        with self._lock:
            if verdict is None or verdict.window == version.shown or key not in self._answer.values():
                return
            version.shown = verdict.window
            self.metrics.show_drift(self.model, key[0], verdict)
        if verdict.drifted and new:
            LOG.warning("drift: version %s, %s", key[0], sentence(verdict))


def observed(observer: DriftObserver, most: int, metrics: ServerMetrics) -> ObserverThread:
    """The observer with its queue of `most` bytes of images, counted by `metrics`."""
    count = metrics.observed.labels
    return ObserverThread(
        observer, most, lambda outcome, images: count(metrics.worker, observer.name, outcome).inc(images)
    )


def sentence(verdict: Verdict) -> str:
    """What the newest window showed, for a log."""
    return f"window {verdict.window} ({verdict.count:,} images): {verdict.words or 'no drift'}"


def _sizes(images: Images) -> NDArray[np.int64]:
    """(N, 2) width and height of the images as they were sent; 0: not known."""
    return np.zeros((len(images.values), 2), np.int64) if images.sizes is None else images.sizes
