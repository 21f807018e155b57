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

A registry knows no "write if nobody else has". So whoever moves first writes a claim of their own, a tag of the
registered model, and then looks whether another one is there: of two, at least the later writer sees both. Those that
see another withdraw and try again after a while of random length.
"""

import json
import random
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter, ValidationError

from podium.data.accesses import now, who
from podium.errors import InputError, RefusedError
from podium.promotion.ledger import ALIAS, CLAIM, ENTRY, HEAD, PREFIX, Entry, Ledger, digest, entry_tag, read, word
from podium.text import one_line

LONGEST, LONGEST_REASON = 4900, 1000
"""Characters of an entry (a database keeps 5,000 of a registered model's tag) and of the reason in it."""
STALE, WATCHED = 600, 10.0
"""Seconds after which a claim was left by a crash, since a move takes one or two: by the clock of the machine that
wrote it, which may be wrong, and by ours, during which it has not changed."""
TRIES = 8


def move(client: MlflowClient, ledger: Ledger, entry: Entry) -> Entry:
    """Append `entry` to `ledger` as it was just read, then move the alias; returns the entry as written.

    Raises RefusedError where somebody else moves or has moved it meanwhile, InputError for too long a reason.
    """
    with claimed(client, ledger.name):
        written = _append(client, ledger, entry)
        client.set_registered_model_alias(ledger.name, ALIAS, str(written.target))
        _set_head(client, ledger.name, written, written.text())
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


def checked_reason(reason: str) -> str:
    """`reason` without blanks around it. Raises InputError where nothing or too much is left."""
    reason = reason.strip()
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise InputError(f"--reason must have 1 to {LONGEST_REASON} characters; got {len(reason)}")
    return reason


@contextmanager
def claimed(client: MlflowClient, name: str) -> Iterator[None]:
    """Nobody else moves this champion within the block. Raises RefusedError where another goes on claiming it.

    Who is waited for, and why, is said on stderr: a rollback is an emergency.
    """
    key = f"{CLAIM}{secrets.token_hex(8)}"
    others: list[str] = []
    watched: dict[str, float] = {}
    said = set[str]()
    tries = 0
    while tries < TRIES:
        client.set_registered_model_tag(name, key, json.dumps({"at": time.time(), "who": who()}))
        try:
            others, old = _other_claims(client, name, key, watched)
            if not others and not old:
                yield
                return
        finally:
            client.delete_registered_model_tag(name, key)
        _say_once(said, _waiting(name, others, old))
        tries += 0 if old and not others else 1
        time.sleep(random.uniform(0.05, 1.0))  # noqa: S311 (not a secret: so that two do not meet again)
    raise RefusedError(f"{others[0]} is moving {name}'s champion at this moment: nothing was moved here; run again")


def _waiting(name: str, others: list[str], old: list[str]) -> str:
    if others:
        return f"waiting for {one_line(others[0])}, who is moving {name}'s champion at this moment"
    return (
        f"waiting {WATCHED:g} s to see whether {one_line(old[0])} is still moving {name}'s champion: that move began"
        " long ago and was interrupted, or the clock of that machine is wrong"
    )


def _say_once(said: set[str], sentence: str) -> None:
    if sentence not in said:
        print(f"podium: {sentence}", file=sys.stderr, flush=True)
    said.add(sentence)


def _settle(client: MlflowClient, ledger: Ledger) -> list[str]:
    state, name = ledger.state(), ledger.name
    if state == "whole":  # what looked like a crash was a move under way
        return []
    if state == "by hand" or (state == "before alias" and not _exists(client, name, ledger.recorded)):
        found = Entry("by hand", ledger.recorded, ledger.champion, "the alias was moved outside of podium")
        written = _append(client, ledger, found)
        _set_head(client, name, written, written.text())
        return [f"champion was moved by hand from {word(ledger.recorded)} to {word(ledger.champion)}: recorded"]
    last = ledger.entries[-1]
    if state == "before alias":
        client.set_registered_model_alias(name, ALIAS, str(last.target))
    _set_head(client, name, last, ledger.texts[-1])  # as it stands there: an earlier Podium wrote fewer fields
    if state == "before head":
        return []
    return [f"finished the {last.action} of version {last.target} that was interrupted ({last.at})"]


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


def _set_head(client: MlflowClient, name: str, entry: Entry, text: str) -> None:
    """The move is done: said on the version, so that a cut end is noticed, and by the head. `text`: of the entry.

    The head is last: the next command finishes a move that is above it, and no other. A move by hand, which nobody has
    checked, leaves what the version says already: its entry may have been cut away.
    """
    number = str(entry.target)
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


@dataclass(frozen=True)
class _Claim:
    """What a claim says."""

    at: float
    """Seconds since 1970."""
    who: str
    """user@host"""


_CLAIMS = TypeAdapter(_Claim)


def _read_claim(text: str) -> _Claim | None:
    """None for a tag that no move wrote."""
    try:
        return _CLAIMS.validate_json(text, strict=True)
    except ValidationError:
        return None


def _other_claims(client: MlflowClient, name: str, own: str, watched: dict[str, float]) -> tuple[list[str], list[str]]:
    """Who else claims the ledger, and who may have crashed; claims that a crash left are removed.

    `watched` has each claim of the second kind with the time since when it has not changed, by this machine's clock.
    """
    found, old = [], []
    for key, text in client.get_registered_model(name).tags.items():
        if not key.startswith(CLAIM) or key == own:
            continue
        claim = _read_claim(text)
        if claim is not None and abs(time.time() - claim.at) < STALE:
            found.append(claim.who)
        elif claim is not None and time.monotonic() - watched.setdefault(key + text, time.monotonic()) < WATCHED:
            old.append(claim.who)
        else:
            with suppress(MlflowException):  # another has just removed it
                client.delete_registered_model_tag(name, key)
    return found, old
