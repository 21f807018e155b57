"""Optuna's journal, as Podium stores it: a lock that no dead process holds, and as little work per write as possible.

A trial makes some twenty writes, and its worker waits for most of them.
"""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from podium.locks import StandingLock
from podium.tuning.optuna_private import ends_trial, line_offsets

SYNC_SECONDS = 1.0
"""Seconds of reports that a power cut may take."""
BLOCK = 65536
"""Bytes that are read at once in search of a line's end."""


def open_storage(path: Path) -> JournalStorage:
    """Optuna's journal file at `path`, made where it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(Journal(path))


class Journal(JournalFileBackend):
    """Optuna's journal file, brought to the disk at each trial's end and otherwise once a second.

    Optuna waits for the disk at each write, 1 to 10 ms each. What a killed process wrote is there all the same; a power
    cut may take a second of reports, never a trial that ended. A write that the disk refuses names the file.

    Its lock is the kernel's, which drops it with its holder: Optuna's own lock file outlives a killed driver and makes
    the next one wait for half a minute. Nobody else writes while the lock is held, so a last line without an end was
    left by a writer that died: it is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kernel_lock = StandingLock(path.with_suffix(".lock"))
        with self._open():  # before Optuna makes it, so that a folder that can't be written is named in the error
            pass
        super().__init__(str(path))
        self._synced = 0.0
        self._written = (-1, b"")
        """Where this process wrote last, and what."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write `logs` at the end."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._open() as file:
            start = os.fstat(file).st_size
            left = memoryview(lines)
            while left:  # a disk that is nearly full takes a part, and refuses the rest
                left = left[os.write(file, left) :]
            if self._is_due(logs):
                os.fsync(file)
                self._synced = time.monotonic()
        self._written = (start, lines)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The logs from `log_number_from` on. Optuna asks at every look at a trial, and mostly there is nothing new."""
        offset, size = line_offsets(self).get(log_number_from), self._path.stat().st_size
        start, lines = self._written
        if offset is None or (size != offset and (offset != start or size != start + len(lines))):
            yield from super().read_logs(log_number_from)
        elif size != offset:
            yield from self._own(log_number_from)

    def _own(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """What this process wrote last, without a look at the disk."""
        offset, lines = self._written
        offsets = line_offsets(self)
        for number, line in enumerate(lines.splitlines(keepends=True), log_number_from + 1):
            offset += len(line)
            offsets[number] = offset
            yield json.loads(line)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """The file, to be written by nobody else within the block, and with its end repaired."""
        self._kernel_lock.take()
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                _cut_torn_line(file)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        finally:
            self._kernel_lock.release()

    def _is_due(self, logs: list[dict[str, Any]]) -> bool:
        ended = any(ends_trial(log) for log in logs)
        return ended or time.monotonic() - self._synced >= SYNC_SECONDS


def _cut_torn_line(file: int) -> None:
    """Drop an unfinished last line, which Optuna would take for a broken log."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return
    while size > 0:
        start = max(0, size - BLOCK)
        newline = os.pread(file, size - start, start).rfind(b"\n")
        if newline >= 0:
            os.ftruncate(file, start + newline + 1)
            return
        size = start
    os.ftruncate(file, 0)
