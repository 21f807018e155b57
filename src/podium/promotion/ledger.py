"""The moves of the alias `champion`: an append-only list in the registry itself, so that a remote server has it too.

Each entry is one tag of the registered model, `podium.ledger.000001` and so on, whose JSON holds the SHA-256 of the
entry before it: an edit is noticed. A last tag, `podium.ledger.head`, names the last entry whose move is done.

A move is three writes: the entry, the alias, the head. What a crash leaves is told apart by the next command:

| entry above the head | alias              | meaning                            | then                  |
|----------------------|--------------------|------------------------------------|-----------------------|
| no                   | the last entry's   | all is well                        | nothing               |
| no                   | another            | moved by hand, outside the ledger  | an entry says so      |
| yes                  | the entry's `from` | crashed before the alias           | alias and head follow |
| yes                  | the entry's `to`   | crashed before the head            | the head follows      |
| yes                  | another            | moved by hand after a crash        | an entry says so      |
"""

from dataclasses import replace

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium.data.accesses import now, who
from podium.errors import InputError, RefusedError
from podium.promotion.claims import claimed
from podium.promotion.entries import Entry, Ledger, digest, word

ALIAS = "champion"
PREFIX = "podium.ledger."
HEAD = PREFIX + "head"
ENTRY = PREFIX + "entry"
"""Tag of a version: number and digest of the entry by which it last became champion."""
LONGEST, LONGEST_REASON = 4900, 1000
"""Characters of an entry (a database keeps 5,000 of a registered model's tag) and of the reason in it."""


def read(client: MlflowClient, name: str) -> Ledger:
    """The ledger of `name`; empty where nothing is registered under it. Raises RefusedError for an unreadable entry."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return Ledger(name, (), (), 0, "", None)
    texts = tuple(model.tags[key] for key in sorted(model.tags) if key.startswith(PREFIX) and key != HEAD)
    try:
        entries = tuple(Entry.parse(text) for text in texts)
        number, _, head_digest = model.tags.get(HEAD, "0 ").partition(" ")
        head = int(number)
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(
            f"the ledger of {name} (tags {PREFIX}...) holds what nobody here wrote: {error}; restore the tag"
        ) from None
    champion = model.aliases.get(ALIAS)
    return Ledger(name, entries, texts, head, head_digest, int(champion) if champion else None)


def move(client: MlflowClient, ledger: Ledger, entry: Entry) -> Entry:
    """Append `entry` to `ledger` as it was just read, then move the alias; returns the entry as written.

    Raises RefusedError where somebody else moves or has moved it meanwhile, InputError for too long a reason.
    """
    with claimed(client, ledger.name):
        written = _append(client, ledger, entry)
        client.set_registered_model_alias(ledger.name, ALIAS, str(written.target))
        _set_head(client, ledger.name, written)
    return written


def settle(client: MlflowClient, name: str) -> tuple[Ledger, list[str]]:
    """Make alias and entries agree after a crash or a move by hand; returns the ledger and a sentence for each step."""
    ledger = read(client, name)
    notes = [f"warning: {problem}" for problem in ledger.breaks()]
    if ledger.state() == "whole":
        return ledger, notes
    with claimed(client, name):
        notes += _settle(client, read(client, name))
    return read(client, name), notes


def _settle(client: MlflowClient, ledger: Ledger) -> list[str]:
    state, name = ledger.state(), ledger.name
    if state == "whole":  # what looked like a crash was a move under way
        return []
    if state == "by hand" or (state == "before alias" and not _exists(client, name, ledger.recorded)):
        found = Entry("by hand", ledger.recorded, ledger.champion, "the alias was moved outside of podium")
        _set_head(client, name, _append(client, ledger, found))
        return [f"champion was moved by hand from {word(ledger.recorded)} to {word(ledger.champion)}: recorded"]
    last = ledger.entries[-1]
    if state == "before alias":
        client.set_registered_model_alias(name, ALIAS, str(last.target))
    _set_head(client, name, last)
    if state == "before head":
        return []
    return [f"finished the {last.action} of version {last.target} that was interrupted ({last.at})"]


def checked_reason(reason: str) -> str:
    """`reason` without blanks around it. Raises InputError where nothing or too much is left."""
    reason = reason.strip()
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise InputError(f"--reason must have 1 to {LONGEST_REASON} characters; got {len(reason)}")
    return reason


def _append(client: MlflowClient, ledger: Ledger, entry: Entry) -> Entry:
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
    client.set_registered_model_tag(ledger.name, f"{PREFIX}{written.number:06d}", text)
    return written


def _moved(name: str, found: Ledger) -> RefusedError:
    by = f" by {found.entries[-1].who} at {found.entries[-1].at}" if found.entries else ""
    return RefusedError(
        f"{name}'s champion has just been moved to {word(found.champion)}{by}: nothing was moved here; look at"
        " `podium history` and run again"
    )


def _set_head(client: MlflowClient, name: str, entry: Entry) -> None:
    """The move is done: said by the head, and on the version, so that a cut end is noticed."""
    said = f"{entry.number} {digest(entry.text())}"
    client.set_registered_model_tag(name, HEAD, said)
    if entry.target is not None:
        client.set_model_version_tag(name, str(entry.target), ENTRY, said)


def _exists(client: MlflowClient, name: str, number: int | None) -> bool:
    try:
        client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True
