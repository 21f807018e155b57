"""The index of a store of decoded images: facts by the SHA-256 of the image file, and the times of the store's files.

What it says is used instead of the pixels, so an entry that was damaged, exchanged with another or copied from another
store must not be used: each is sealed with a digest of all that it says and of the store's name, and one whose seal is
wrong is not there. An index that SQLite can't read is begun anew. A full disk or a file that may not be read is an
error.
"""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from podium.data.image_facts import Facts, packed, unpacked
from podium.errors import PodiumError

FORMAT = 2
"""Of the index; 1 had no fingerprints. It is part of the store's name: two versions of Podium have two stores."""
SCHEMA = (
    "CREATE TABLE image (row INTEGER PRIMARY KEY, digest BLOB, facts BLOB, seal BLOB, start INTEGER)",
    # By the first bytes only: small enough to stay in memory, while the table is read in the order of the files.
    "CREATE INDEX by_start ON image (start)",
    "CREATE TABLE file (name TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER)",
    f"PRAGMA user_version = {FORMAT}",
)
FIND = "SELECT row, digest, facts, seal FROM image WHERE start = ?"
EVERY = "SELECT row, digest, facts, seal FROM image WHERE row >= ? ORDER BY row LIMIT ?"
INSERT = "INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?)"
FAILURES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH,
}  # fmt: skip
"""Errors of SQLite that say nothing about the file's content."""
SEAL_BYTES = 8
BATCH = 1024


class Stamp(NamedTuple):
    """By what is known that a file was not changed."""

    size: int
    modified: int
    """Nanoseconds, of the content."""
    changed: int
    """The same, of anything about the file: nobody can set it back."""

    @staticmethod
    def of(file: int) -> "Stamp":
        """Of an open file."""
        about = os.fstat(file)
        return Stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns)


class Index:
    """Facts by digest, in an SQLite file; safe in any thread."""

    def __init__(self, path: Path, name: str) -> None:
        """Open `path`, made if it is missing or of another kind. `name`: of the store."""
        self._path, self._name = path, name.encode()
        self._lock = threading.Lock()
        self._is_broken = False
        self._connection = self._opened()

    def find(self, digest: bytes) -> Facts | None:
        """What is known of the image file with this SHA-256."""
        for row, of, facts, seal in self._execute(FIND, (_start(digest),)):
            if of == digest and self._is_sealed(row, of, facts, seal):
                return unpacked(row, facts)
        return None

    def put(self, digest: bytes, facts: Facts) -> None:
        """Remember an image file; what was said of its row before is forgotten."""
        told = packed(facts)
        self._execute(INSERT, (facts.row, digest, told, self._seal(facts.row, digest, told), _start(digest)))

    def rows(self) -> int:
        """One more than the highest row of an image."""
        found = self._execute("SELECT COALESCE(MAX(row), -1) FROM image")
        return 1 + int(found[0][0]) if found else 0

    def every(self) -> Iterator[tuple[int, Facts | None]]:
        """Each row that is named, rising, with what is known; None: what it says is damaged."""
        after = 0
        while found := self._execute(EVERY, (after, BATCH)):
            for row, digest, facts, seal in found:
                yield row, unpacked(row, facts) if self._is_sealed(row, digest, facts, seal) else None
            after = 1 + int(found[-1][0])

    def forget(self, rows: Iterable[int]) -> None:
        """Remove what is said of images."""
        for row in rows:
            self._execute("DELETE FROM image WHERE row = ?", (row,))

    def stamps(self) -> dict[str, Stamp]:
        """What was kept of each file."""
        return {name: Stamp(*rest) for name, *rest in self._execute("SELECT * FROM file")}

    def save(self, stamps: dict[str, Stamp]) -> None:
        """Put everything where a crash can't reach it, with the stamps of the files that it is about."""
        if self.stamps() != stamps:
            for name, stamp in stamps.items():
                self._execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (name, *stamp))
        self._guarded(self._connection.commit)

    def close(self) -> None:
        """Close the file; one that was found damaged is removed."""
        self._connection.close()
        if self._is_broken:
            self._remove()

    def _opened(self) -> sqlite3.Connection:
        connection = self._connected()
        try:
            known = connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT
            connection.execute(EVERY, (0, 1)).fetchall()
        except sqlite3.DatabaseError as error:
            self._check_failure(error)
            known = False
        if not known:
            connection.close()
            self._remove()
            connection = self._connected()
            self._begin(connection)
        return connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        try:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.commit()
        except sqlite3.DatabaseError as error:
            self._check_failure(error)
            raise

    def _connected(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self._path, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            raise PodiumError(f"{self._path} can't be opened: {error}") from None

    def _remove(self) -> None:
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of the answer; none once the file was found damaged."""
        found: list[Any] = self._guarded(lambda: self._connection.execute(statement, values).fetchall())
        return found

    def _guarded(self, work: Any) -> Any:
        with self._lock:
            if self._is_broken:
                return []
            try:
                return work()
            except sqlite3.DatabaseError as error:
                self._check_failure(error)
                print(f"{self._path} is damaged ({error}): what it does not tell any more is decoded again")
                self._is_broken = True
                return []

    def _check_failure(self, error: sqlite3.DatabaseError) -> None:
        """Raise PodiumError where the file can't be used, whatever is in it."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_READONLY and self._may_be_written():
            return  # its header says that a newer SQLite wrote it, so this one may not: a byte of it is damaged
        if (code & 0xFF) in FAILURES:
            raise PodiumError(f"{self._path} can't be read or written: {error}") from None

    def _may_be_written(self) -> bool:
        return os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)

    def _is_sealed(self, row: int, digest: Any, facts: Any, seal: Any) -> bool:
        """Whether an entry of the table is as it was put there; one that was damaged may have any types."""
        whole = isinstance(digest, bytes) and isinstance(facts, bytes)
        return whole and bool(seal == self._seal(row, digest, facts))

    def _seal(self, row: int, digest: bytes, facts: bytes) -> bytes:
        told = b"%d %b %b" % (row, digest, facts)
        return hashlib.blake2b(told, digest_size=SEAL_BYTES, key=self._name).digest()


def _start(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)
