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

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium.errors import InputError, RefusedError
from podium.gate.claims import claimed
from podium.images.openings import now, who

ALIAS = "champion"
PREFIX = "podium.ledger."
HEAD = PREFIX + "head"
ENTRY = PREFIX + "entry"
"""Tag of a version: number and digest of the entry by which it last became champion."""
LONGEST, LONGEST_REASON = 4900, 1000
"""Characters of an entry (a database keeps 5,000 of a registered model's tag) and of the reason in it."""

Action = Literal["promote", "rollback", "by hand"]


@dataclass(frozen=True)
class Entry:
    """One move of the alias."""

    action: Action
    """`by hand`: found, not made by us."""
    source: int | None
    """The version that was champion; None: none was."""
    target: int | None
    """The version that is champion from now on; None: none is (by hand only)."""
    why: str
    verdict: dict[str, Any] | None = None
    """The gate's figures in short, and the digest of the whole verdict."""
    forced: bool = False
    broken: str = ""
    """What was wrong with the ledger when this was written: the next entry would hide a cut or edited end."""
    number: int = 0
    """1 for the first."""
    at: str = ""
    """UTC, ISO 8601."""
    who: str = ""
    """user@host."""
    previous: str = ""
    """SHA-256 of the entry before it, empty for the first."""
    model: str = ""
    """Digest of the files of the version that became champion."""

    def text(self) -> str:
        """The entry as it is stored: JSON with `from` and `to`."""
        fields = asdict(self)
        fields = {"from": fields.pop("source"), "to": fields.pop("target"), **fields}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def parse(text: str) -> "Entry":
        """The opposite of `text`."""
        fields = json.loads(text)
        return Entry(source=fields.pop("from"), target=fields.pop("to"), **fields)


@dataclass(frozen=True)
class Ledger:
    """What the registry holds of `name` at one moment."""

    name: str
    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """The same as they are stored."""
    head: int
    """Number of the last entry whose move is done."""
    head_digest: str
    champion: int | None
    """The version that has the alias now, whatever the entries say."""

    @property
    def recorded(self) -> int | None:
        """The champion by the entries."""
        return self.entries[-1].target if self.entries else None

    def approved(self) -> int | None:
        """The last champion that was not made by hand."""
        return next((entry.target for entry in reversed(self.entries) if entry.action != "by hand"), None)

    def problems(self) -> list[str]:
        """Where the chain is broken or once was, each as a sentence; empty: it is whole."""
        once = [entry for entry in self.entries if entry.broken]
        return self.breaks() + [f"found when entry {entry.number} was written: {entry.broken}" for entry in once]

    def breaks(self) -> list[str]:
        """Where the chain is broken now, each as a sentence."""
        found = []
        for place, (entry, before) in enumerate(zip(self.entries, ("", *self.texts), strict=False), start=1):
            if entry.number != place:
                found.append(f"entry {place} of {self.name}'s ledger is missing or renumbered")
                break
            if entry.previous != (digest(before) if before else ""):
                found.append(f"entry {place} of {self.name}'s ledger does not follow from the one before it: edited")
        if self.head > len(self.entries):
            found.append(f"{self.name}'s ledger ends at entry {len(self.entries)}; entry {self.head} was written")
        elif self.head and digest(self.texts[self.head - 1]) != self.head_digest:
            found.append(f"entry {self.head} of {self.name}'s ledger is not what was written: edited")
        return found

    def state(self) -> Literal["whole", "before alias", "before head", "by hand"]:
        """The row of the table above."""
        if len(self.entries) <= self.head:
            return "whole" if self.champion == self.recorded else "by hand"
        if self.champion == self.recorded:
            return "before head"
        return "before alias" if self.champion == self.entries[-1].source else "by hand"

    def previous_champions(self) -> list[int]:
        """Versions that a rollback may return to, the nearest first: those before the present one.

        A rollback takes back what it leaves, so two in a row go two champions back.
        """
        stack: list[int | None] = []
        for entry in self.entries:
            if entry.action == "by hand":
                continue
            if entry.action == "rollback" and entry.target in stack:
                while stack[-1] != entry.target:
                    stack.pop()
            else:
                stack.append(entry.target)
        earlier = stack[:-1] if self.champion == self.approved() else stack
        return [number for number in reversed(earlier) if number is not None and number != self.champion]


def digest(text: str) -> str:
    """SHA-256 of an entry as it is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


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


def cut(client: MlflowClient, ledger: Ledger) -> list[str]:
    """A sentence for each version that was made champion by an entry that is not in `ledger` any more."""
    found = []
    for version in client.search_model_versions(f"name='{ledger.name}'", max_results=1000):
        number, _, written = version.tags.get(ENTRY, "0 ").partition(" ")
        place = int(number) if number.isdigit() else 0
        if place and (place > len(ledger.texts) or digest(ledger.texts[place - 1]) != written):
            found.append(
                f"entry {place} of {ledger.name}'s ledger, by which version {version.version} became champion, was"
                " edited or cut away"
            )
    return found


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


def word(number: int | None) -> str:
    """A champion as sentences call it."""
    return "none" if number is None else f"version {number}"


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
