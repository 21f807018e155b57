"""A second version beside the one that answers: loaded and followed like it; asked too (shadow), or answers a share."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass

from podium.config.params import ServeParams
from podium.serving.canary import Canary
from podium.serving.follower import Choice, Follower
from podium.serving.observers import ObserverThread
from podium.serving.predictor import Predictor
from podium.serving.server_metrics import ServerMetrics
from podium.serving.shadow import Shadow
from podium.shadow import pair_store

LOG = logging.getLogger("podium.serve")
END_SECONDS = 10.0
LOOKS = "the check for another {} (which reads the registry or loads a model)"
"""What a follower's thread does that does not end."""
TIDY_SECONDS = 600.0
"""Between two looks for what is too old, where nothing is served meanwhile."""


@dataclass(frozen=True)
class Beside:
    """Which second version there is, and what for."""

    choice: Choice
    shadow: bool
    """Whether it is asked for every answered image."""
    canary: float
    """Part of the images that it answers, 0 to 1."""


class Challenger:
    """The second version of one worker. It is loaded when the first one answers, and delays nothing."""

    def __init__(
        self,
        beside: Beside,
        champion: Callable[[], Predictor | None],
        params: ServeParams,
        metrics: ServerMetrics,
        on_change: Callable[[Predictor], object] | None = None,
    ) -> None:
        """`on_change` is called with each new predictor. Raises PodiumError where what is seen can't be kept."""
        self.beside, self.params, self.metrics, self.on_change = beside, params, metrics, on_change
        self.follower = Follower(beside.choice, params.follow_seconds, self._changed, "is the challenger")
        room = int((params.memory_mb - 6 * params.max_request_mb) * 1e6)
        self.canary = Canary(self.follower, beside.canary, room, self._count_canary) if beside.canary else None
        self._store = self._opened() if beside.shadow else None
        self.observers = [self._shadow(champion, self._store)] if self._store else []
        self._ended = threading.Event()
        self._tidying = threading.Thread(target=self._tidy, name="podium-retention", daemon=True)

    def start(self) -> None:
        """Load the version, and begin to observe."""
        self.follower.start_later()
        for observer in self.observers:
            observer.start()
        self._tidying.start()

    def end(self) -> list[str]:
        """Write what is not written, and follow no longer; what has not ended in time."""
        self._ended.set()
        if self._tidying.ident is not None:
            self._tidying.join(END_SECONDS)
        working = [f"the observer {one.observer.name}" for one in self.observers if not one.end(END_SECONDS)]
        return working if self.follower.end(END_SECONDS) else [*working, LOOKS.format("challenger")]

    def _opened(self) -> pair_store.PairStore:
        return pair_store.PairStore(pair_store.folder(), self.params.keep_mb, self.params.keep_days)

    def _tidy(self) -> None:
        while self._store is not None and not self._ended.wait(TIDY_SECONDS):
            try:
                self._store.tidy()
            except sqlite3.Error as error:
                LOG.warning("what is stored of images and too old can't be deleted: %s", error)

    def _shadow(self, champion: Callable[[], Predictor | None], store: pair_store.PairStore) -> ObserverThread:
        shadow = Shadow(
            store,
            self.beside.choice.name,
            champion,
            lambda: self.follower.current,
            most_decoded=int(self.params.max_decoded_mb * 1e6),
            keep_images=self.params.keep == "disagreements",
            count=lambda outcome, images: self.metrics.shadow.labels(self.metrics.worker, outcome).inc(images),
        )

        def count(outcome: str, images: int) -> None:
            self.metrics.observed.labels(self.metrics.worker, shadow.name, outcome).inc(images)
            if outcome == "dropped":
                shadow.dropped(images)

        return ObserverThread(shadow, int(self.params.queue_mb * 1e6), count)

    def _count_canary(self, by: str, images: int) -> None:
        self.metrics.canary.labels(self.metrics.worker, by).inc(images)

    def _changed(self, new: Predictor) -> None:
        self.metrics.challenger.clear()
        self.metrics.challenger.labels(self.metrics.worker, self.beside.choice.name).set(new.number)
        if self.on_change is not None:
            self.on_change(new)
