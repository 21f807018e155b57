"""The file of what champion and challenger said of served images: its tables, and how it is opened.

SQLite with a write-ahead log: several workers and servers write at once, a kill at any moment leaves the file whole,
and a row that was written is not lost by it. Every value is checked by the tables themselves.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from podium.errors import PodiumError

NAME = "pairs.sqlite"
APPLICATION, VERSION = 0x504F4431, 3
"""In the file's header: that it is one of these, and by which tables."""
PATIENCE = 10.0
"""Seconds that a write waits for another process."""
OF_THE_MACHINE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""What SQLite says where the disk or its rights are to be changed; all else is of the file."""
REQUEST_ID = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a request may be called: neither a path nor a formula."""
TABLES = """
CREATE TABLE comparison (
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL,
  champion INTEGER NOT NULL CHECK (champion > 0),
  challenger INTEGER NOT NULL CHECK (challenger > 0),
  champion_digest TEXT NOT NULL, challenger_digest TEXT NOT NULL,
  classes TEXT NOT NULL CHECK (json_valid(classes)),
  images INTEGER NOT NULL DEFAULT 0, agreed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0, canary INTEGER NOT NULL DEFAULT 0,
  first_at REAL NOT NULL, last_at REAL NOT NULL,
  UNIQUE (model, champion, challenger, champion_digest, challenger_digest)
) STRICT;
CREATE TABLE latency (
  comparison INTEGER NOT NULL REFERENCES comparison (id),
  side TEXT NOT NULL CHECK (side IN ('champion', 'challenger')),
  bucket INTEGER NOT NULL,
  images INTEGER NOT NULL,
  PRIMARY KEY (comparison, side, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE changed (
  comparison INTEGER NOT NULL REFERENCES comparison (id),
  champion TEXT NOT NULL, challenger TEXT NOT NULL,
  images INTEGER NOT NULL,
  PRIMARY KEY (comparison, champion, challenger)
) STRICT, WITHOUT ROWID;
CREATE TABLE pair (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  comparison INTEGER NOT NULL REFERENCES comparison (id),
  at REAL NOT NULL,
  request TEXT NOT NULL CHECK (length(request) BETWEEN 1 AND 64 AND request NOT GLOB '*[^A-Za-z0-9._-]*'),
  row INTEGER NOT NULL CHECK (row >= 1),
  count INTEGER NOT NULL CHECK (count >= row),
  digest TEXT NOT NULL CHECK (length(digest) = 64 AND digest NOT GLOB '*[^0-9a-f]*'),
  canary INTEGER NOT NULL CHECK (canary IN (0, 1)),
  champion TEXT, challenger TEXT,
  differs INTEGER NOT NULL AS ((champion = challenger) IS NOT 1), -- also where both have failed (NULL)
  champion_top REAL CHECK (champion_top BETWEEN 0 AND 1), challenger_top REAL CHECK (challenger_top BETWEEN 0 AND 1),
  champion_each TEXT CHECK (champion_each IS NULL OR json_valid(champion_each)),
  challenger_each TEXT CHECK (challenger_each IS NULL OR json_valid(challenger_each)),
  image BLOB
) STRICT;
CREATE INDEX pair_digest ON pair (digest);
CREATE INDEX pair_request ON pair (request);
CREATE INDEX pair_at ON pair (at);
CREATE TABLE outcome (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  comparison INTEGER NOT NULL REFERENCES comparison (id),
  digest TEXT NOT NULL CHECK (length(digest) = 64 AND digest NOT GLOB '*[^0-9a-f]*'),
  label TEXT NOT NULL,
  champion TEXT, challenger TEXT,
  at REAL NOT NULL,
  UNIQUE (comparison, digest)
) STRICT;
CREATE TABLE unlabelled (
  comparison INTEGER NOT NULL REFERENCES comparison (id),
  digest TEXT NOT NULL CHECK (length(digest) = 64 AND digest NOT GLOB '*[^0-9a-f]*'),
  PRIMARY KEY (comparison, digest)
) STRICT, WITHOUT ROWID;
"""


class BusyError(PodiumError):
    """Another process is writing to the file."""


def opened(folder: Path, *, create: bool, patience: float | None = None) -> sqlite3.Connection | None:
    """The file of `folder`; None where there is none and it is not to be created. Writes wait `patience` seconds (None:
    PATIENCE) for other processes.

    Raises PodiumError where it can't be used, or is none of these; BusyError where it can be used later.
    """
    path = folder / NAME
    if not create and not path.is_file():
        return None
    connection = None
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
            # Images of other people: for this user alone. SQLite gives its other files the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(
            path, timeout=PATIENCE if patience is None else patience, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        _prepare(connection)
        return connection
    except (OSError, sqlite3.Error, _ForeignError) as error:
        if connection is not None:
            connection.close()
        raise unusable(path, error) from None


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """The file of `folder` within a `with` block; None where there is none. Raises PodiumError where SQLite fails."""
    connection = opened(folder, create=False)
    if connection is None:
        yield None
        return
    try:
        yield connection
    except sqlite3.Error as error:
        raise unusable(folder / NAME, error) from None
    finally:
        connection.close()


def unusable(path: Path, error: Exception) -> PodiumError:
    """Why the file can't be used, and what helps."""
    what = f"{path} can't be used for the predictions of champion and challenger"
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return BusyError(
                f"{what} now: another process has been writing to it for more than {PATIENCE:g} s. Try again"
            )
        if code in OF_THE_MACHINE:
            return PodiumError(f"{what}: {error}")
    return PodiumError(f"{what}: {error}. If it is no file of Podium, or of another version of it, move it away")


class _ForeignError(Exception):
    """The file has other tables."""


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the tables, once, and set what holds for this connection."""
    if not _is_ours(connection):  # else nobody has to wait for a writer only to look
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect while the file is empty
        _write_ahead(connection)
        _create(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; the machine's end may lose the last rows
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, images above all
    connection.execute("PRAGMA journal_size_limit = 1000000")


def _is_ours(connection: sqlite3.Connection) -> bool:
    return (_number(connection, "application_id"), _number(connection, "user_version")) == (APPLICATION, VERSION)


def _create(connection: sqlite3.Connection) -> None:
    """The tables, in a file that has none. Raises _ForeignError where it has."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        application, version = (_number(connection, name) for name in ("application_id", "user_version"))
        if (application, version) == (0, 0) and not _number(connection, "schema_version"):
            for statement in TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif (application, version) != (APPLICATION, VERSION):
            raise _ForeignError(f"it is marked {application:#x}, version {version}; not {APPLICATION:#x}, {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite does not wait where two processes do this at once (it answers "locked"): so this does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    with closing(connection.execute(f"PRAGMA {pragma}")) as cursor:
        return int(cursor.fetchone()[0])
