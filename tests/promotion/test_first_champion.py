"""Which accesses to a test set are the first champion's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from podium.data import accesses
from podium.data.dataset import DatasetInfo
from podium.promotion.first_champion import own_accesses
from podium.promotion.ledger import Action, Entry, Ledger
from podium.tracking.store import Tracking

HERE, ELSEWHERE = "this test set", "an earlier one"
NOW = DatasetInfo("tiny", ["cat"], [3, 8, 8], {}, [0.3], [0.3], "digest of now")
BOTH, NONE = {"evaluate": 1, "gate": 1}, {"evaluate": 0, "gate": 0}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def registry(data: str = "digest of now", error: int | None = None) -> Tracking:
    """With version 1, trained on `data`; `error`: what it answers instead."""

    def get_model_version(name: str, number: str) -> Any:
        if error is not None:
            raise MlflowException("it failed", error)
        tags = [SimpleNamespace(key="data_digest", value=data)]
        return ModelVersion(name, number, 0, run_id="r1", source="models:/m-1", tags=cast(Any, tags))

    client = SimpleNamespace(
        get_model_version=get_model_version,
        search_model_versions=lambda *_, **__: _Page(),
        search_registered_models=lambda **_: _Page(),
        get_registered_model=lambda _: SimpleNamespace(aliases={}),
    )
    return cast(Tracking, SimpleNamespace(client=client))


class _Page(list[Any]):
    """Of no version and of no registered model."""

    token = None


def book(action: Action | None = "promote", told: str = "") -> Ledger:
    """With version 1 as its first champion; None: made by hand, and not noticed yet."""
    if action is None:
        return Ledger("pets", (), (), 0, "", 1)
    shown = {"test_set": told} if told else {}
    entry = Entry(action, None, 1, "", shown if action == "promote" else None, at="2026-11-05T00:00:00Z", number=1)
    return Ledger("pets", (entry,), (entry.text(),), 1, "", 1)


def log(*lines: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reader, test set and day of version 1's accesses."""
    for reader, key, day in lines:
        monkeypatch.setattr(accesses, "now", lambda day=day: f"2026-11-{day:02}T00:00:00Z")
        accesses.record(key, reader, "run r1" if reader == "evaluate" else "pets version 1")


OWN_HERE = (("evaluate", HERE, 1), ("gate", HERE, 2))
OWN_ELSEWHERE = (("evaluate", ELSEWHERE, 1), ("gate", ELSEWHERE, 2))


@pytest.mark.parametrize(
    ("first", "lines", "data", "own"),
    [
        (book(told=HERE), (), "older", BOTH),  # a clone that shares the registry, and images were added
        (book(told=ELSEWHERE), (), "digest of now", NONE),
        (book(told=HERE), OWN_ELSEWHERE[:1], "older", {"evaluate": 0, "gate": 1}),
        (book(), OWN_HERE, "older", BOTH),
        (book(), OWN_ELSEWHERE, "digest of now", NONE),
        (book(), (*OWN_ELSEWHERE, ("gate", HERE, 9)), "older", NONE),  # judged again when another was champion
        (book(), (*OWN_ELSEWHERE, ("evaluate", HERE, 3), ("gate", HERE, 4)), "older", BOTH),
        (book(), (), "digest of now", BOTH),
        (book(), (), "older", NONE),
        (book("by hand"), OWN_HERE[:1], "older", {"evaluate": 1, "gate": 0}),
        (book("by hand"), OWN_ELSEWHERE[:1], "digest of now", NONE),
        (book(None), OWN_HERE, "older", {"evaluate": 1, "gate": 0}),
        (book(None), (), "digest of now", {"evaluate": 1, "gate": 0}),
        (book(None), (), "older", NONE),
        (Ledger("pets", (), (), 0, "", None), (), "older", BOTH),
    ],
)
def test_own_accesses_are_what_ledger_and_record_say_and_else_what_the_data_says(
    first: Ledger, lines: Any, data: str, own: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    log(*lines, monkeypatch=monkeypatch)
    assert own_accesses(registry(data), first, HERE, NOW) == own


def test_accesses_of_other_versions_are_not_its_own() -> None:
    accesses.record(HERE, "evaluate", "run r10")
    accesses.record(HERE, "gate", "pets version 11")
    assert own_accesses(registry("older"), book(), HERE, NOW) == NONE


def test_first_champion_that_was_deleted_is_known_by_the_ledger_alone() -> None:
    gone = registry(error=RESOURCE_DOES_NOT_EXIST)
    assert own_accesses(gone, book(told=HERE), HERE, NOW) == BOTH
    assert own_accesses(gone, book(), HERE, NOW) == NONE


def test_registry_that_is_away_is_not_taken_for_a_champion_that_was_deleted() -> None:
    with pytest.raises(MlflowException, match="it failed"):
        own_accesses(registry(error=TEMPORARILY_UNAVAILABLE), book(), HERE, NOW)
