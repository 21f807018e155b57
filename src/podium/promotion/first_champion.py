"""The first champion's own accesses to a test set: it is compared with nothing, so that they are no attempt."""

from podium.data import accesses
from podium.data.dataset import DatasetInfo
from podium.errors import InputError
from podium.promotion.ledger import Entry, Ledger
from podium.registry import versions
from podium.registry.versions import Version
from podium.tracking.store import Tracking

BOTH = {"evaluate": 1, "gate": 1}
"""Of one that is evaluated and judged once, as every model is."""


def own_accesses(tracking: Tracking, book: Ledger, key: str, data: DatasetInfo) -> dict[str, int]:
    """How many accesses to the test set `key` were the first champion's own, by reader; BOTH where there has been none.

    The ledger names the set that it was judged on, and mlruns/sealed.jsonl who was evaluated or judged on which. An
    earlier Podium's ledger does not, and another folder's accesses are not in that file: then it counts whether the
    first champion was trained on `data`, what is prepared now. One that was made by hand was not judged first.
    """
    entry = next((one for one in book.entries if one.target is not None), None)
    number = entry.target if entry else book.champion
    if number is None:
        return dict(BOTH)
    version = _found(tracking, book.name, number)
    here = version is not None and version.tags.get("data_digest") == data.digest
    judged = None
    if entry is None or entry.action == "by hand":
        gate = False
    else:
        judged = _judged_here(entry, f"{book.name} version {number}", key)
        gate = here if judged is None else judged
    evaluated = _evaluated_here(version, key)
    if evaluated is None:
        evaluated = here if judged is None else judged
    return {"evaluate": int(evaluated), "gate": int(gate)}


def _found(tracking: Tracking, name: str, number: int) -> Version | None:
    """The version; None: it was deleted. A registry that does not answer raises."""
    try:
        return versions.find(tracking, name, number)
    except InputError:
        return None


def _judged_here(entry: Entry, purpose: str, key: str) -> bool | None:
    """Whether the gate judged it on `key` when it became champion by `entry`; None: not known."""
    if told := (entry.verdict or {}).get("test_set"):
        return bool(told == key)
    before = [one for one in accesses.made("gate", purpose) if one.at <= entry.at]
    return before[-1].digest == key if before else None  # a later one may have been after another champion's time


def _evaluated_here(version: Version | None, key: str) -> bool | None:
    """Whether it was evaluated on `key`; None: not known."""
    found = accesses.made("evaluate", f"run {version.run_id}") if version else []
    return any(one.digest == key for one in found) if found else None
