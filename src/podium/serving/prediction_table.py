"""Predictions as CSV: in a file that appears when it is complete and is resumed after a kill, or as they come."""

import csv
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from podium.data.sources.item import FORMULAS, cell
from podium.errors import InputError
from podium.serving.predictions import Prediction
from podium.text import write_row

COLUMNS = ("file", "label", "probability", "model", "error")
MODEL, ERROR = COLUMNS.index("model"), COLUMNS.index("error")
FLUSHED = 64
"""Rows after which what was written can be seen, and survives a kill."""
Predict = Callable[[Sequence[Path]], Iterable[Prediction]]


def write(
    out: Path, files: Sequence[Path], model: str, classes: Sequence[str], predict: Predict, *, abstain: bool = False
) -> tuple[int, int]:
    """Write a row for each of `files` to `out`, with a column for each of `classes`; with `abstain` a `reason` too.

    `predict` is called with the files that are left to do; `model` is its name/version. A link is followed, a device or
    a pipe gets the rows as they come. What a killed run has left in `<out>.tmp` is kept, where it is of this model and
    these files, and none of them has changed since. Returns how many files have no prediction, and how many rows were
    kept. Raises InputError where `out` can't be written.
    """
    header = [*COLUMNS, *(["reason"] if abstain else []), *(f"probability_{name}" for name in classes)]
    try:
        stream = _stream(out)
        if stream is not None:
            with stream:
                write_row(stream, header)
                return _append(stream, predict(files), classes, abstain=abstain), 0
        whole = out.resolve()
        partial = whole.with_name(whole.name + ".tmp")
        kept = _kept(partial, header, files, model)
        fresh = whole.with_name(whole.name + ".tmp2")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            for row in [header, *kept]:
                write_row(file, row)
        fresh.replace(partial)
        with partial.open("a", newline="", encoding="utf-8") as file:
            bad = _append(file, predict(files[len(kept) :]), classes, abstain=abstain)
        partial.replace(whole)
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from None
    return bad + sum(bool(row[ERROR]) for row in kept), len(kept)


def is_standard_output(out: Path) -> bool:
    """Whether `out` is where this process prints, such as /dev/stdout."""
    try:
        return os.path.samestat(out.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file, or standard output is none
        return False


def _stream(out: Path) -> TextIO | None:
    """`out` open for writing where it is no plain file: nothing may take its place."""
    if is_standard_output(out):
        sys.stdout.flush()
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", newline="", encoding="utf-8")
    if out.exists() and not stat.S_ISREG(out.stat().st_mode):
        return out.open("w", newline="", encoding="utf-8")
    return None


def _append(file: TextIO, found: Iterable[Prediction], classes: Sequence[str], *, abstain: bool) -> int:
    bad = 0
    for number, one in enumerate(found, start=1):
        bad += bool(one.error)
        probability = "" if one.probability is None else f"{one.probability:.6f}"
        each = [f"{one.probabilities[name]:.6f}" if one.probabilities else "" for name in classes]
        reason = [one.reason] if abstain else []
        write_row(file, [cell(one.file), _safe(one.label), probability, one.model, one.error, *reason, *each])
        if number == 1 or number % FLUSHED == 0:
            file.flush()
    return bad


def _safe(label: str) -> str:
    """A label that a spreadsheet would compute begins with an apostrophe (OWASP, CSV injection); a number is left."""
    if not label.startswith(FORMULAS):
        return label
    try:
        float(label)
    except ValueError:
        return f"'{label}"
    return label


def _kept(partial: Path, header: list[str], files: Sequence[Path], model: str) -> list[list[str]]:
    """The first rows of `partial` that are those of the first of `files`, by this model and still true."""
    if not partial.is_file():
        return []
    written = partial.stat().st_mtime_ns
    text = partial.read_text(encoding="utf-8", errors="replace")
    lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    kept: list[list[str]] = []
    try:
        rows = csv.reader(lines, strict=True)
        if next(rows, None) != header:
            return []
        for row, file in zip(rows, files, strict=False):
            ours = len(row) == len(header) and row[0] == cell(file) and (row[MODEL] == model or row[ERROR])
            if not ours or file.stat().st_mtime_ns >= written:
                break
            kept.append(row)
    except (csv.Error, OSError):  # cut off within a row, or a file that has gone: it is predicted again
        pass
    while kept and kept[-1][ERROR]:  # it names no model: only a row after it tells that it is of this one
        kept.pop()
    return kept
