"""Labels of served images, which come later: a table is read strictly, matched with what was kept, and remembered."""

import difflib
import hashlib
import json
import re
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from podium.data.sources.table_text import MORE, table_of
from podium.errors import InputError
from podium.shadow import pair_schema
from podium.text import counted, from_table, one_line

KEYS = ("id", "digest")
NAMED = 5
"""Rows that a message names; it counts the rest."""
LONGEST = 40
"""Characters of a wrong value in a message."""


@dataclass(frozen=True)
class Label:
    """One row of the table."""

    line: int
    key: str
    """An id (request, or request/row) or a digest, as the table's column says."""
    label: str


@dataclass(frozen=True)
class Labels:
    """The table."""

    column: str
    """`id` or `digest`"""
    rows: list[Label]
    empty: int
    """Rows without a label."""
    unused: tuple[str, ...]
    """Other columns."""


@dataclass(frozen=True)
class Taken:
    """What `remember` did."""

    images: int
    """Different images that have a label now and had none."""
    known: int
    """Images that had this label already."""
    corrected: int
    unknown: list[str]
    """Keys that nothing is kept of."""


@dataclass(frozen=True)
class _Match:
    """A row with what is kept of its image, the oldest first."""

    row: Label
    pairs: list[sqlite3.Row]


def read(path: Path) -> Labels:
    """The labels of a CSV file with a column `label` and one of `id` and `digest`, as any spreadsheet saves it.

    Raises InputError naming every kind of row that can't be used.
    """
    header, table = table_of(path, "LABELS.csv", ("label",))
    column = _key_column(path, header)
    rows, problems, empty = list[Label](), list[str](), 0
    for line, row in table:
        if (cells := len(row) + row.get(MORE, "").count("\0")) != len(header):
            problems.append(f"line {line}: it has {counted(cells, 'cell')}, the header {len(header)}")
        elif not (label := row["label"].strip()):
            empty += 1
        elif why := _wrong(column, name := row[column].strip()):
            problems.append(f"line {line}: {why}")
        else:
            rows.append(Label(line, name.lower() if column == "digest" else name, from_table(label)))
    problems += _twice(rows)
    if problems:
        raise InputError(f"{path}: {_some(problems)}")
    return Labels(column, rows, empty, tuple(name for name in header if name not in (column, "label")))


def remember(folder: Path, model: str, labels: Labels, *, correct: bool = False) -> Taken:
    """Write the labels beside what was kept of their images, all of them or none.

    A label that is another one than the image has is refused unless `correct` is given. Raises InputError for labels
    that neither version has, for ids that mean several images, and where no row is about an image that is kept.
    """
    with pair_schema.reading(folder) as connection:
        if connection is None:
            raise InputError("nothing is stored of served images yet: `podium serve --shadow challenger` stores it")
        found, unknown = _matched(connection, model, labels, correct=correct)
        connection.execute("BEGIN IMMEDIATE")  # servers wait from here on, so all else was done before
        try:
            counts = _write(connection, found, correct=correct)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return Taken(counts["new"], counts["known"], counts["corrected"], unknown)


def _key_column(path: Path, header: list[str]) -> str:
    """Which column says what image a row is about."""
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}: the column {twice[0]!r} is there twice")
    found = [name for name in KEYS if name in header]
    if "label" not in header or not found:
        raise InputError(
            f"{path} must have a column `label` and one of `id` (the response's header X-Request-Id; with several"
            f" images id/1, id/2) and `digest` (SHA-256 of the image file); its first line has"
            f" {', '.join(one_line(name[:LONGEST]) for name in header[:8]) or 'nothing'}"
        )
    if len(found) == 2:
        raise InputError(
            f"{path} has both columns, `id` and `digest`, which may name different images: leave one of them out"
        )
    return found[0]


def _wrong(column: str, key: str) -> str:
    shown = one_line(key[:LONGEST])
    if column == "digest" and not re.fullmatch("[0-9a-fA-F]{64}", key):
        return f"digest must be a SHA-256, 64 characters of 0 to 9 and a to f; got {shown!r}"
    if column == "id" and not re.fullmatch(rf"{pair_schema.REQUEST_ID}(/[1-9][0-9]{{0,8}})?", key):
        return f"id must be a request's id, or id/row such as 3f2a/2; got {shown!r}"
    return ""


def _twice(rows: list[Label]) -> list[str]:
    """A sentence for each image that has two labels in one table."""
    first: dict[str, Label] = {}
    problems = []
    for row in rows:
        before = first.setdefault(row.key, row)
        if before.label != row.label:
            labels = f"{one_line(before.label[:LONGEST])!r} in line {before.line}, {one_line(row.label[:LONGEST])!r}"
            problems.append(f"line {row.line}: {row.key} is {labels} here: leave the wrong one out")
    return problems


def _some(problems: list[str]) -> str:
    more = [f"and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
    return "; ".join([*problems[:NAMED], *more])


def _matched(
    connection: sqlite3.Connection, model: str, labels: Labels, *, correct: bool
) -> tuple[list[_Match], list[str]]:
    """The images of the rows; and keys that nothing is kept of. Raises InputError as `remember` does."""
    problems, unknown, found = list[str](), list[str](), list[_Match]()
    seen: dict[str, Label] = {}
    classes: dict[int, set[str]] = {}
    for row in labels.rows:
        pairs = _pairs(connection, model, labels.column, row.key)
        if not pairs:
            unknown.append(row.key)
            continue
        if labels.column == "id" and (why := _ambiguous(row.key, pairs)):
            problems.append(f"line {row.line}: {why}")
            continue
        for pair in pairs:
            if pair["comparison"] not in classes:
                classes[pair["comparison"]] = set(json.loads(pair["classes"]))
        names = set[str]().union(*(classes[pair["comparison"]] for pair in pairs))
        if row.label not in names:
            hint = _hint(row.label, names) if len(problems) < NAMED else ""  # slow; only those are shown
            problems.append(f"line {row.line}: no version has a class {one_line(row.label[:LONGEST])!r}; {hint}")
        other = seen.setdefault(pairs[0]["digest"], row)
        if other.label != row.label:
            problems.append(
                f"line {row.line}: {row.key} is the same image as {other.key} in line {other.line} and has another"
                " label: leave the wrong one out"
            )
        match = _Match(row, pairs)
        if not correct and (why := _relabelled(match, _labels_of(connection, pairs))):
            problems.append(why)
        found.append(match)
    if problems:
        raise InputError(_some(problems))
    if labels.rows and len(unknown) == len(labels.rows):
        raise InputError(
            f"none of the {counted(len(unknown), 'row')} is about an image that is stored: it was served by one version"
            f" alone, dropped, or is older than serve.keep_days; the first one is {unknown[0]}"
        )
    return found, unknown


def _relabelled(match: _Match, before: set[str]) -> str:
    """What is wrong where the image had another label; empty: it had none, or this one."""
    if not before - {match.row.label}:
        return ""
    was = one_line(min(before - {match.row.label})[:LONGEST])
    return f"line {match.row.line}: {match.row.key} was labelled {was!r} before: --correct replaces it"


def _hint(label: str, names: set[str]) -> str:
    near = difflib.get_close_matches(label, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"classes are {', '.join(sorted(names)[:10])}"


def _pairs(connection: sqlite3.Connection, model: str, column: str, key: str) -> list[sqlite3.Row]:
    """What is kept of an image, the oldest first."""
    query = (
        "SELECT pair.*, comparison.classes FROM pair JOIN comparison ON comparison.id = pair.comparison"
        " WHERE comparison.model = ? AND "
    )
    if column == "digest":
        return connection.execute(f"{query} pair.digest = ? ORDER BY pair.id", (model, key)).fetchall()
    request, _, row = key.partition("/")
    if row:
        query += "pair.request = ? AND pair.row = ? ORDER BY pair.id"
        return connection.execute(query, (model, request, int(row))).fetchall()
    return connection.execute(f"{query} pair.request = ? ORDER BY pair.id", (model, request)).fetchall()


def _ambiguous(key: str, pairs: list[sqlite3.Row]) -> str:
    """Why the id `key` does not name one image; empty: it does."""
    if "/" not in key and (most := max(pair["count"] for pair in pairs)) > 1:
        return f"the request {key} has {counted(most, 'image')}: write {key}/1, {key}/2 and so on"
    if len({pair["digest"] for pair in pairs}) > 1:
        return f"{key} was sent as the id of different images: name them by their digest"
    return ""


def _labels_of(connection: sqlite3.Connection, pairs: list[sqlite3.Row]) -> set[str]:
    query = "SELECT label FROM outcome WHERE digest = ? AND comparison = ?"
    rows = [connection.execute(query, (pair["digest"], pair["comparison"])).fetchone() for pair in pairs]
    return {row["label"] for row in rows if row}


def _write(connection: sqlite3.Connection, found: list[_Match], *, correct: bool) -> Counter[str]:
    """An outcome for each comparison that an image is part of: the first time that it was sent counts. In a comparison
    without the label's class both are wrong. Raises InputError where another process has labelled an image meanwhile.

    In the order of a hash, not of the table, which may be sorted by class: the chart shows the way to the evidence.
    """
    counts = Counter[str]()
    for match in sorted(found, key=lambda one: hashlib.sha256(one.pairs[0]["digest"].encode()).digest()):
        before, label, digest = _labels_of(connection, match.pairs), match.row.label, match.pairs[0]["digest"]
        if not correct and (why := _relabelled(match, before)):
            raise InputError(why)
        counts["new" if not before else "known" if before == {label} else "corrected"] += 1
        connection.executemany(
            "INSERT INTO outcome (comparison, digest, label, champion, challenger, at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET label = excluded.label, at = excluded.at WHERE label != excluded.label",
            [
                (pair["comparison"], digest, label, pair["champion"], pair["challenger"], time.time())
                for pair in match.pairs
            ],
        )
    return counts
