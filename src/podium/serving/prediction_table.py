"""Predictions as CSV: in a file that appears when it is complete and is resumed after a kill, or as they come."""

import csv
import errno
import fcntl
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from podium.data.sources.item import cell, shown
from podium.errors import InputError, RefusedError
from podium.serving.predictions import Prediction
from podium.text import for_table, write_row

COLUMNS = ("file", "label", "probability", "model", "error")
MODEL, ERROR = COLUMNS.index("model"), COLUMNS.index("error")
STATE = "state"
"""The last column of what is not complete yet: of the file before it was read."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems say that know no locks."""
FLUSHED = 64
"""Rows after which what was written can be seen, and survives a kill."""
Predict = Callable[[Sequence[Path]], Iterable[Prediction]]


@dataclass(frozen=True)
class Source:
    """The model that predicts."""

    model: str
    """name/version, as in the rows."""
    digest: str
    """Of the model's files: another registry may have another model of the same name and number."""


def write(
    out: Path, files: Sequence[Path], source: Source, classes: Sequence[str], predict: Predict, *, abstain: bool = False
) -> tuple[int, int]:
    """Write a row for each of `files` to `out`, with a column for each of `classes`; with `abstain` a `reason` too.

    `predict` is called with the files that are left to do. A link is followed, a device or a pipe gets the rows as they
    come. What a killed run has left in `<out>.<digest>.tmp` is kept, where it is of this model and these files, and
    none of them has changed since. Returns how many files have no prediction, and how many rows were kept. Raises
    InputError where `out` can't be written, RefusedError where another process is writing it by the same model,
    BrokenPipeError where nobody reads it any more.
    """
    header = [*COLUMNS, *(["reason"] if abstain else []), *(f"probability_{name}" for name in classes)]
    try:
        stream = _stream(out)
        if stream is not None:
            with stream:
                write_row(stream, header)
                return _append(stream, predict(files), classes, abstain=abstain), 0
        whole = out.resolve()
        _check_is_no_image(out, files)
        partial = whole.with_name(f"{whole.name}.{source.digest[:16]}.tmp")
        states = [_state(file) for file in files]  # before any is read: what changes from now on is another state
        with _alone(partial, out) as file:
            kept, length = _kept(partial, [*header, STATE], files, states, source.model)
            file.truncate(length)
            if not length:
                write_row(file, [*header, STATE])
            bad = _append(file, predict(files[len(kept) :]), classes, states[len(kept) :], abstain=abstain)
            file.flush()
            fresh = partial.with_name(partial.name + "2")
            with partial.open(newline="", encoding="utf-8") as rows:
                _write_rows(fresh, (row[:-1] for row in csv.reader(rows)))
            fresh.replace(whole)
            partial.unlink()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        raise
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from None
    return bad + sum(bool(row[ERROR]) for row in kept), len(kept)


def is_standard_output(out: Path) -> bool:
    """Whether `out` is where this process prints, such as /dev/stdout."""
    try:
        return os.path.samestat(out.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file, or standard output is none
        return False


@contextmanager
def _alone(partial: Path, out: Path) -> Iterator[TextIO]:
    """`partial` open for appending, by this process alone. Raises RefusedError where another one has it."""
    while True:
        with partial.open("a", newline="", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError(
                    f"--out: another process is writing {out} at this moment (`fuser {partial}` names it): wait for it,"
                    " or name another file"
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if _is_at(partial, file):  # else the other process has just finished, and taken it away
                yield file
                return


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _check_is_no_image(out: Path, files: Sequence[Path]) -> None:
    """Raise InputError where `out` is one of `files`, by whatever name or link: it would be replaced by the table."""
    if not out.exists():
        return
    own = out.stat()
    for file in files:
        with suppress(OSError):  # it can't be read: its row says so
            if os.path.samestat(own, file.stat()):
                raise InputError(f"--out: {out} is {shown(file)}, one of the images: name another file")


def _stream(out: Path) -> TextIO | None:
    """`out` open for writing where it is no plain file: nothing may take its place."""
    if is_standard_output(out):
        sys.stdout.flush()
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", newline="", encoding="utf-8")
    try:
        mode = out.stat().st_mode  # it raises for a link that leads back to itself
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) else out.open("w", newline="", encoding="utf-8")


def _write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in rows:
            write_row(file, row)


def _append(
    file: TextIO, found: Iterable[Prediction], classes: Sequence[str], states: Sequence[str] = (), *, abstain: bool
) -> int:
    """Write the rows, each with its file's state where there are `states`; returns how many have no prediction."""
    bad = 0
    for number, one in enumerate(found, start=1):
        bad += bool(one.error)
        probability = "" if one.probability is None else f"{one.probability:.6f}"
        each = [f"{one.probabilities[name]:.6f}" if one.probabilities else "" for name in classes]
        reason = [one.reason] if abstain else []
        state = states[number - 1 : number]
        write_row(
            file, [cell(one.file), for_table(one.label), probability, one.model, one.error, *reason, *each, *state]
        )
        if number == 1 or number % FLUSHED == 0:
            file.flush()
    return bad


def _state(file: Path) -> str:
    """What differs as soon as `file` has other content, also if its time of change was set back; empty: it is none."""
    try:
        now = file.stat()
    except OSError:
        return ""
    return f"{now.st_size}-{now.st_mtime_ns}-{now.st_ctime_ns}-{now.st_ino}"


def _kept(
    partial: Path, header: list[str], files: Sequence[Path], states: Sequence[str], model: str
) -> tuple[list[list[str]], int]:
    """The first rows of `partial` that are those of the first of `files`, by this model and still true.

    And the bytes that the header and they take; 0: there is no such header.
    """
    whole = partial.read_bytes()
    text = io.StringIO(whole[: whole.rfind(b"\n") + 1].decode("utf-8", "surrogateescape"), newline="")
    kept, ends = list[list[str]](), [0]
    lines = _Lines(text)
    try:
        rows = csv.reader(lines, strict=True)
        if next(rows, None) != header:
            return [], 0
        ends = [lines.length]
        for row, file, state in zip(rows, files, states, strict=False):
            ours = len(row) == len(header) and row[0] == cell(file) and (row[MODEL] == model or row[ERROR])
            if not ours or row[-1] != state:
                break
            kept.append(row)
            ends.append(lines.length)
    except csv.Error:  # cut off within a row
        pass
    while kept and kept[-1][ERROR]:  # it names no model: only a row after it tells that it is of this one
        kept.pop()
    return kept, ends[len(kept)]


class _Lines:
    """The lines of a text, and how many bytes of it were read. Only \\n and \\r end one: str.splitlines has more."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.length = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.length += len(line.encode("utf-8", "surrogateescape"))
            yield line
