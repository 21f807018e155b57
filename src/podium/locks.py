"""A lock between processes: the kernel releases it when its holder ends, however it ends."""

import fcntl
import json
import math
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from podium import process_identity
from podium.errors import PodiumError, RefusedError

PATIENCE = 60.0
"""Seconds to wait for a holder that is about to end because its `dvc repro` was killed."""


class LockFileError(PodiumError, OSError):
    """The lock file can't be written; also an OSError, for a caller that knows more about the cause."""


@contextmanager
def locked(path: Path, *, wait: bool = False, seconds: float = math.inf, purpose: str = "") -> Iterator[None]:
    """Hold the lock file `path` within the block; with `wait` wait until it is free, for at most `seconds`.

    Raises RefusedError naming the holder if another process has it and `wait` is false, RefusedError if it is not free
    after `seconds`, LockFileError if the file can't be written. A stage whose `dvc repro` was killed is about to save
    and end: it is waited for.
    """
    with _open(path) as file:
        if wait and math.isinf(seconds):
            # Nobody is refused, so the holder's name is not needed.
            fcntl.flock(file, fcntl.LOCK_EX)
        elif wait:
            _wait(file, path, seconds)
        else:
            _take(file, purpose or path.name)
            _sign(file)
        yield


@contextmanager
def unless_held(lock: AbstractContextManager[object]) -> Iterator[bool]:
    """Hold `lock` within the block and yield True; if another process has it (RefusedError), yield False."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except RefusedError:
            held = False
        else:
            held = True
        yield held


class StandingLock:
    """A lock file that stays open between uses, so that taking it is a few system calls.

    For one thread at a time: the kernel lets all threads of a process share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._closing: weakref.finalize[..., StandingLock] | None = None

    def take(self) -> None:
        """Wait for the lock. Raises LockFileError if the file can't be written."""
        while True:
            file = self._file or self._reopen()
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(self._path, file):
                return
            self.release()
            self._file = None  # it was deleted, and others may lock a new one

    def release(self) -> None:
        """Release it."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _reopen(self) -> TextIO:
        if self._closing is not None:
            self._closing()
        self._file = _open(self._path)
        self._closing = weakref.finalize(self, self._file.close)
        return self._file


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether `file` is the file at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:  # the file or its folder is gone
        return False


def _sign(file: TextIO) -> None:
    """Write the holder into `file`."""
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
    if "DVC_STAGE" in os.environ:
        who["dvc"] = os.getppid()
    file.truncate(0)
    file.write(json.dumps(who))
    file.flush()


def _take(file: TextIO, purpose: str) -> None:
    """Lock `file` now, or as soon as an orphaned holder has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
        if not _is_orphan(holder) or time.monotonic() > deadline:
            raise RefusedError(f"{purpose} is already under way: {_holder(holder)}")
        time.sleep(0.1)


def _wait(file: TextIO, path: Path, seconds: float) -> None:
    """Lock `file` as soon as it is free."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"{path} has been held by another process for more than {seconds:g} s: see whether that one is"
                    f" stopped or hangs (`fuser {path}` names it), and end it"
                ) from None
        time.sleep(0.01)


def _is_orphan(text: str) -> bool:
    """Whether the holder is a stage of this machine whose DVC is gone."""
    try:
        who = json.loads(text)
        if who["host"] != socket.gethostname() or "dvc" not in who:
            return False
        return process_identity.is_gone(int(who["dvc"]))
    except (ValueError, KeyError, TypeError):
        return False


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LockFileError(
            f"{path} can't be written: {error.strerror}. It prevents two processes from doing the same work"
        ) from None


def _holder(text: str) -> str:
    try:
        who = json.loads(text)
        return f"process {who['pid']} on {who['host']} holds it since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process holds it"
