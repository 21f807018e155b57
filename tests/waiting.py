"""Waiting for what has to come about, however long a busy machine takes; no test waits for a time."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import psutil

PATIENCE = 600.0
"""Seconds after which something counts as never coming about: below pytest's own 900, so that its test says what."""


class Process(Protocol):
    """What can be asked whether it has ended: a process of subprocess or psutil."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""


def until(condition: Callable[[], Any], process: Process | None = None, said: Callable[[], str] = str) -> None:
    """Wait until `condition` is true, which it must become while `process` runs; `said` is shown if it does not."""
    end = time.monotonic() + PATIENCE
    ended = False
    while not condition():
        assert not ended, f"the process ended before: {said()}"
        assert time.monotonic() < end, f"it did not come about in {PATIENCE:.0f} s: {said()}"
        ended = process is not None and process.poll() is not None  # and what it did last is looked at once more
        time.sleep(0.01)


def gone(number: int) -> bool:
    """Whether the process has ended; who is to collect it may be busy, or be the first process of a container."""
    try:
        return bool(psutil.Process(number).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
