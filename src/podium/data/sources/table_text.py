"""The lines of a CSV file by the names of its columns, or what is wrong with its bytes."""

import codecs
import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

from podium.data.sources.item import not_pulled, shown
from podium.errors import InputError

OTHER_FILES = {
    b"PK\x03\x04": "a workbook of a spreadsheet (.xlsx, .ods) or another zip archive",
    b"\xd0\xcf\x11\xe0": "a workbook of a spreadsheet (.xls)",
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zXZ": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"SQLite format 3": "an SQLite database",
    b"\x93NUMPY": "an array of NumPy",
    b"{": "JSON",
    b"[{": "JSON",
    b"<": "HTML or XML",
    b"version https://git-lfs": "a pointer of Git LFS (run `git lfs pull`)",
}
"""What files of tables that are no CSV begin with."""
MORE = "\0more"
"""Key of the values of a line for which the header has no name."""
SEPARATORS = (",", ";", "\t", "|")
"""What is put between columns; by spreadsheets no comma where it separates decimals."""


def table_of(
    path: Path, parameter: str, needed: Collection[str] = ()
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, and each line with its number in the file; `parameter`: which names the file.

    With `needed`, names that the header must have, they tell what separates the columns, spaces around names and
    behind separators say nothing, and UTF-16 and a first line `sep=;` are read: a file that a person edits is read as a
    spreadsheet saves it.

    A line with fewer values has no key for the last names. Empty lines, and empty columns without a name at the end,
    are what spreadsheets save below and beside a table. Raises InputError where it is no CSV in UTF-8.
    """
    text, hint = _text_of(path, parameter, utf16=bool(needed)), ""
    if needed:
        text, hint = _without_hint(text)
    skipped = int(bool(hint))
    header = re.split("[\r\n]", text, maxsplit=1)[0]
    separator = _separator(header, needed, hint)
    is_spaced = bool(needed) and f"{separator} " in header
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, strict=True, delimiter=separator, skipinitialspace=is_spaced)
    before = 0
    lines: list[tuple[int, dict[str, str]]] = []
    try:
        names = next(reader, [])
        names = [name.strip() for name in names] if needed else names
        before = reader.line_num
        whole = list(names)
        while names and not names[-1].strip():
            names = names[:-1]
        used = len(names)
        for row in reader:
            before = reader.line_num
            filled = next((at for at in range(len(row), 0, -1) if row[at - 1].strip()), 0)
            used = max(used, min(filled, len(whole)))
            if filled:
                lines.append((before + skipped, _line(row[: max(filled, len(names))], whole)))
    except csv.Error as error:
        raise InputError(
            f"{parameter}: {shown(path)} can't be read: {_unreadable(error, before + 1 + skipped)}"
        ) from None
    return whole[:used], lines


def _without_hint(text: str) -> tuple[str, str]:
    """`text` without a first line `sep=;`, which is for spreadsheets, and the separator that it names."""
    first = re.match(r"(?i)\"?sep=([^\"\r\n])\"?(\r\n|\r|\n)", text)
    return (text[first.end() :], first[1]) if first else (text, "")


def _separator(header: str, needed: Collection[str], hint: str) -> str:
    """The separator, first that of a `hint`, by which `header` has the columns that are needed; a comma if none."""
    tried = (hint, *SEPARATORS) if hint else SEPARATORS
    found = (one for one in tried if set(needed) <= {name.strip(' "') for name in header.split(one)})
    return next(found, SEPARATORS[0])


def _line(row: list[str], names: list[str]) -> dict[str, str]:
    """The values of a row by the names of their columns; those beyond the last name are in MORE, a null byte apart."""
    more = {MORE: "\0".join(row[len(names) :])} if len(row) > len(names) else {}
    return dict(zip(names, row, strict=False)) | more


def _unreadable(error: csv.Error, line: int) -> str:
    """What is wrong with a CSV whose record from `line` on can't be read."""
    if "unexpected end of data" in str(error):
        return f'line {line}: opens a quote (") that is never closed; close it, or write two for one that is meant'
    return f"line {line}: {error}"


def _text_of(path: Path, parameter: str, *, utf16: bool) -> str:
    """What the file holds. Raises InputError with the line where it is not UTF-8; with `utf16` that may be, too."""
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "" if path.exists() else not_pulled(path)
        raise InputError(f"{parameter}: {shown(path)} can't be read: {error.strerror}{hint}") from None
    if kind := next((kind for begins, kind in OTHER_FILES.items() if data.startswith(begins)), ""):
        raise InputError(f"{parameter}: {shown(path)} is {kind}, not CSV: save or export the table as CSV in UTF-8")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or b"\0\0" in data[:4]:
        raise InputError(f"{parameter}: {shown(path)} line 1: is UTF-32; save it as UTF-8")
    if utf16 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{parameter}: {shown(path)} is damaged UTF-16; save it as UTF-8") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise InputError(f"{parameter}: {shown(path)} line 1: is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = 1 + data[: error.start].count(b"\n")
        line = data.splitlines()[number - 1].decode("cp1252", "replace")
        raise InputError(
            f"{parameter}: {shown(path)} can't be read: line {number} is not UTF-8 (as Windows-1252 it is {line!r});"
            " save the file as UTF-8"
        ) from None
