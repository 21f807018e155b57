"""Tables that may have several labels for an image, which Podium does not learn: it says so instead of guessing.

One project for each label, whose classes are with and without it, does the same
(docs/decisions/2026-11-29-multilabel.md).
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from podium.data.sources.alike import COMMA

REMEDY = "for several labels per image make a project for each, whose classes are with and without that label"


def indicators(names: Sequence[str], lines: Sequence[Mapping[str, str]], known: Collection[str]) -> str:
    """The end of a sentence about a table without the column `label`; empty where not several hold 0 and 1 alone."""
    found = [
        name
        for name in names
        if name not in known and name.strip() and {line.get(name, "").strip() for line in lines} <= {"0", "1"}
    ]
    if len(found) < 2 or not lines:
        return ""
    shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    one = "If each image has one of them, write its name in a column label"
    return f"; the columns {shown} hold 0 and 1. {one}; {REMEDY}"


def joined(classes: Sequence[str]) -> str:
    """A note where some of `classes` may be several labels, as cat|dog beside cat and dog|bird; empty: none may.

    Each part is in another class too, and one of them is a class itself, or stands first here and second there: in
    `Tomato, healthy` and `Potato, healthy` each has its place, and the names are names.
    """
    parts = {name: _parts(name) for name in classes}
    several = [name for name, found in parts.items() if len(found) > 1]
    often = Counter(part for found in parts.values() for part in set(found))
    places = Counter(part for _, part in {pair for name in several for pair in enumerate(parts[name])})
    alone = {found[0] for found in parts.values() if len(found) == 1}
    meant = [
        name
        for name in several
        if all(often[part] > 1 for part in parts[name])
        and any(part in alone or places[part] > 1 for part in parts[name])
    ]
    if not meant:
        return ""
    return (
        f"{meant[0]!r} may be {len(parts[meant[0]])} labels of one image; it is learnt as a class of its own"
        f"{f', as {len(meant) - 1} more are' if len(meant) > 1 else ''}. If it is none, {REMEDY}"
    )


def _parts(name: str) -> list[str]:
    """What a label is made of that lists several, in lower case: a|b, a;b, a,b, a+b, a&b or ["a", "b"], not 0,5."""
    inner = re.fullmatch(r"\s*\[(.*)\]\s*", name)
    separator = "," if inner else next((one for one in "|;,+&" if one in name), "")
    text = (inner[1] if inner else name).lower()
    is_list = separator and not COMMA.fullmatch(text.strip())
    found = [part.strip().strip("'\"").strip() for part in (text.split(separator) if is_list else [text])]
    return [part for part in found if part]
