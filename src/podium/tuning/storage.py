"""Where the studies are stored, decided here alone: a journal in mlruns/, or a PostgreSQL database that is shared.

One search has one driver, also across machines. In the journal's case a file lock sees to that, in the database's case
an advisory lock of PostgreSQL: it belongs to a connection and goes with it, however its holder ends.
"""

import hashlib
import json
import os
import socket
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from podium import paths
from podium.config.params import RuntimeParams
from podium.errors import InputError, PodiumError, RefusedError
from podium.locks import StandingLock, locked
from podium.text import masked
from podium.tracking.run_names import SESSION, STUDY_ID
from podium.tuning.optuna_private import ends_trial, line_offsets, study_attributes

if TYPE_CHECKING:
    import psycopg


SYNC_SECONDS = 1.0
"""Seconds of reports that a power cut may take."""
BLOCK = 65536
"""Bytes that are read at once in search of a line's end."""


def open_storage(path: Path) -> JournalStorage:
    """Optuna's journal file at `path`, made where it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(Journal(path))


class Journal(JournalFileBackend):
    """Optuna's journal file, flushed to the disk at each trial's end, at a study's id and marks, else once a second.

    Optuna waits for the disk at each write, 1 to 10 ms each. What a killed process wrote is there all the same; a power
    cut may take a second of reports, never a trial that ended, nor a study's id or a session's mark, which MLflow has
    at once: its run would be one that the study does not know. A write that the disk refuses names the file.

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
        lasting = any(ends_trial(log) or _ties_to_runs(log) for log in logs)
        return lasting or time.monotonic() - self._synced >= SYNC_SECONDS


def _ties_to_runs(log: dict[str, Any]) -> bool:
    """Whether a line gives a study its id or a session's mark, which its run in MLflow is about to show."""
    names = study_attributes(log)
    return names is None or any(name == STUDY_ID or name.startswith(SESSION) for name in names)


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


CHECK_EVERY = 5.0
"""Seconds between looks whether the lock is still ours."""
KEEPALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""So the server lets go of a machine that vanished after a minute, not after two hours."""
HOLDER = """
    SELECT application_name, backend_start::timestamp(0)::text
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = %s"""


def place(runtime: RuntimeParams) -> Path | str:
    """The journal's path, or the database's URL."""
    return runtime.storage or paths.mlruns() / "optuna.journal"


def open_at(where: Path | str) -> BaseStorage:
    """The storage at `where`, made on first use. Raises PodiumError where the database does not answer."""
    if isinstance(where, Path):
        return open_storage(where)
    _client()
    url = "postgresql+psycopg://" + where.partition("://")[2]
    with reached(where):
        # pre_ping: a connection that the server closed meanwhile is replaced instead of failing a trial.
        engine = {"pool_pre_ping": True, "connect_args": {"application_name": _name()}}
        database = RDBStorage(url, engine_kwargs=engine)
    weakref.finalize(database, database.engine.dispose)  # its connections end with it
    return get_storage(database)


@contextmanager
def reached(where: Path | str) -> Iterator[None]:
    """Within the block a database that does not answer is a PodiumError with a remedy."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        raise PodiumError(
            f"runtime.storage: {masked(f'{where} does not answer: {_line(cause)[:300]}')}. See that the server is"
            " running and lets us in (PGPASSWORD or ~/.pgpass), then run again: what is recorded stays recorded"
        ) from None


@contextmanager
def alone(where: Path | str, study: str) -> Iterator[Callable[[], None]]:
    """Be the one driver of `study` within the block. Yields a check, to be called now and then while it lasts.

    Raises RefusedError naming the holder where another driver, of this machine or of another, has the study; the check
    does so where another one took over because the database or the way to it was gone for a while.
    """
    purpose = f"the search {study}"
    with locked(paths.lock(study), purpose=purpose):
        if isinstance(where, Path):
            yield lambda: None
            return
        lock = _Advisory(where, study, purpose)
        try:
            yield lock.check
        finally:
            lock.release()


class _Advisory:
    def __init__(self, url: str, study: str, purpose: str) -> None:
        self._url = url
        self._purpose = purpose
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big") >> 1
        self._connection = self._take()
        self._checked = time.monotonic()

    def check(self) -> None:
        """See that the lock is still held; one that was lost with its connection is taken again."""
        if time.monotonic() - self._checked < CHECK_EVERY:
            return
        self._checked = time.monotonic()
        try:
            self._connection.execute("SELECT 1")
        except _client().OperationalError:
            self._connection.close()
            self._connection = self._take()

    def release(self) -> None:
        """Give the lock back."""
        self._connection.close()

    def _take(self) -> "psycopg.Connection[tuple[object, ...]]":
        client = _client()
        url = "postgresql://" + self._url.partition("://")[2]
        try:
            how = {"autocommit": True, "application_name": _name(), "options": KEEPALIVE}
            connection: psycopg.Connection[tuple[object, ...]] = client.connect(url, **how)
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
        except client.OperationalError as error:
            raise PodiumError(f"runtime.storage: {masked(f'{self._url} does not answer: {_line(error)}')}") from None
        if row is not None and row[0]:
            return connection
        holder = connection.execute(HOLDER, (self._key,)).fetchone() or ("another process", "just now")
        connection.close()
        raise RefusedError(f"{self._purpose} is already under way: {holder[0]} holds it since {holder[1]}")


def _client() -> ModuleType:
    try:
        import psycopg
    except ModuleNotFoundError:
        raise InputError(
            "runtime.storage: postgresql needs psycopg, which is not installed: `make install-cluster`"
        ) from None
    return psycopg


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _name() -> str:
    """What this process is called among the server's connections: at most 63 bytes of it are shown."""
    return f"podium, process {os.getpid()} on {socket.gethostname()}"[:63]
