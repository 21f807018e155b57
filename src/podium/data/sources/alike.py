"""Names that are hard to tell apart, of classes or of groups: most likely one, written in two ways."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal

from podium.text import counted

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?")
DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
"""What is a number and no code: 1e5 is as well one in hexadecimal digits."""
COMMA = re.compile(r"([+-]?[0-9]+),([0-9]{1,2}|[0-9]{4,})")
"""A decimal comma; one before three digits may as well part thousands."""
ZEROS = re.compile(r"(?<![0-9.,])0+(?=[0-9])")
MONTH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
DATE = re.compile(rf"\d{{1,2}}-({MONTH})|({MONTH})-\d\d")
OF_COPIES = re.compile(r" - Copy( \([0-9]+\))?$")
"""What Windows adds to the name of a copied folder, with that capital: `id card - copy` is somebody's class."""
TRUTH = {"true": "1", "false": "0"}
"""How programs write the same two values. Among other numbers 1 is one of these, and `true` a word."""
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
"""What looks like the minus of a keyboard."""
AROUND = "'\"`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
"""Quotes."""
BEHIND = ".,;:!\u2026"
NO_VALUE = {"nan", "<na>", "#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#error!", "#spill!"}
"""What programs write for a value that is missing, spreadsheets for one that they could not compute, and nobody as a
name; in lower case."""
MISSING = NO_VALUE | {"n/a", "na", "none", "null", "nil", "nat", "?", "missing"}
"""What is written so, too, and is a name as well: `none` of wafer maps without a pattern, `NA` of Namibia."""
NO_GROUP = MISSING | {"unknown", "undefined", "-"}
"""What stands where nobody knows the group; images that share it are strangers to each other."""


def is_no_value(name: str) -> bool:
    """Whether a name is what programs write where there is none, and nothing else."""
    return name.strip().lower() in NO_VALUE


def is_missing(name: str) -> bool:
    """Whether a name is also what is written where there is none."""
    return name.strip().lower() in MISSING


def is_no_group(name: str) -> bool:
    """Whether the name of a group is also what is written where an image belongs to none."""
    return name.strip().lower() in NO_GROUP


def about_missing(classes: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """A note for each class that is called as a missing value is written. `counts` (K,): the images of each class."""
    return tuple(
        f"label {name!r} ({counted(count, 'image')}) is also how a missing value is written: it is read as a class"
        for name, count in zip(classes, counts, strict=True)
        if is_missing(name)
    )


def about_dates(classes: Sequence[str]) -> tuple[str, ...]:
    """A note where some names of classes, not all, are what spreadsheets make of others: 1-Mar of MAR1."""
    dates = [name for name in classes if DATE.fullmatch(name)]
    if not dates or len(dates) == len(classes):
        return ()
    return (
        f"{counted(len(dates), 'label')} such as {dates[0]!r}: a spreadsheet makes dates of words such as MAR1 or 3/1;"
        " if they were words, write them again and import the column as text",
    )


def alike(names: Iterable[str], form: Callable[[str], str] | None = None) -> list[list[str]]:
    """Those of `names` that are hard to tell apart, because they have one `form`, in their order.

    Without `form` that is `plain`, and true and false are 1 and 0 where no other number is a name.
    """
    forms = [(name, (form or plain)(name)) for name in names]
    if form is None and {same for _, same in forms if NUMBER.fullmatch(same)} <= set(TRUTH.values()):
        forms = [(name, TRUTH.get(same, same)) for name, same in forms]
    found: dict[str, list[str]] = {}
    for name, same in forms:
        found.setdefault(same, []).append(name)
    return [same for same in found.values() if len(same) > 1]


def plain_group(name: str) -> str:
    """The name of a group without what no name differs by: spaces around it, accents' form, quotes, and the form of a
    decimal number (7, 07, 7.0).
    """
    bare = _bare(" ".join(_seen(name).split()))
    number = _with_point(bare)
    return _number(number) if DECIMAL.fullmatch(number) else bare


def folded_group(name: str) -> str:
    """The same without case and what parts its words: identifiers of random letters differ by these."""
    return re.sub(r"(?<=[^\W_])[ _-]+(?=[^\W_])", " ", plain_group(name).casefold())


def plain(name: str) -> str:
    """A name without what does not tell it from others: case, spaces, accents' form, what is invisible, widths, quotes
    around it, punctuation behind it, and the form of a number in it.
    """
    bare = _bare(OF_COPIES.sub("", _bare(" ".join(_seen(name).split())))).casefold()
    number = _with_point(bare)
    if NUMBER.fullmatch(number):
        return _number(number)
    return re.sub(r"(?<=[^\W_])[ _-]+(?=[^\W_])", " ", ZEROS.sub("", bare))


def _bare(name: str) -> str:
    return name.strip(AROUND + " ").rstrip(BEHIND + AROUND + " ") or name


def _with_point(name: str) -> str:
    return COMMA.sub(r"\1.\2", name) if COMMA.fullmatch(name) else name


def _number(text: str) -> str:
    """The one form of a number; all its digits count, however many there are."""
    context = Context(prec=len(text))
    return str(context.plus(context.normalize(Decimal(text))))


def _seen(name: str) -> str:
    return name if name.isascii() else _as_seen(name)


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
