"""Where the studies are stored, decided here alone: a journal in mlruns/, or a PostgreSQL database that is shared.

One search has one driver, also across machines. In the journal's case a file lock sees to that, in the database's case
an advisory lock of PostgreSQL: it belongs to a connection and goes with it, however its holder ends.
"""

import hashlib
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import SQLAlchemyError

from podium import paths
from podium.config.params import RuntimeParams
from podium.errors import InputError, PodiumError, RefusedError
from podium.locks import locked
from podium.text import masked
from podium.tuning.journal import open_storage

if TYPE_CHECKING:
    import psycopg

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
