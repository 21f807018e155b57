"""Corrections of labels: a CSV in data/labels that a person edits and `prepare` applies; no image file is touched.

`podium relabel` writes one with the doubtful labels; a row counts once `new_label` or `leave_out` is filled in.
"""

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from podium.config.problems import did_you_mean
from podium.data.sources.file_items import FileItems
from podium.data.sources.source import Source
from podium.data.sources.table_text import MORE, table_of
from podium.errors import InputError
from podium.text import counted

COLUMNS = (
    "path",
    "label",
    "suggested",
    "probability_of_label",
    "probability_of_suggested",
    "new_label",
    "leave_out",
    "file",
)
"""Of the file that `podium relabel` writes; `path`, `label` and `new_label` are all that is needed."""
NEEDED = ("path", "label", "new_label")
READ = (*NEEDED, "leave_out")
CLOSE = 0.75
"""Similarity from which a column's name is a slip of the pen: leave and leav_out, but no leaves."""
YES, NO = ("yes", "x", "true", "1"), ("", "no", "false", "0")
SHOWN = 10
"""Problems that an error names."""


@dataclass(frozen=True)
class Row:
    """One row of the file."""

    line: int
    path: str
    """What reports call the image: its path in the source."""
    label: str
    """As the source has it."""
    new_label: str
    leave_out: str

    @property
    def is_decided(self) -> bool:
        """Whether a person has filled it in."""
        return bool(self.new_label) or self.leave_out.lower() not in NO


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of corrections. Raises InputError where it is missing, or lacks a column."""
    return _read(path)[0]


def written_by_hand(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of a person's own columns, and each row, by its columns, that is decided or has a value in one.

    Raises InputError as `read_rows` does.
    """
    rows, own, raw = _read(path)
    values = [value for _, value in raw]
    kept = (
        value
        for row, value in zip(rows, values, strict=True)
        if row.is_decided or any(value.get(name, "").strip() for name in own)
    )
    return own, list(kept)


def _read(path: Path) -> tuple[list[Row], list[str], list[tuple[int, dict[str, str]]]]:
    """The rows, the names of columns that are neither read nor written by `podium relabel`, and the lines as they are
    in the file."""
    if not path.is_file():
        raise InputError(
            f"prepare.corrections: {path} is missing: `podium relabel` writes such a file; or set it to ''"
        )
    columns, raw = table_of(path, "prepare.corrections", NEEDED)
    if missing := [name for name in NEEDED if name not in columns]:
        raise InputError(
            f"prepare.corrections: {path} must have the columns {', '.join(NEEDED)}, separated by commas,"
            f" semicolons, tabs or |; {', '.join(missing)} missing, got {', '.join(columns) or 'nothing'}"
        )

    _check_columns(path, columns)
    if wrong := [f"line {number}: {why}" for number, row in raw if (why := _wrong_length(row, len(columns)))]:
        more = f"\n  and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise InputError(f"prepare.corrections: {path} has wrong lines:\n  " + "\n  ".join(wrong[:SHOWN]) + more)

    def field(row: dict[str, str], name: str) -> str:
        return row.get(name, "").strip()

    rows = [Row(n, row["path"], *(field(row, c) for c in READ[1:])) for n, row in raw]
    return rows, [name for name in columns if name not in COLUMNS], raw


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise InputError where a column is there twice, or is hardly told from one that is read."""
    where = f"prepare.corrections: {path} line 1:"
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InputError(f"{where} has the column {twice[0]!r} {columns.count(twice[0])} times: delete all but one")
    close = {name: meant for name in columns if name not in COLUMNS and (meant := _meant(name, columns))}
    if close:
        hints = [f"{name!r}: did you mean {meant}?" for name, meant in close.items()]
        raise InputError(
            f"{where} has columns that are not read: {', '.join(hints)} Rename them, or delete them; read are"
            f" {', '.join(READ)}"
        )


def _meant(name: str, columns: Sequence[str]) -> str:
    """The column that is read and that `name` is hardly told from; empty: none.

    One that is there is told by its letters: a reviewer's `labeler` beside `label` is another column.
    """
    plain = {_letters(one): one for one in READ}
    squeezed = _letters(name)
    if squeezed in plain:
        return plain[squeezed]
    absent = [letters for letters, one in plain.items() if one not in columns]
    return next((plain[one] for one in difflib.get_close_matches(squeezed, absent, n=1, cutoff=CLOSE)), "")


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _wrong_length(row: dict[str, str], count: int) -> str:
    """What is wrong with the number of values of a row; empty: nothing."""
    if MORE in row:
        more = row[MORE].count("\0") + 1
        return f"has {count + more} values, the header has {count} names: put quotes around one that holds a separator"
    return f"has {counted(len(row), 'value')}, the header has {count} names: add empty ones" if len(row) < count else ""


def corrected(source: Source, path: Path) -> Source:
    """`source` with the corrections of the file `path` applied.

    Raises InputError naming every row that can't be applied; then nothing is.
    """
    every, ignored, _ = _read(path)
    rows = [row for row in every if row.is_decided]
    named = {row.path for row in rows}
    places: dict[str, list[int]] = {}
    for number, origin in enumerate(source.origins()):
        if origin in named:
            places.setdefault(origin, []).append(number)
    problems = [f"line {row.line}: {why}" for row in rows if (why := _problem(row, source, places))]
    problems += _contradictions(rows)
    if problems:
        more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        lines = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        raise InputError(f"prepare.corrections: {path} does not fit {source.name}:\n{lines}{more}")
    labels = {places[row.path][0]: source.classes.index(row.new_label) for row in rows if row.new_label}
    left_out = {places[row.path][0] for row in rows if not row.new_label}
    items = source.items
    changed = sum(items[number].label != label for number, label in labels.items())
    out = len(left_out)
    if isinstance(items, FileItems):
        items = items.changed(labels, left_out)
    else:
        items = [
            replace(item, label=labels.get(number, item.label), left_out=item.left_out or number in left_out)
            for number, item in enumerate(items)
        ]
    note = f"{path}: {counted(changed, 'label')} corrected, {counted(out, 'image')} left out (prepare.corrections)"
    notes = [f"{path}: columns that are not used: {', '.join(map(repr, ignored))}"] if ignored else []
    return replace(source, items=items, notes=(*source.notes, *notes, note))


def _problem(row: Row, source: Source, places: dict[str, list[int]]) -> str:
    """Why a decided row can't be applied; empty: it can."""
    if row.leave_out.lower() not in (*YES, *NO):
        return f"leave_out must be yes, or empty; got {row.leave_out!r}"
    if row.new_label and row.leave_out.lower() in YES:
        return f"has both new_label ({row.new_label!r}) and leave_out; empty one of them"
    if row.path not in places:
        close = difflib.get_close_matches(row.path, list(itertools.islice(source.origins(), 10_000)), n=1)
        return f"path {row.path!r} is no image of the source" + (f"; did you mean {close[0]!r}?" if close else "")
    if len(places[row.path]) > 1:
        return f"path {row.path!r} names {len(places[row.path])} images of the source; only one may have it"
    if row.new_label and row.new_label not in source.classes:
        return f"new_label {row.new_label!r} is no class of the source; {did_you_mean(row.new_label, source.classes)}"
    now = source.classes[source.items[places[row.path][0]].label]
    if now not in (row.label, row.new_label):
        return f"label is {row.label!r}, and the source has {now!r} by now; empty new_label, or write label: {now}"
    return ""


def _contradictions(rows: Sequence[Row]) -> list[str]:
    first: dict[str, Row] = {}
    found = []
    for row in rows:
        other = first.setdefault(row.path, row)
        if (other.new_label, other.leave_out) != (row.new_label, row.leave_out):
            found.append(f"line {row.line}: {row.path!r} is decided otherwise in line {other.line}")
    return found
