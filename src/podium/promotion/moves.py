"""Moves of the alias `champion`: written to the ledger, finished after a crash, one at a time.

A move is four writes: the entry, the alias, a tag of the version, the head. The next command tells apart what a crash
leaves:

| entry above the head | alias              | meaning                            | then                  |
|----------------------|--------------------|------------------------------------|-----------------------|
| no                   | the last entry's   | all is well                        | nothing               |
| no                   | another            | moved by hand, outside the ledger  | an entry says so      |
| yes                  | the entry's `from` | crashed before the alias           | alias and head follow |
| yes                  | the entry's `to`   | crashed before the head            | tag and head follow   |
| yes                  | another            | moved by hand after a crash        | an entry says so      |
"""

from dataclasses import replace

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium.data.accesses import now, who
from podium.errors import InputError, RefusedError
from podium.promotion.claims import Claim, claimed
from podium.promotion.ledger import ALIAS, ENTRY, HEAD, PREFIX, Entry, Ledger, digest, entry_tag, read, word

LONGEST, LONGEST_REASON = 4900, 1000
"""Characters of an entry (a database keeps 5,000 of a registered model's tag) and of the reason in it."""


def move(client: MlflowClient, ledger: Ledger, entry: Entry, *, break_claims: bool = False) -> Entry:
    """Append `entry` to `ledger` as it was just read, then move the alias; returns the entry as written.

    Raises RefusedError where somebody else moves or has moved it meanwhile, InputError for too long a reason.
    `break_claims`: see podium.promotion.claims.
    """
    with claimed(client, ledger.name, break_others=break_claims) as claim:
        written = _append(client, ledger, entry, claim)
        claim.check()
        client.set_registered_model_alias(ledger.name, ALIAS, str(written.target))
        _set_head(client, ledger.name, written, written.text(), claim)
    return written


def settle(client: MlflowClient, name: str, *, break_claims: bool = False) -> tuple[Ledger, list[str]]:
    """Make alias and entries agree after a crash or a move by hand; returns the ledger and a sentence for each step."""
    ledger = read(client, name)
    notes = [f"warning: {problem}" for problem in ledger.breaks()]
    if ledger.state() == "whole":
        return ledger, notes
    with claimed(client, name, break_others=break_claims) as claim:
        notes += _settle(client, read(client, name), claim)
    return read(client, name), notes


def checked_reason(reason: str) -> str:
    """`reason` without blanks around it. Raises InputError where nothing or too much is left."""
    reason = reason.strip()
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise InputError(f"--reason must have 1 to {LONGEST_REASON} characters; got {len(reason)}")
    return reason


def _settle(client: MlflowClient, ledger: Ledger, claim: Claim) -> list[str]:
    state, name = ledger.state(), ledger.name
    if state == "whole":  # what looked like a crash was a move under way
        return []
    if state == "by hand" or (state == "before alias" and not _exists(client, name, ledger.recorded)):
        found = Entry("by hand", ledger.recorded, ledger.champion, "the alias was moved outside of podium")
        written = _append(client, ledger, found, claim)
        _set_head(client, name, written, written.text(), claim)
        return [f"champion was moved by hand from {word(ledger.recorded)} to {word(ledger.champion)}: recorded"]
    last = ledger.entries[-1]
    if state == "before alias":
        claim.check()
        client.set_registered_model_alias(name, ALIAS, str(last.target))
    _set_head(client, name, last, ledger.texts[-1], claim)  # as it stands there: an earlier Podium wrote fewer fields
    if state == "before head":
        return []
    return [f"finished the {last.action} of version {last.target} that was interrupted ({last.at})"]


def _append(client: MlflowClient, ledger: Ledger, entry: Entry, claim: Claim) -> Entry:
    written = replace(
        entry,
        broken="; ".join(ledger.breaks())[:1000],
        number=len(ledger.entries) + 1,
        at=now(),
        who=who(),
        previous=digest(ledger.texts[-1]) if ledger.texts else "",
    )
    text = written.text()
    if len(text) > LONGEST:
        raise InputError(f"an entry of the ledger must have at most {LONGEST} characters; got {len(text)}")
    found = read(client, ledger.name)
    if found.texts != ledger.texts or found.champion != ledger.champion:
        raise _moved(ledger.name, found)
    claim.check()
    client.set_registered_model_tag(ledger.name, f"{PREFIX}{written.number:06d}", text)
    return written


def _moved(name: str, found: Ledger) -> RefusedError:
    by = f" by {found.entries[-1].who} at {found.entries[-1].at}" if found.entries else ""
    return RefusedError(
        f"{name}'s champion has just been moved to {word(found.champion)}{by}: nothing was moved here; look at"
        " `podium history` and run again"
    )


def _set_head(client: MlflowClient, name: str, entry: Entry, text: str, claim: Claim) -> None:
    """The move is done: said on the version, so that a cut end is noticed, and by the head. `text`: of the entry.

    The head is last: the next command finishes a move that is above it, and no other. A move by hand, which nobody has
    checked, leaves what the version says already: its entry may have been cut away.
    """
    number = str(entry.target)
    claim.check()
    if entry.target is not None and (
        entry.action != "by hand" or ENTRY not in client.get_model_version(name, number).tags
    ):
        client.set_model_version_tag(name, number, ENTRY, entry_tag(entry, text, name))
    client.set_registered_model_tag(name, HEAD, f"{entry.number} {digest(text)}")


def _exists(client: MlflowClient, name: str, number: int | None) -> bool:
    try:
        client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True
