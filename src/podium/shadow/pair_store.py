"""Writing what champion and challenger said of served images, within a budget of bytes and a retention time."""

import json
import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podium import paths
from podium.errors import PodiumError
from podium.shadow import pair_schema

GROWTH = 1.2
"""Latencies are counted in steps of 20 %: a quantile is off by 10 % at most, however many images there are."""
SHOWN = 5
"""Classes of a disagreement whose probabilities are kept, the highest ones."""
FULL, ROOM = 0.95, 0.85
"""Of the budget: above the first the oldest go, until the second."""
TIDY_SECONDS = 30.0
TIDY_PART = 0.02
"""Of the budget, written since the last look at it."""
ROW_BYTES = 400
DAY = 86_400.0


def folder() -> Path:
    """Where the project's servers keep what they saw."""
    return paths.mlruns() / "shadow"


@dataclass(frozen=True)
class Reply:
    """What one of the two models says of an image."""

    label: str | None
    """None: it could not use the image, or failed."""
    probabilities: Mapping[str, float]
    """Of each class; empty without a label."""
    seconds: float
    """For this image: decoding, waiting for the network, the network."""


@dataclass(frozen=True)
class Pair:
    """One image with what both say of it."""

    request_id: str
    row: int
    """In its request, from 1."""
    count: int
    """Images of the request."""
    digest: str
    """SHA-256 of the image file as it was sent; of pixels, of their JSON without spaces."""
    champion: Reply
    challenger: Reply
    canary: bool
    """Whether the challenger's answer was the one that the client got."""
    image: bytes | None = None
    """A PNG of what the network saw, where images of disagreements are kept."""

    @property
    def agree(self) -> bool:
        """Whether both say the same; not where both have failed."""
        return self.champion.label is not None and self.champion.label == self.challenger.label


@dataclass(frozen=True)
class Versions:
    """Who is compared."""

    model: str
    champion: int
    challenger: int
    classes: tuple[str, ...]
    """Of either."""
    digests: tuple[str, str]
    """Of the files of champion and challenger: a version that is deleted and registered again is another one."""


def delete_old(where: Path, megabytes: float, days: float, *, wait: bool = True) -> None:
    """Delete what is too old, or beyond the budget, where there is something; without `wait` not where another process
    is writing. Raises PodiumError.
    """
    if not (where / pair_schema.NAME).is_file():
        return
    try:
        PairStore(where, megabytes, days, None if wait else 0.0).close()
    except pair_schema.BusyError:
        if wait:
            raise


class PairStore:
    """The file of one folder. Any number of processes write to it; within one, one thread at a time."""

    def __init__(self, where: Path, megabytes: float, days: float, patience: float | None = None) -> None:
        """Open or create it, and delete what is too old. Raises PodiumError where it can't be used, BusyError where
        another process writes for more than `patience` seconds (None: pair_schema.PATIENCE).
        """
        self.budget, self.seconds = int(megabytes * 1e6), days * DAY
        connection = pair_schema.opened(where, create=True, patience=patience)
        if connection is None:
            raise PodiumError(f"{where} can't be created")
        self._connection = connection
        self._lock = threading.Lock()
        self._tidied, self._written = 0.0, 0
        try:
            self.tidy()
        except sqlite3.Error as error:
            connection.close()
            raise pair_schema.unusable(where / pair_schema.NAME, error) from None

    def add(self, versions: Versions, pairs: Sequence[Pair], dropped: int = 0, now: float | None = None) -> None:
        """Write `pairs`, all of them or none; and how many images were `dropped` since the last call.

        Raises sqlite3.Error where it can't be written.
        """
        now = time.time() if now is None else now
        with self._lock:
            with _transaction(self._connection):
                number = _comparison(self._connection, versions, now)
                _totals(self._connection, number, pairs, dropped, now)
                self._connection.executemany(INSERT, [_row(number, pair, now) for pair in pairs])
            self._written += sum(ROW_BYTES + len(pair.image or b"") for pair in pairs)
            if now - self._tidied > TIDY_SECONDS or self._written > TIDY_PART * self.budget:
                self._tidy(now)

    def tidy(self, now: float | None = None) -> int:
        """Delete images and rows that are older than the retention time, then the oldest beyond the budget.

        Totals and what labels have shown stay: they hold no image. Returns how many rows went.
        """
        with self._lock:
            return self._tidy(time.time() if now is None else now)

    def size(self) -> int:
        """Bytes of the file that are in use."""
        pages, free, each = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * each

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _tidy(self, now: float) -> int:
        self._tidied, self._written = now, 0
        connection = self._connection
        with _transaction(connection):
            gone = _delete(connection, "at < ?", now - self.seconds)
        if self.size() > FULL * self.budget:
            while self.size() > ROOM * self.budget and (count := self._delete_oldest()):
                gone += count
        if gone:
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # what was overwritten leaves the log too
        return gone

    def _delete_oldest(self) -> int:
        with _transaction(self._connection):
            rows = self._connection.execute("SELECT count(*) FROM pair").fetchone()[0]
            return _delete(self._connection, "id IN (SELECT id FROM pair ORDER BY id LIMIT ?)", max(20, rows // 20))


INSERT = (
    "INSERT INTO pair (comparison, at, request, row, count, digest, canary, champion, challenger, champion_top,"
    " challenger_top, champion_each, challenger_each, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _delete(connection: sqlite3.Connection, which: str, value: float) -> int:
    """Delete rows, and remember the digests of disagreements without a label: they count as long as none comes."""
    lost = f"SELECT comparison, digest FROM pair WHERE differs AND {which}"  # noqa: S608 (ours, as below)
    lost += " EXCEPT SELECT comparison, digest FROM outcome"
    connection.execute(f"INSERT OR IGNORE INTO unlabelled {lost}", (value,))
    return connection.execute(f"DELETE FROM pair WHERE {which}", (value,)).rowcount  # noqa: S608


def bucket(seconds: float) -> int:
    """The step of latency that `seconds` are counted in."""
    return round(math.log(max(seconds, 1e-6)) / math.log(GROWTH))


def bucket_seconds(number: int) -> float:
    """The middle of a step."""
    return float(GROWTH**number)


def _comparison(connection: sqlite3.Connection, versions: Versions, now: float) -> int:
    key = versions.model, versions.champion, versions.challenger, *versions.digests
    connection.execute(
        "INSERT INTO comparison (model, champion, challenger, champion_digest, challenger_digest, classes, first_at,"
        " last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (*key, json.dumps(versions.classes), now, now),
    )
    found = (
        "SELECT id FROM comparison WHERE model = ? AND champion = ? AND challenger = ? AND champion_digest = ?"
        " AND challenger_digest = ?"
    )
    return int(connection.execute(found, key).fetchone()[0])


def _totals(connection: sqlite3.Connection, number: int, pairs: Sequence[Pair], dropped: int, now: float) -> None:
    """Add to the counts, which stay when rows go."""
    agreed = sum(pair.agree for pair in pairs)
    failed = sum(pair.challenger.label is None for pair in pairs)
    connection.execute(
        "UPDATE comparison SET images = images + ?, agreed = agreed + ?, failed = failed + ?, dropped = dropped + ?,"
        " canary = canary + ?, last_at = max(last_at, ?) WHERE id = ?",
        (len(pairs), agreed, failed, dropped, sum(pair.canary for pair in pairs), now, number),
    )
    sides = [("champion", one.champion) for one in pairs] + [("challenger", one.challenger) for one in pairs]
    latencies = Counter((side, bucket(one.seconds)) for side, one in sides if one.label is not None)  # else it failed
    connection.executemany(
        "INSERT INTO latency VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET images = images + excluded.images",
        [(number, *key, count) for key, count in latencies.items()],
    )
    changes = Counter(
        (one.champion.label, one.challenger.label)
        for one in pairs
        if not one.agree and None not in (one.champion.label, one.challenger.label)
    )
    connection.executemany(
        "INSERT INTO changed VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET images = images + excluded.images",
        [(number, *key, count) for key, count in changes.items()],
    )


def _row(number: int, pair: Pair, now: float) -> tuple[object, ...]:
    replies = pair.champion, pair.challenger
    tops = [min(max(one.probabilities.values(), default=0.0), 1.0) if one.label else None for one in replies]
    each = [None, None] if pair.agree else [_highest(one) for one in replies]
    asked = number, now, pair.request_id, pair.row, pair.count, pair.digest, int(pair.canary)
    return *asked, *(one.label for one in replies), *tops, *each, None if pair.agree else pair.image


def _highest(reply: Reply) -> str:
    best = sorted(reply.probabilities.items(), key=lambda one: -one[1])[:SHOWN]
    return json.dumps({name: round(value, 6) for name, value in best})


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing; another process waits meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
