"""Names that are hard to tell apart, of classes or of groups: most likely one, written in two ways."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?")
COMMA = re.compile(r"([+-]?[0-9]+),([0-9]{1,2}|[0-9]{4,})")
"""A decimal comma; one before three digits may as well part thousands."""
ZEROS = re.compile(r"(?<![0-9.,])0+(?=[0-9])")
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
"""What looks like the minus of a keyboard."""
AROUND = "'\"`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
"""Quotes."""
BEHIND = ".,;:!\u2026"
MISSING = {"nan", "<na>", "#n/a", "n/a", "na", "none", "null", "nil", "nat", "?", "missing"}
"""How a value that is missing is written by pandas, spreadsheets, databases and R, in lower case."""


def is_missing(name: str) -> bool:
    """Whether a name is what programs write where there is none."""
    return name.strip().lower() in MISSING


def alike(names: Iterable[str]) -> list[list[str]]:
    """Those of `names` that are hard to tell apart, in their order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(plain(name), []).append(name)
    return [same for same in found.values() if len(same) > 1]


def plain(name: str) -> str:
    """A name without what does not tell it from others: case, spaces, accents' form, what is invisible, widths, quotes
    around it, punctuation behind it, and the form of a number in it.
    """
    seen = name if name.isascii() else _as_seen(name)
    folded = " ".join(seen.casefold().split())
    bare = folded.strip(AROUND + " ").rstrip(BEHIND + AROUND + " ") or folded
    number = COMMA.sub(r"\1.\2", bare) if COMMA.fullmatch(bare) else bare
    if NUMBER.fullmatch(number):
        return str(Decimal(number).normalize() + 0)
    return re.sub(r"(?<=[^\W_])[ _-]+(?=[^\W_])", " ", ZEROS.sub("", bare))


def _as_seen(name: str) -> str:
    normal = unicodedata.normalize("NFC", name)
    return "".join(_character(one) for one in normal if unicodedata.category(one) != "Cf")


def _character(character: str) -> str:
    """`character` in its usual width, digits of all scripts as ours, and one minus.

    What looks different stays different, such as a letter and its double-struck form, or a number and the same number
    raised.
    """
    if character in DASHES:
        return "-"
    if (digit := unicodedata.decimal(character, None)) is not None and unicodedata.category(character) == "Nd":
        return character if unicodedata.decomposition(character).startswith("<font>") else str(digit)
    return unicodedata.normalize("NFKC", character) if unicodedata.east_asian_width(character) in "FH" else character
