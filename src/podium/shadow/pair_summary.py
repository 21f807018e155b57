"""What is kept of champion and challenger on served images, in figures: for the terminal, a page and the gate."""

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.errors import InputError
from podium.shadow import pair_schema
from podium.shadow.pair_store import bucket_seconds
from podium.shadow.sequential_test import Evidence, evidence

EXAMPLES = 60
"""Disagreements that are read, the newest ones."""
CHANGES = 10


@dataclass(frozen=True)
class Latency:
    """Of one side, in seconds for one image; nan without any."""

    images: int
    median: float
    p95: float


@dataclass(frozen=True)
class Disagreement:
    """One image that the two do not agree on."""

    id: str
    """Of the request, with /row where it has several images."""
    at: float
    digest: str
    champion: str | None
    challenger: str | None
    champion_each: dict[str, float]
    challenger_each: dict[str, float]
    """The highest probabilities."""
    label: str | None
    """From feedback."""
    image: bytes | None
    """PNG"""


@dataclass(frozen=True)
class Labelled:
    """Images with a label."""

    images: int
    champion_right: int
    challenger_right: int
    difference: NDArray[np.int8]
    """(N,) in the order of the labels: 1 only the challenger is right, -1 only the champion, 0 both or none."""
    evidence: Evidence


@dataclass(frozen=True)
class Summary:
    """Two versions on the images that both saw."""

    model: str
    champion: int
    challenger: int
    images: int
    agreed: int
    failed: int
    """Images that the challenger could not use or failed on."""
    dropped: int
    """Images that the challenger was not asked: the queue was full."""
    canary: int
    """Images whose client got the challenger's answer."""
    first_at: float
    last_at: float
    latencies: dict[str, Latency]
    """Of `champion` and `challenger`."""
    changes: list[tuple[str, str, int]]
    """Label of the champion, of the challenger, images: the most frequent ones."""
    labelled: Labelled
    kept: int
    """Rows that are still there."""
    examples: list[Disagreement] = field(repr=False)


@dataclass(frozen=True)
class Served:
    """What labels say of two versions, in counts of different images: for the gate."""

    labelled: int
    gained: int
    """Labelled, and only the challenger is right."""
    lost: int
    """Labelled, and only the champion is."""
    unlabelled: int
    """Disagreements without a label, also those whose rows were deleted before they had one. Where both have failed,
    they disagree."""
    agreed: int
    """Without a label, but both say the same: whatever the label is, neither is ahead."""

    @property
    def equal(self) -> int:
        """Images on which both are right, or both wrong."""
        return self.labelled - self.gained - self.lost + self.agreed

    @property
    def images(self) -> int:
        """All of them."""
        return self.labelled + self.unlabelled + self.agreed


def every(folder: Path, model: str) -> list[tuple[int, int]]:
    """The pairs of versions (champion, challenger) that were compared, the last one first."""
    with pair_schema.reading(folder) as connection:
        if connection is None:
            return []
        query = "SELECT champion, challenger FROM comparison WHERE model = ? ORDER BY last_at DESC, id DESC"
        return list(dict.fromkeys((row["champion"], row["challenger"]) for row in connection.execute(query, (model,))))


def summary(folder: Path, model: str, champion: int, challenger: int, level: float = 0.05) -> Summary:
    """What is kept of the two versions. Raises InputError where nothing is."""
    with pair_schema.reading(folder) as connection:
        row = _comparison(connection, model, champion, challenger)
        if connection is None or row is None:
            raise InputError(
                f"versions {champion} and {challenger} of {model} were not compared on served images yet: `podium serve"
                " --shadow challenger` does it"
            )
        number = row["id"]
        totals = {name: row[name] for name in ("images", "agreed", "failed", "dropped", "canary")}
        return Summary(
            *(model, champion, challenger),
            **totals,
            first_at=row["first_at"],
            last_at=row["last_at"],
            latencies={side: _latency(connection, number, side) for side in ("champion", "challenger")},
            changes=_changes(connection, number),
            labelled=_labelled(connection, number, level),
            kept=connection.execute("SELECT count(*) FROM pair WHERE comparison = ?", (number,)).fetchone()[0],
            examples=list(_examples(connection, number, EXAMPLES)),
        )


def served(folder: Path, model: str, champion: tuple[int, str], challenger: tuple[int, str]) -> Served:
    """What labels say of two versions, each its number and the digest of its files."""
    (old, old_digest), (new, new_digest) = champion, challenger
    with pair_schema.reading(folder) as connection:
        row = _comparison(connection, model, old, new, (old_digest, new_digest))
        if connection is None or row is None:
            return Served(0, 0, 0, 0, 0)
        difference = _right(connection, row["id"])[2]
        query = (
            "SELECT count(*), coalesce(sum(differs), 0) FROM (SELECT max(differs) AS differs FROM"
            " (SELECT digest, differs FROM pair WHERE comparison = :id"
            " UNION ALL SELECT digest, 1 FROM unlabelled WHERE comparison = :id)"
            " WHERE digest NOT IN (SELECT digest FROM outcome WHERE comparison = :id) GROUP BY digest)"
        )
        images, differing = connection.execute(query, {"id": row["id"]}).fetchone()
        gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
        return Served(len(difference), gained, lost, differing, images - differing)


def disagreements(folder: Path, model: str, champion: int, challenger: int) -> list[Disagreement]:
    """Every disagreement of two versions that is kept, the newest first; without images."""
    with pair_schema.reading(folder) as connection:
        row = _comparison(connection, model, champion, challenger)
        return [] if row is None or connection is None else _examples(connection, row["id"], -1, images=False)


def _comparison(
    connection: sqlite3.Connection | None,
    model: str,
    champion: int,
    challenger: int,
    digests: tuple[str, str] | None = None,
) -> sqlite3.Row | None:
    """The one with these digests; without them the last one, where versions of these numbers were registered again."""
    if connection is None:
        return None
    query, values = "SELECT * FROM comparison WHERE model = ? AND champion = ? AND challenger = ?", digests or ()
    query += " AND champion_digest = ? AND challenger_digest = ?" if digests else ""
    query += " ORDER BY last_at DESC, id DESC LIMIT 1"
    found: sqlite3.Row | None = connection.execute(query, (model, champion, challenger, *values)).fetchone()
    return found


def _latency(connection: sqlite3.Connection, number: int, side: str) -> Latency:
    query = "SELECT bucket, images FROM latency WHERE comparison = ? AND side = ? ORDER BY bucket"
    rows = connection.execute(query, (number, side)).fetchall()
    counts = np.cumsum([row["images"] for row in rows])
    if not len(counts):
        return Latency(0, float("nan"), float("nan"))
    median, p95 = (
        bucket_seconds(rows[int(np.searchsorted(counts, part * counts[-1]))]["bucket"]) for part in (0.5, 0.95)
    )
    return Latency(int(counts[-1]), median, p95)


def _changes(connection: sqlite3.Connection, number: int) -> list[tuple[str, str, int]]:
    query = "SELECT champion, challenger, images FROM changed WHERE comparison = ? ORDER BY images DESC, 1, 2 LIMIT ?"
    return [tuple(row) for row in connection.execute(query, (number, CHANGES))]


def _right(connection: sqlite3.Connection, number: int) -> tuple[int, int, NDArray[np.int8]]:
    query = "SELECT label, champion, challenger FROM outcome WHERE comparison = ? ORDER BY id"
    rows = connection.execute(query, (number,)).fetchall()
    old = np.array([row["champion"] == row["label"] for row in rows], np.int8)
    new = np.array([row["challenger"] == row["label"] for row in rows], np.int8)
    return int(old.sum()), int(new.sum()), np.asarray(new - old, np.int8)


def _labelled(connection: sqlite3.Connection, number: int, level: float) -> Labelled:
    old, new, difference = _right(connection, number)
    return Labelled(len(difference), old, new, difference, evidence(difference, level))


def _examples(connection: sqlite3.Connection, number: int, most: int, *, images: bool = True) -> list[Disagreement]:
    query = (
        "SELECT request, row, count, pair.at, pair.digest, pair.champion, pair.challenger, champion_each,"
        " challenger_each, CASE WHEN ? THEN image END AS image, outcome.label FROM pair"
        " LEFT JOIN outcome ON outcome.comparison = pair.comparison AND outcome.digest = pair.digest"
        " WHERE pair.comparison = ? AND differs ORDER BY pair.id DESC LIMIT ?"
    )
    return [_example(row) for row in connection.execute(query, (images, number, most))]


def _example(row: sqlite3.Row) -> Disagreement:
    return Disagreement(
        row["request"] if row["count"] == 1 else f"{row['request']}/{row['row']}",
        row["at"],
        row["digest"],
        row["champion"],
        row["challenger"],
        json.loads(row["champion_each"] or "{}"),
        json.loads(row["challenger_each"] or "{}"),
        row["label"],
        row["image"],
    )
