"""The ledger in a real registry: what it records, and what it notices."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from podium import cli
from podium.commands.history import moment
from podium.config.params import TrackingParams
from podium.errors import InputError, RefusedError
from podium.promotion import claims, ledger, moves
from podium.promotion.champion import rollback
from podium.promotion.ledger import HEAD, Action, Entry, Ledger, digest
from podium.registry import versions
from podium.tracking.store import connect

NAME = "tiny"


@pytest.fixture
def client(store: TrackingParams, tmp_path: Path) -> MlflowClient:
    """A registry with versions 1 to 4 of NAME, none of them champion."""
    opened = connect(store).client
    opened.create_registered_model(NAME)
    for _ in range(4):
        opened.create_model_version(NAME, str(tmp_path))
    return opened


def move(client: MlflowClient, target: int, action: Action = "promote") -> Entry:
    book = ledger.read(client, NAME)
    return moves.move(client, book, Entry(action, book.champion, target, f"because {target}"))


def alias(client: MlflowClient) -> int | None:
    held = client.get_registered_model(NAME).aliases.get("champion")
    return int(held) if held else None


def rewrite(client: MlflowClient, number: int, old: str, new: str) -> None:
    key = f"podium.ledger.{number:06d}"
    text = client.get_registered_model(NAME).tags[key]
    assert old in text
    client.set_registered_model_tag(NAME, key, text.replace(old, new))


def test_ledger_of_an_unknown_name_is_empty(client: MlflowClient) -> None:
    book = ledger.read(client, "nobody")
    assert (book.entries, book.champion, book.state(), book.problems()) == ((), None, "whole", [])


def test_champion_by_hand_is_said_until_podium_has_moved_it(client: MlflowClient, store: TrackingParams) -> None:
    def said(number: int) -> str:
        return ledger.by_hand(versions.find(connect(store), NAME, number), ledger.read(client, NAME))

    client.set_registered_model_alias(NAME, "champion", "1")
    assert said(1).endswith("take the alias champion away in MLflow; `podium promote 1` has the gate judge it then")
    assert said(2) == ""
    client.delete_registered_model_alias(NAME, "champion")
    move(client, 1)
    assert said(1) == ""
    client.set_registered_model_alias(NAME, "champion", "2")
    words = "tiny version 2 is champion by a move outside of podium, and the ledger's is version 1: the gate has not"
    assert said(2).startswith(words)
    moves.settle(client, NAME)  # it is recorded, and still nobody has judged it
    assert said(2).startswith(words)
    assert said(1) == ""
    move(client, 1, "rollback")
    assert said(1) == said(2) == ""


def test_move_writes_who_when_why_and_the_alias(client: MlflowClient) -> None:
    first = move(client, 2)
    second = move(client, 3)
    book = ledger.read(client, NAME)
    assert book.entries == (first, second)
    assert alias(client) == book.champion == book.recorded == 3
    assert (first.number, first.source, first.target, first.why) == (1, None, 2, "because 2")
    assert (second.source, second.previous) == (2, digest(first.text()))
    assert "@" in first.who
    assert first.at.endswith("Z")
    assert (book.state(), book.problems()) == ("whole", [])


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], []),
        ([("promote", 1)], []),
        ([("promote", 1), ("promote", 2)], [1]),
        ([("promote", 1), ("promote", 2), ("promote", 3)], [2, 1]),
        ([("promote", 1), ("promote", 2), ("rollback", 1)], []),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], [1]),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2), ("promote", 4)], [2, 1]),
        ([("promote", 1), ("promote", 2), ("promote", 1)], [2]),
        ([("promote", 1), ("by hand", 4)], [1]),
    ],
)
def test_previous_champions_are_what_rollbacks_have_not_taken_back(
    client: MlflowClient, moves: list[tuple[Action, int]], expected: list[int]
) -> None:
    for action, target in moves:
        move(client, target, action)
    assert ledger.read(client, NAME).previous_champions() == expected


@pytest.mark.parametrize(
    ("entry", "old", "new", "problem"),
    [
        (1, "because 1", "because 9", "entry 2 of tiny's ledger does not follow"),
        (2, '"to": 2', '"to": 4', "entry 3 of tiny's ledger does not follow"),
        (3, "because 3", "because 9", "entry 3 of tiny's ledger is not what was written"),
        (2, '"number": 2', '"number": 5', "entry 2 of tiny's ledger is missing or renumbered"),
    ],
)
def test_ledger_that_was_edited_says_where(client: MlflowClient, entry: int, old: str, new: str, problem: str) -> None:
    for target in (1, 2, 3):
        move(client, target)
    rewrite(client, entry, old, new)
    assert any(line.startswith(problem) for line in ledger.read(client, NAME).problems())


@pytest.mark.parametrize(
    ("entry", "problem"),
    [(1, "entry 1 of tiny's ledger is missing"), (3, "tiny's ledger ends at entry 2; entry 3 was written")],
)
def test_ledger_with_an_entry_removed_says_where(client: MlflowClient, entry: int, problem: str) -> None:
    for target in (1, 2, 3):
        move(client, target)
    client.delete_registered_model_tag(NAME, f"podium.ledger.{entry:06d}")
    assert any(line.startswith(problem) for line in ledger.read(client, NAME).problems())


def test_entry_after_an_edit_keeps_that_it_was_found(client: MlflowClient) -> None:
    move(client, 1)
    rewrite(client, 1, "because 1", "because 9")
    assert "entry 1 of tiny's ledger is not what was written" in move(client, 2).broken
    move(client, 3)
    book = ledger.read(client, NAME)
    assert book.breaks() == []
    (problem,) = book.problems()
    assert problem.startswith("found when entry 2 was written: entry 1 of tiny's ledger is not what was written")


def test_ledger_whose_end_was_cut_with_its_head_is_noticed_by_the_versions(
    client: MlflowClient, store: TrackingParams
) -> None:
    for target in (1, 2, 3):
        move(client, target)
    book = ledger.read(client, NAME)
    assert ledger.history(connect(store), NAME)[1] == []
    client.delete_registered_model_tag(NAME, "podium.ledger.000003")
    client.set_registered_model_tag(NAME, HEAD, f"2 {digest(book.texts[1])}")
    client.set_registered_model_alias(NAME, "champion", "2")
    shorter = ledger.read(client, NAME)
    assert (shorter.state(), shorter.problems()) == ("whole", [])
    assert ledger.history(connect(store), NAME)[1] == [
        "entry 3 of tiny's ledger, by which version 3 became champion, was edited or cut away"
    ]


@pytest.mark.parametrize("said", ["9" * 4400, "1", f"0 {'0' * 64}"])
def test_version_whose_tag_names_no_entry_is_said(client: MlflowClient, store: TrackingParams, said: str) -> None:
    move(client, 1)
    client.set_model_version_tag(NAME, "1", ledger.ENTRY, said)
    assert ledger.history(connect(store), NAME)[1] == [
        "the tag 'podium.ledger.entry' of tiny version 1 is not what a move wrote: edited"
    ]
    with pytest.raises(RefusedError, match=r"the tag 'podium.ledger.entry' of tiny version 1 is not what a move wrote"):
        loaded(client, store, 1)


def loaded(client: MlflowClient, store: TrackingParams, number: int, name: str = NAME) -> None:
    """What everybody does who loads a version."""
    tracking = connect(store)
    ledger.check_model(tracking, versions.find(tracking, name, number))


def without_ledger(client: MlflowClient) -> None:
    for key in client.get_registered_model(NAME).tags:
        client.delete_registered_model_tag(NAME, key)


def test_version_is_not_loaded_where_its_entry_was_cut_away(client: MlflowClient, store: TrackingParams) -> None:
    for target in (1, 2):
        move(client, target)
    loaded(client, store, 1)
    client.delete_registered_model_tag(NAME, "podium.ledger.000002")
    loaded(client, store, 1)
    with pytest.raises(RefusedError, match=r"entry 2 of tiny's ledger, by which version 2 became champion, was edited"):
        loaded(client, store, 2)
    without_ledger(client)
    for number in (1, 2):
        with pytest.raises(RefusedError, match=rf"entry {number} of tiny's ledger, by which .* Restore the registered"):
            loaded(client, store, number)
    loaded(client, store, 3)  # never was champion
    assert moves.settle(client, NAME)[1] == ["champion was moved by hand from none to version 2: recorded"]
    with pytest.raises(RefusedError, match="entry 2 of tiny's ledger, by which version 2 became champion, was edited"):
        loaded(client, store, 2)


def test_copies_and_renamed_models_are_loaded_and_their_history_is_whole(
    client: MlflowClient, store: TrackingParams
) -> None:
    move(client, 1)
    client.create_registered_model("production")
    client.copy_model_version(f"models:/{NAME}/1", "production")
    client.copy_model_version(f"models:/{NAME}/1", NAME)
    earlier = " ".join(client.get_model_version(NAME, "1").tags[ledger.ENTRY].split(" ")[:2])
    client.copy_model_version(f"models:/{NAME}/1", "production")
    client.set_model_version_tag("production", "2", ledger.ENTRY, earlier)  # a copy of an earlier Podium's
    for name, number in (("production", 1), ("production", 2), (NAME, 5)):
        assert client.get_model_version(name, str(number)).tags[ledger.ENTRY]
        loaded(client, store, number, name)
    assert ledger.history(connect(store), "production")[1] == []
    client.rename_registered_model(NAME, "renamed")
    loaded(client, store, 1, "renamed")
    assert ledger.history(connect(store), "renamed")[1] == []


def test_model_that_was_renamed_is_found_by_its_ledger(client: MlflowClient, store: TrackingParams) -> None:
    move(client, 1)
    client.create_registered_model("production")
    client.copy_model_version(f"models:/{NAME}/1", "production")
    move(client, 2)
    opened = connect(store)
    assert ledger.renamed_to(opened, NAME) == ledger.renamed_to(opened, "nobody") == ""
    client.rename_registered_model(NAME, "it's")
    assert f"{NAME} was renamed it's, which has" in ledger.renamed_to(opened, NAME)
    client.rename_registered_model("it's", "renamed")
    assert f"{NAME} was renamed renamed, which has" in ledger.renamed_to(opened, NAME)
    with pytest.raises(RefusedError, match=r"write register\.name: renamed in params\.yaml"):
        rollback(opened, NAME, "too slow")
    with pytest.raises(InputError, match=r"nothing is registered as tiny: .*\. Registered here are renamed: if it is"):
        versions.find(opened, NAME, "champion")
    client.create_registered_model(NAME)  # a new one, of which the old one is not the ledger
    client.set_registered_model_tag(NAME, "podium.sealed.x", "{}")
    with pytest.raises(InputError, match=r"nothing is registered as tiny: .*\. Registered here are renamed: if it is"):
        versions.find(opened, NAME, "champion")
    assert ledger.renamed_to(opened, NAME) == ""


def test_history_of_a_model_that_was_renamed_says_so(
    client: MlflowClient, store: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(f"register: {{name: {NAME}}}\n", encoding="utf-8")
    move(client, 1)
    client.rename_registered_model(NAME, "renamed")
    with pytest.raises(SystemExit) as end:
        cli.main(["history", "--check"])
    assert end.value.code == 1
    assert "podium: tiny was renamed renamed" in capsys.readouterr().err


def test_version_of_an_earlier_podium_without_its_entry_is_loaded_and_history_says_so(
    client: MlflowClient, store: TrackingParams
) -> None:
    move(client, 1)
    client.set_model_version_tag(NAME, "1", ledger.ENTRY, f"1 {'0' * 64}")
    without_ledger(client)
    loaded(client, store, 1)
    assert "entry 1 of tiny's ledger, by which version 1" in ledger.history(connect(store), NAME)[1][0]


def test_ledger_with_a_tag_that_is_no_entry_is_refused(client: MlflowClient) -> None:
    client.set_registered_model_tag(NAME, "podium.ledger.000001", "hello")
    with pytest.raises(RefusedError, match="holds what nobody here wrote"):
        ledger.read(client, NAME)


def interrupted(client: MlflowClient, writes: int) -> None:
    """A move from 1 to 2 of whose three writes (entry, alias, head) only so many were made."""
    move(client, 1)
    before = client.get_registered_model(NAME).tags[HEAD]
    move(client, 2)
    if writes < 3:
        client.set_registered_model_tag(NAME, HEAD, before)
    if writes < 2:
        client.set_registered_model_alias(NAME, "champion", "1")


def settled(client: MlflowClient) -> tuple[Ledger, list[str]]:
    found = moves.settle(client, NAME)
    assert found[0].state() == "whole"
    assert found[0].problems() == []
    assert alias(client) == found[0].recorded
    assert moves.settle(client, NAME) == (found[0], [])  # a second time there is nothing to do
    return found


@pytest.mark.parametrize(
    ("writes", "state", "notes"),
    [
        (1, "before alias", ["finished the promote of version 2 that was interrupted"]),
        (2, "before head", []),
        (3, "whole", []),
    ],
)
def test_settle_after_a_crash_finishes_the_move(
    client: MlflowClient, writes: int, state: str, notes: list[str]
) -> None:
    interrupted(client, writes)
    assert ledger.read(client, NAME).state() == state
    book, said = settled(client)
    assert (book.champion, len(book.entries)) == (2, 2)
    assert [line.split(" (")[0] for line in said] == notes


def test_settle_after_a_crash_of_an_earlier_podium_keeps_its_entry_as_it_stands(client: MlflowClient) -> None:
    interrupted(client, 1)
    key = "podium.ledger.000002"
    fields = json.loads(client.get_registered_model(NAME).tags[key])
    for later in ("broken", "model"):
        fields.pop(later, None)
    client.set_registered_model_tag(NAME, key, json.dumps(fields))
    settled(client)


@pytest.mark.parametrize("writes", [1, 3])
@pytest.mark.parametrize("target", [4, None])
def test_settle_after_a_move_by_hand_records_it(client: MlflowClient, writes: int, target: int | None) -> None:
    interrupted(client, writes)
    if target:
        client.set_registered_model_alias(NAME, "champion", str(target))
    else:
        client.delete_registered_model_alias(NAME, "champion")
    assert ledger.read(client, NAME).state() == "by hand"
    book, said = settled(client)
    assert (book.entries[-1].action, book.entries[-1].source, book.champion) == ("by hand", 2, target)
    word = f"version {target}" if target else "none"
    assert said == [f"champion was moved by hand from version 2 to {word}: recorded"]


def test_settle_after_a_crash_whose_version_is_gone_records_what_is(client: MlflowClient) -> None:
    interrupted(client, 1)
    client.delete_model_version(NAME, "2")
    book, _ = settled(client)
    assert (book.entries[-1].action, book.champion) == ("by hand", 1)


def test_move_on_a_ledger_that_has_grown_meanwhile_is_refused(client: MlflowClient) -> None:
    old = ledger.read(client, NAME)
    move(client, 1)
    with pytest.raises(RefusedError, match="champion has just been moved to version 1 by .*: nothing was moved here"):
        moves.move(client, old, Entry("promote", None, 2, "late"))
    assert alias(client) == 1


def test_move_with_an_entry_too_long_for_a_database_is_refused(client: MlflowClient) -> None:
    with pytest.raises(InputError, match="at most 4900 characters; got 5"):
        moves.move(client, ledger.read(client, NAME), Entry("promote", None, 1, "x" * 5000))
    assert alias(client) is None


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_reason_that_says_nothing_or_too_much_is_refused(reason: str) -> None:
    with pytest.raises(InputError, match="--reason must have 1 to 1000 characters; got"):
        moves.checked_reason(reason)


def test_longest_reason_with_every_other_field_at_its_longest_fits_a_database() -> None:
    verdict = {"digest": "f" * 64, "reason": "r" * 300, "figures": list(range(20))}
    entry = Entry(
        "rollback", 10**6, 10**6, "w" * 1000, verdict, True, "b" * 1000, 10**6, "2" * 25, "u" * 100, "f" * 64, "e" * 64
    )
    assert len(entry.text()) < moves.LONGEST


def test_champion_at_a_moment_is_the_last_move_before_it(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for day, target in ((1, 1), (5, 2), (9, 3)):
        monkeypatch.setattr(moves, "now", lambda day=day: f"2026-11-0{day}T12:00:00Z")
        move(client, target)
    book = ledger.read(client, NAME)
    asked = {day: ledger.champion_at(book, datetime(2026, 11, day, 12, tzinfo=UTC)) for day in (1, 4, 5, 20)}
    assert {day: entry.target for day, entry in asked.items() if entry} == {1: 1, 4: 1, 5: 2, 20: 3}
    assert ledger.champion_at(book, datetime(2026, 11, 1, 11, 59, tzinfo=UTC)) is None


@pytest.fixture(params=["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """This process's local time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_champion_at_the_ends_of_the_calendar(client: MlflowClient) -> None:
    move(client, 1)
    book = ledger.read(client, NAME)
    for early in ("0001-01-01", "0001-01-01T00:00", "0001-01-01T00:00+14:00"):
        assert ledger.champion_at(book, moment(early)) is None
    for late in ("9999-12-31", "9999-12-31T23:59:59.999999", "9999-12-31T23:59-14:00"):
        assert ledger.champion_at(book, moment(late)) == book.entries[0]


@pytest.mark.slow
@pytest.mark.parametrize("movers", [2, 4])
def test_moves_at_the_same_time_are_won_by_one(client: MlflowClient, movers: int) -> None:
    for _ in range(3):
        before = ledger.read(client, NAME)
        barrier = threading.Barrier(movers)

        def one(target: int, before: Ledger = before, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                return str(moves.move(client, before, Entry("promote", before.champion, target, "race")).target)
            except RefusedError as error:
                return str(error)

        with ThreadPoolExecutor(movers) as pool:
            said = list(pool.map(one, range(1, movers + 1)))
        after = ledger.read(client, NAME)
        winners = [text for text in said if text.isdigit()]
        assert winners == [str(after.champion)]
        assert (len(after.entries), after.state(), after.problems()) == (len(before.entries) + 1, "whole", [])
        assert all("nothing was moved here" in text for text in said if not text.isdigit())
    assert not [key for key in client.get_registered_model(NAME).tags if key.startswith(ledger.CLAIM)]


def test_move_while_another_claims_the_ledger_is_told_who(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.promotion.claims.time.sleep", lambda seconds: None)
    text = json.dumps({"at": time.time(), "who": "eve@elsewhere"})
    client.set_registered_model_tag(NAME, f"{ledger.CLAIM}x", text)
    with pytest.raises(RefusedError, match="eve@elsewhere is moving tiny's champion at this moment"):
        move(client, 1)
    assert alias(client) is None


@pytest.mark.parametrize("off", [-3600, 3600, -(10**9)])
def test_move_waits_for_one_of_a_machine_whose_clock_is_wrong(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    key, seen = f"{ledger.CLAIM}x", list[int | None]()
    client.set_registered_model_tag(NAME, key, json.dumps({"at": time.time() + off, "who": "eve@elsewhere"}))

    def elapse(seconds: float) -> None:
        seen.append(alias(client))
        if len(seen) == 2 * claims.TRIES:
            client.delete_registered_model_tag(NAME, key)  # the other one has ended its move

    monkeypatch.setattr(claims, "WATCHED", 600.0)
    monkeypatch.setattr("podium.promotion.claims.time.sleep", elapse)
    move(client, 1)
    assert seen == [None] * 2 * claims.TRIES
    assert alias(client) == 1


def test_history_beside_a_move_waits_for_its_end(
    client: MlflowClient, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(client, 1)
    client.set_registered_model_tag(NAME, f"{ledger.CLAIM}x", json.dumps({"at": time.time(), "who": "eve@elsewhere"}))
    waited = list[float]()

    def elapse(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            client.delete_registered_model_tag(NAME, f"{ledger.CLAIM}x")
            moves.settle(client, NAME)

    monkeypatch.setattr("podium.promotion.ledger.time.sleep", elapse)
    assert ledger.history(connect(store), NAME)[1] == []
    assert len(waited) == 3
    client.set_registered_model_alias(NAME, "champion", "4")
    assert "moved outside of podium" in ledger.history(connect(store), NAME)[1][0]
    assert len(waited) == 4  # as soon as it is twice the same


def test_entry_with_one_key_twice_is_refused(client: MlflowClient) -> None:
    move(client, 1)
    rewrite(client, 1, '"to": 1', '"to": 1, "to": 2')
    with pytest.raises(RefusedError, match=r"holds what nobody here wrote: it has the key 'to' twice; restore the tag"):
        ledger.read(client, NAME)


FAR = 10**400


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        '{"at": 1, "who": "eve@elsewhere"}',
        '{"at": NOW}',
        '{"at": NOW, "who": ["eve"]}',
        f'{{"at": {FAR}, "who": "eve"}}',
        "[" * 4000,
    ],
)
def test_claim_that_a_crash_left_is_removed(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(claims, "WATCHED", 0.0)
    client.set_registered_model_tag(NAME, f"{ledger.CLAIM}x", text.replace("NOW", str(time.time())))
    move(client, 1)
    assert alias(client) == 1
    assert f"{ledger.CLAIM}x" not in client.get_registered_model(NAME).tags
