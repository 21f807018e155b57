"""Moves of the champion that a crash ends at each of their writes, and what those who come after are told."""

import json
import time
from typing import Any

import pytest
from mlflow import MlflowClient

from podium.errors import RefusedError
from podium.promotion import ledger, moves, verdict_files
from podium.promotion.ledger import HEAD, Entry, digest
from podium.registry import versions
from podium.tracking.store import Tracking

NAME = "tiny"


@pytest.fixture
def tracking(four_versions: Tracking) -> Tracking:
    """The registry, of which version 1 is champion."""
    move(four_versions, 1)
    return four_versions


def move(tracking: Tracking, target: int, **fields: Any) -> None:
    book = ledger.read(tracking.client, NAME)
    moves.move(tracking.client, book, Entry("promote", book.champion, target, f"because {target}", **fields))


def killed(monkeypatch: pytest.MonkeyPatch, tracking: Tracking, write: int) -> None:
    """A move to version 2 that ends right before one of its writes: entry, alias, tag of the version, head."""
    left = write

    def dying(name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(self: MlflowClient, model: str, key: str, *rest: str) -> None:
            nonlocal left
            left -= 0 if key.startswith(ledger.CLAIM) else 1
            if left < 0:
                raise KeyboardInterrupt
            real(self, model, key, *rest)

        patch.setattr(MlflowClient, name, call)

    with monkeypatch.context() as patch:
        for name in ("set_registered_model_tag", "set_registered_model_alias", "set_model_version_tag"):
            dying(name)
        with pytest.raises(KeyboardInterrupt):
            move(tracking, 2)


@pytest.mark.parametrize("write", [0, 1, 2, 3])
def test_every_champion_names_its_entry_whatever_write_a_kill_came_before(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    killed(monkeypatch, tracking, write)
    for number in (1, 2, 3):
        ledger.check_model(tracking, versions.find(tracking, NAME, number))  # nothing is refused meanwhile
    moves.settle(tracking.client, NAME)
    assert ledger.history(tracking, NAME)[1] == []
    assert ledger.read(tracking.client, NAME).champion == (2 if write else 1)

    before = ledger.read(tracking.client, NAME)
    if write:  # the guard against a cut end
        tracking.client.delete_registered_model_tag(NAME, "podium.ledger.000002")
        tracking.client.set_registered_model_tag(NAME, HEAD, f"1 {digest(before.texts[0])}")
        with pytest.raises(RefusedError, match=r"entry 2 of tiny's ledger, by which version 2 became champion"):
            ledger.check_model(tracking, versions.find(tracking, NAME, 2))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (0.0, "podium: waiting for eve@else\\x1bwhere, who is moving tiny's champion at this moment\n"),
        (
            -3600.0,
            "podium: waiting 10 s to see whether eve@else\\x1bwhere is still moving tiny's champion: that move began"
            " long ago and was interrupted, or the clock of that machine is wrong\n",
        ),
    ],
)
def test_move_that_waits_says_once_for_whom_and_why(
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: float,
    said: str,
) -> None:
    waited = list[float]()

    def elapse(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            tracking.client.delete_registered_model_tag(NAME, f"{ledger.CLAIM}x")

    move(tracking, 2)
    assert capsys.readouterr().err == ""
    claim = json.dumps({"at": time.time() + at, "who": "eve@else\x1bwhere"})
    tracking.client.set_registered_model_tag(NAME, f"{ledger.CLAIM}x", claim)
    monkeypatch.setattr("podium.promotion.claims.time.sleep", elapse)
    move(tracking, 3)
    assert capsys.readouterr().err == said
    assert len(waited) == 3


def test_check_reads_the_ledger_again_only_for_what_it_does_not_explain(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in (2, 3, 4):
        move(tracking, target, model="0" * 64)
    book = ledger.read(tracking.client, NAME)
    reads, real = list[str](), MlflowClient.get_registered_model

    def counted(self: MlflowClient, name: str) -> Any:
        reads.append(name)
        return real(self, name)

    monkeypatch.setattr(MlflowClient, "get_registered_model", counted)
    monkeypatch.setattr(versions, "digest_of", lambda version: "0" * 64)
    verdict_files.check(tracking, book)
    assert reads == []

    move(tracking, 2)  # the version names an entry that `book` does not have yet
    reads.clear()
    found = verdict_files.check(tracking, book)
    assert reads == [NAME]
    assert not [one for one in found if "was edited or cut away" in one]
