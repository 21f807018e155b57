"""A lock between processes that a dead process can't keep: the kernel drops it with its holder."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from podium.errors import PodiumError, RefusedError


class LockFileError(PodiumError, OSError):
    """The lock file can't be written: a sentence for a person, and an OSError for a caller that has more to say."""


@contextmanager
def locked(path: Path, *, wait: bool = False, purpose: str = "") -> Iterator[None]:
    """Hold the lock file `path` within the block.

    Raises RefusedError naming the holder where another process has it and `wait` is false, LockFileError where the
    file can't be written.
    """
    with _open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise RefusedError(f"{purpose or path.name} is already under way: {_holder(file.read())}") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}))
        file.flush()
        yield


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LockFileError(
            f"{path} can't be written: {error.strerror}. It keeps two processes from the same work"
        ) from None


def _holder(text: str) -> str:
    try:
        who = json.loads(text)
        return f"process {who['pid']} on {who['host']} holds it since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process holds it"
