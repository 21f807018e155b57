"""Claims that a crash left, of this machine and of others: who waits for them, who ends them."""

import json
import os
import time
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from podium import process_identity
from podium.errors import RefusedError
from podium.promotion import claims, ledger, moves
from podium.promotion.ledger import Entry
from podium.tracking.store import Tracking

NAME, KEY = "tiny", f"{ledger.CLAIM}x"
ELSEWHERE = "00000000-0000-0000-0000-000000000000 4026531836 elsewhere 7 7"


@pytest.fixture
def client(four_versions: Tracking) -> MlflowClient:
    return four_versions.client


def move(client: MlflowClient, target: int, *, break_claims: bool = False) -> None:
    book = ledger.read(client, NAME)
    entry = Entry("rollback", book.champion, target, "an emergency")
    moves.move(client, book, entry, break_claims=break_claims)
    assert ledger.read(client, NAME).champion == target
    assert not [key for key in client.get_registered_model(NAME).tags if key.startswith(ledger.CLAIM)]


def claim(client: MlflowClient, process: str, at: float = 0.0) -> None:
    text = json.dumps({"at": time.time() + at, "who": "eve@elsewhere", "process": process})
    client.set_registered_model_tag(NAME, KEY, text)


def of_an_ended_process() -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, process_identity.own().encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def never(seconds: float) -> None:
    raise AssertionError("it waits")


def test_claim_of_a_process_of_this_machine_that_has_ended_keeps_nobody_waiting(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("podium.promotion.claims.time.sleep", never)
    claim(client, of_an_ended_process())
    move(client, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("process", "said"),
    [
        (process_identity.own(), rf"eve@elsewhere \(process {os.getpid()}\) is moving tiny's champion at this moment"),
        (ELSEWHERE, r"and began 6\d s ago .* nothing was moved here.* add --break-claim, or wait 9 minutes"),
        ("", r"eve@elsewhere is moving tiny's champion at this moment"),
    ],
    ids=["of this machine", "of another", "of an earlier Podium"],
)
def test_claim_of_a_process_that_may_run_is_told_with_what_ends_it(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, process: str, said: str
) -> None:
    monkeypatch.setattr("podium.promotion.claims.time.sleep", lambda seconds: None)
    claim(client, process, -60.0)
    with pytest.raises(RefusedError, match=said):
        move(client, 1)
    assert ledger.read(client, NAME).champion is None


def test_claim_of_another_machine_is_ended_where_a_person_says_so_and_it_does_not_change(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]

    def elapse(seconds: float) -> None:
        now[0] += 6.0
        if now[0] < 1015.0:  # it lives, and tries again with a claim of its own
            claim(client, ELSEWHERE, now[0])

    clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0], sleep=elapse)
    monkeypatch.setattr("podium.promotion.claims.time", clock)
    claim(client, ELSEWHERE)
    move(client, 1, break_claims=True)
    assert now[0] >= 1012.0 + claims.WATCHED  # since it changed last
    assert capsys.readouterr().err == (
        "podium: waiting 10 s to see whether eve@elsewhere (process 7) is still moving tiny's champion: --break-claim"
        " ends a claim that does not change\n"
    )


def test_move_whose_claim_was_ended_goes_no_further(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SURE", 0.0)
    with claims.claimed(client, NAME) as held:
        held.check()
        client.delete_registered_model_tag(NAME, held.key)
        with pytest.raises(RefusedError, match="took so long that another process has ended its claim"):
            held.check()
