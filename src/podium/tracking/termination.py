"""SIGTERM within a block, as SystemExit: a program that is asked to end still does what it has to do at its end."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

_within = 0
"""Blocks that are open and wait for the signal."""


def enter() -> bool:
    """Turn SIGTERM into SystemExit(143) until `leave`; False where the program handles it, or in another thread."""
    global _within
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _end):
        return False
    signal.signal(signal.SIGTERM, _end)
    _within += 1
    return True


def leave() -> None:
    """End what one `enter` that gave True began; blocks need not be nested."""
    global _within
    _within -= 1
    if _within <= 0:
        _default()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _default() -> None:
    if signal.getsignal(signal.SIGTERM) is _end:
        with suppress(ValueError):  # another thread than the main one may set none
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_child() -> None:
    """A forked process ends at once: it has nothing to do at its end, and may be within a long call of a library."""
    global _within
    _within = 0
    _default()


os.register_at_fork(after_in_child=_in_child)
