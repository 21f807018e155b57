"""Who is champion: promotion through the gate, the way back, and what happened when. Every move is in the ledger."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from podium import gate, ledger, paths, registry
from podium.dataset import DatasetInfo, open_sealed
from podium.errors import PodiumError, RefusedError
from podium.gate import Verdict
from podium.ledger import Entry, Ledger
from podium.locks import locked
from podium.registry import Version
from podium.tracking import Tracking


@dataclass(frozen=True)
class Outcome:
    """What a promotion or a rollback did."""

    version: Version
    """The champion now."""
    entry: Entry | None
    """What was written to the ledger; None: nothing had to move."""
    verdict: Verdict | None
    """The gate's, for a promotion that moved something."""
    notes: tuple[str, ...]
    """What was found and set right on the way, a sentence each."""


def promote(tracking: Tracking, name: str, number: int | None, *, sealed: Path, prepared: Path) -> Outcome:
    """Make version `number` of `name` (None: the challenger) the champion, if the gate lets it.

    `sealed` and `prepared` are data/sealed and data/prepared. Raises RefusedError with the figures where it is worse,
    InputError for a version that does not exist. The verdict stays with the version either way.
    """
    with _alone(name):
        version = registry.find(tracking, name, registry.CHALLENGER if number is None else number)
        book, notes = ledger.settle(tracking.client, name)
        if book.champion == version.number:
            return Outcome(version, None, None, tuple(notes))
        verdict = _judge(tracking, version, book, sealed, prepared)
        digest = _keep(tracking, version, verdict)
        if verdict.decision == "refuse":
            raise RefusedError(_refusal(version, verdict, notes))
        entry = Entry("promote", book.champion, version.number, verdict.reason, verdict.short() | {"digest": digest})
        return Outcome(version, ledger.move(tracking.client, book, entry), verdict, tuple(notes))


def rollback(tracking: Tracking, name: str, reason: str) -> Outcome:
    """Make the champion before the present one champion again, once it has loaded and answered rightly.

    Raises RefusedError where there is none or it fails; then nothing moved.
    """
    reason = ledger.checked_reason(reason)
    with _alone(name):
        book, notes = ledger.settle(tracking.client, name)
        earlier = book.previous_champions()
        if not earlier:
            raise RefusedError(f"{name} has no earlier champion to go back to; look at `podium history`")
        version = registry.find(tracking, name, earlier[0])
        try:
            registry.load(tracking, version).check_answers()
        except PodiumError as error:
            raise RefusedError(f"rolled nothing back: {error}") from error
        entry = ledger.move(tracking.client, book, Entry("rollback", book.champion, version.number, reason))
        return Outcome(version, entry, None, tuple(notes))


def history(tracking: Tracking, name: str) -> tuple[Ledger, list[str]]:
    """The ledger of `name`, and a sentence for everything in it that is not as it should be. Changes nothing."""
    book = ledger.read(tracking.client, name)
    problems = book.problems()
    state = book.state()
    if state == "by hand":
        problems.append(
            f"champion is {ledger.word(book.champion)}, and the ledger says {ledger.word(book.recorded)}:"
            " moved outside of podium"
        )
    elif state != "whole":
        problems.append("the last move was interrupted; the next `podium promote` or `podium rollback` finishes it")
    return book, problems


def _judge(tracking: Tracking, version: Version, book: Ledger, sealed: Path, prepared: Path) -> Verdict:
    split = open_sealed(sealed / "test", "gate")
    data = DatasetInfo.read(prepared).digest
    challenger = (version.number, registry.load(tracking, version))
    sides = [version]
    champion = None
    if book.champion is not None:
        reigning = registry.find(tracking, version.name, book.champion)
        sides.append(reigning)
        champion = (reigning.number, registry.load(tracking, reigning))
    others = [side for side in sides if side.tags.get("data_digest") != data]
    notes = tuple(
        f"version {side.number} was trained on other data (digest {side.tags.get('data_digest', 'unknown')[:12]}) than"
        f" what is prepared now ({data[:12]}): some of these images may have been among its training images"
        for side in others
    )
    return gate.judge(split, challenger, champion, notes)


def _keep(tracking: Tracking, version: Version, verdict: Verdict) -> str:
    """Store the verdict on the version: artifacts of its run, tags that name them; returns the JSON's digest."""
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False) + "\n"
    digest = ledger.digest(text)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    file = f"gate/{stamp}-{version.name}-{version.number}"
    client = tracking.client
    client.log_text(version.run_id, text, f"{file}.json")
    client.log_text(version.run_id, verdict.markdown(), f"{file}.md")
    for key, value in {
        "gate_decision": verdict.decision,
        "gate_reason": verdict.reason,
        "gate_verdict": f"{file}.json",
        "gate_verdict_digest": digest,
    }.items():
        client.set_model_version_tag(version.name, str(version.number), key, value)
    return digest


def _refusal(version: Version, verdict: Verdict, notes: list[str]) -> str:
    return "\n".join([*notes, f"{version} was not promoted: {verdict.reason}", *verdict.notes])


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other move of the same champion from this project meanwhile."""
    with locked(paths.mlruns() / f"promote-{name}.lock", purpose=f"a move of {name}'s champion"):
        yield
