"""Which version a server answers with: the one that an alias names, taken up within seconds of a move.

A thread asks the registry; requests are answered by the version before until the new one is loaded, its files compared
with the digests in the registry and the ledger, and its stored predictions repeated.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from podium.errors import PodiumError
from podium.registry import versions
from podium.registry.versions import Version
from podium.serving.predictor import Predictor
from podium.text import one_line, reason_of
from podium.tracking.store import Tracking

LOG = logging.getLogger("podium.serve")
SLOWEST = 60.0
"""Seconds between two tries at most where a version can't be taken up."""
LONGEST = 1000
"""Characters of why it can't, in the log and on the page /ready, which everybody may read."""


@dataclass(frozen=True)
class Choice:
    """Where the version comes from."""

    tracking: Tracking
    name: str
    """Of the registered model."""
    which: int | str
    """A version, which is never left, or an alias, which is followed."""
    check: Callable[[Version], None]
    """Raises PodiumError for a version that is not the one of the ledger."""

    @property
    def follows(self) -> str:
        """The alias that is followed; empty: none."""
        return self.which if isinstance(self.which, str) else ""

    def find(self) -> Version:
        """The version that is to answer now, compared with the ledger."""
        found = versions.find(self.tracking, self.name, self.which)
        self.check(found)
        return found

    def load(self, version: Version) -> Predictor:
        """The model of `version`. Raises PodiumError unless its files and its predictions are those registered."""
        loaded = versions.load(self.tracking, version)
        loaded.check_predictions()
        return Predictor(loaded, version.number, versions.digest_of(version))


class Follower:
    """The predictor that answers, and the thread that replaces it."""

    def __init__(
        self, choice: Choice, seconds: float, on_change: Callable[[Predictor], object], role: str = "answers"
    ) -> None:
        self.choice = choice
        self.role = role
        """What its version does, in the log."""
        self.seconds = seconds
        """Between two looks at the registry."""
        self.on_change = on_change
        """Is called with each new predictor, before it answers."""
        self.current: Predictor | None = None
        """None until `start` has loaded the first one."""
        self.failing = ""
        """Why the version that is to answer can't be taken up; empty: it answers."""
        self._warm: Predictor | None = None
        """The one before: a rollback takes no time."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load the first version, then follow. Raises PodiumError where there is none that can be served."""
        first = self.choice.load(self.choice.find())
        self.on_change(first)
        self.current = first
        if self.choice.follows and not self._ended.is_set():
            self._begin(self.seconds)

    def start_later(self) -> None:
        """Load the first version beside what goes on, and then follow; where it can't be loaded, try again."""
        if not self._ended.is_set():
            self._begin(0.0)

    def _begin(self, pause: float) -> None:
        self._thread = threading.Thread(target=self._follow, args=(pause,), name="podium-follow", daemon=True)
        self._thread.start()

    def end(self, seconds: float) -> bool:
        """Follow no longer; whether the thread ended within `seconds`."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _follow(self, pause: float) -> None:
        while not self._ended.wait(pause):
            try:
                self.look()
                said, pause = "", self.seconds
            except Exception as error:  # a registry that is away, a damaged version: the present one goes on answering
                said = one_line(reason_of(error, LONGEST) or type(error).__name__)
                pause = min(2 * max(pause, self.seconds), SLOWEST)
            if said and said != self.failing:
                now = self.current.number if self.current else "none"
                LOG.error("version %s %s as before: %s", now, self.role, said)
            self.failing = said
            if not (said or self.choice.follows):
                return  # it is loaded, and stays

    def look(self) -> None:
        """Take up the version that the alias names now. Raises PodiumError where it is not what was registered."""
        version = self.choice.find()
        before = self.current
        digest = versions.digest_of(version)
        if before is not None and (before.number, before.digest) == (version.number, digest):
            return
        started = time.monotonic()
        warm = self._warm
        if warm is not None and (warm.number, warm.digest) == (version.number, digest):
            new = warm
        else:
            self._warm = None  # two models at a time, not three
            new = self.choice.load(version)
        if self._ended.is_set():
            raise PodiumError(f"the server ends: it does not load {version}")
        self.on_change(new)
        self.current, self._warm = new, before
        LOG.info(
            "version %s %s now, after %s (%.1f s)",
            new.number,
            self.role,
            f"version {before.number}" if before else "none",
            time.monotonic() - started,
        )
