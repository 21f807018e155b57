"""JSON objects that another program may have written: one key twice has two readings, so nothing is read."""

import json
from typing import Any


def read_object(text: str) -> dict[str, Any]:
    """The object that `text` holds. Raises ValueError where it is none, is nested too deeply, or has one key twice."""
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it must be an object; got {type(found).__name__}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice[:100]!r} twice")
    return found
