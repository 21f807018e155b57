"""Text that people read: counts with their noun, names as a terminal may show them, addresses with masked passwords."""

import csv
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO
from urllib.parse import parse_qsl, urlsplit

NAMES = ("password", "passwd", "sslpassword")
"""Query fields of an address that hold a password, as database drivers call them."""
MASK = "***"
MOST_PLACES = 20
"""Decimals beyond which no two values near 1 differ."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that spreadsheets compute or take apart when they open a table: https://owasp.org, CSV injection."""
MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown reads as more than itself within a line; an underscore between letters is one."""
BEFORE_HOST = re.compile(r"(://[^:/@\s]*):[^\s/?#\"'`]+@")
NOT_ENCODED = re.compile(
    r"((?:https?://[^:/@\s]*:(?!\d*[/?#]))|(?:(?<![\w+.-])(?!https?:)[a-z][\w+.-]*://[^:/@\s]*:))[^\s\"'`]+@",
    re.IGNORECASE,
)
"""A password with / ? or #, which should be percent-encoded: databases take it, and urlsplit ends the host before it.
After http(s) digits and a slash are a port."""
IN_QUERY = re.compile(rf"((?:[?&]|&amp;)(?:{'|'.join(NAMES)})=)[^&\s\"'`#]+", re.IGNORECASE)


def counted(count: int, noun: str) -> str:
    """`count` with its noun: 1 trial, 1,000 trials, 2 studies, 3 classes."""
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def capitalized(text: str) -> str:
    """`text` with a capital first letter; the others stay as they are, as in MulticlassJaccardIndex."""
    return text[:1].upper() + text[1:]


def number(value: float) -> str:
    """A value as a sentence has it: 71,586; 150; 0.9812; 0.000040, with two significant digits at least."""
    if not math.isfinite(value) or abs(value) >= 1000 or (abs(value) >= 10 and value == round(value)):
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-6:
        return f"{value:.1e}"
    return f"{value:.{max(4, 1 - math.floor(math.log10(abs(value))))}f}" if value else f"{value:.4f}"


def given(value: float) -> str:
    """A parameter's value as somebody wrote it: 1,000,000; 0.4; 5."""
    return f"{value:,}".removesuffix(".0")


def against(value: float, limit: float) -> str:
    """`value` as `number` has it, with more digits where it would read as its `limit` or as on the other side of it."""

    def side(shown: float) -> int:
        return (shown > limit) - (shown < limit)

    text = number(value)
    places = 1 if "." not in text else 5
    while side(float(text.replace(",", ""))) != side(value) and places < MOST_PLACES:
        text = f"{value:,.{places}f}"
        places += 1
    return text


def one_line(text: str) -> str:
    """`text` with an escape for each character that breaks a line, moves a cursor or turns the direction of writing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown_json(content: object) -> str:
    """`content` as JSON that a terminal may show: text stays readable, what is not printable is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def for_markdown(text: str) -> str:
    """`text` as Markdown that shows it as it stands: no HTML, emphasis, link or end of a table's cell comes of it."""
    escaped = MARKS.sub(r"\\\g<0>", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def for_code(text: str) -> str:
    """`text` for between two backticks of Markdown, where only another one has a meaning."""
    return one_line(text).replace("`", "\N{RIGHT SINGLE QUOTATION MARK}")


def write_row(file: TextIO, values: Sequence[object]) -> None:
    """Write a line of CSV. Python before 3.13 does not quote a carriage return, and then reads two lines."""
    if any("\r" in str(value) for value in values):
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(values)
    else:
        csv.writer(file, lineterminator="\n").writerow(values)


def for_table(text: str) -> str:
    """`text` for a cell of CSV: what a spreadsheet would compute gets an apostrophe before it (OWASP, CSV injection).

    A number is left. `from_table` takes it away, so a text that has such an apostrophe already gets one more.
    """
    if not text.lstrip("'").startswith(FORMULAS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def from_table(cell: str) -> str:
    """What `for_table` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULAS) else cell


def holds_password(address: str) -> bool:
    """Whether `address` is one like scheme://user:password@host or scheme://host/path?password=..."""
    try:
        parts = urlsplit(address)
    except ValueError:  # a host that can't be read
        return masked(address) != address
    named = any(name.lower() in NAMES for name, _ in parse_qsl(parts.query))
    return bool(parts.password) or named or masked(address) != address


def masked(text: str) -> str:
    """`text` with MASK in place of each password in an address."""
    text = NOT_ENCODED.sub(rf"\1{MASK}@", BEFORE_HOST.sub(rf"\1:{MASK}@", text))
    return IN_QUERY.sub(rf"\1{MASK}", text)


def reason_of(error: BaseException, longest: int = 300) -> str:
    """What `error` says, in one line, without passwords and without the statement that an SQL store adds."""
    return masked(" ".join(str(error).split("[SQL:")[0].split()))[:longest]


def was_masked(text: str) -> bool:
    """Whether `masked` has replaced a password of `text`, as far as it can be seen."""
    return f":{MASK}@" in text or f"={MASK}" in text


def red(text: str, stream: TextIO | None = None) -> str:
    """`text` in red where `stream`, standard output unless given, is a terminal and NO_COLOR is not set.

    https://no-color.org: any value that is not empty turns colours off.
    """
    terminal = (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"
    return f"\033[31m{text}\033[0m" if terminal and not os.environ.get("NO_COLOR") else text
