"""Claims: one move of a champion at a time, though a registry knows no "write if nobody else has".

So whoever moves first writes a claim of their own, a tag of the registered model, and then looks whether another one is
there: of two, at least the later writer sees both. Those that see another withdraw and try again after a while of
random length. A claim that nobody holds any more is removed:

| who wrote it                       | when                                                            |
|------------------------------------|-----------------------------------------------------------------|
| a process of this machine          | as soon as that has ended                                       |
| another machine, long ago          | when it has not changed for WATCHED seconds by our own clock    |
| another machine, within STALE      | the same, where a person says so (`--break-claim`); else never  |
"""

import json
import random
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter, ValidationError

from podium import process_identity
from podium.data.accesses import who
from podium.errors import RefusedError
from podium.promotion.ledger import CLAIM
from podium.text import one_line

STALE, WATCHED = 600, 10.0
"""Seconds after which a claim was left by a crash, since a move takes one or two: by the clock of the machine that
wrote it, which may be wrong, and by ours, during which it has not changed."""
TRIES = 8
SURE = 2.0
"""Seconds for which a claim counts as still there after it was seen: others watch one for longer, then break it."""


@dataclass(frozen=True)
class _Content:
    """What a claim says."""

    at: float
    """Seconds since 1970."""
    who: str
    """user@host"""
    process: str = ""
    """`podium.process_identity.own`; an earlier Podium did not say."""

    def __str__(self) -> str:
        ours = process_identity.IDENTITY.fullmatch(self.process)
        return one_line(self.who) + (f" (process {ours['process']})" if ours else "")


_SCHEMA = TypeAdapter(_Content)


@dataclass
class Claim:
    """The claim of this process, while it holds it."""

    client: MlflowClient
    name: str
    key: str
    seen: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """To be called before a write. Raises RefusedError where another has broken this claim, as of a dead process.

        It asks the registry only where the last look is a while ago: this process may have stood still.
        """
        if time.monotonic() - self.seen < SURE:
            return
        self.seen = time.monotonic()
        if self.key not in self.client.get_registered_model(self.name).tags:
            raise RefusedError(
                f"this move of {self.name}'s champion took so long that another process has ended its claim: it goes no"
                " further; look at `podium history`, and run again"
            )


@dataclass
class _Others:
    """Claims of others, as they were last seen."""

    at_work: list[_Content] = field(default_factory=list)
    """Those of which it is to be believed."""
    watched: list[_Content] = field(default_factory=list)
    """Those that may have been left by a crash."""
    since: dict[str, float] = field(default_factory=dict)
    """When each of the second kind was first seen as it is, by this machine's clock."""


@contextmanager
def claimed(client: MlflowClient, name: str, *, break_others: bool = False) -> Iterator[Claim]:
    """Nobody else moves this champion within the block. Raises RefusedError where another goes on claiming it.

    Who is waited for, and why, is said on stderr: a rollback is an emergency. `break_others`: a person knows that
    those who claim it are gone.
    """
    key = f"{CLAIM}{secrets.token_hex(8)}"
    others = _Others()
    said = set[str]()
    tries = 0
    while tries < TRIES:
        content = {"at": time.time(), "who": who(), "process": process_identity.own()}
        own = Claim(client, name, key)
        client.set_registered_model_tag(name, key, json.dumps(content))
        try:
            _look(client, own, others, break_others=break_others)
            if not others.at_work and not others.watched:
                yield own
                return
        finally:
            _remove(client, name, key)
        _say_once(said, _waiting(name, others, break_others=break_others))
        tries += 0 if others.watched and not others.at_work else 1
        time.sleep(random.uniform(0.05, 1.0))  # noqa: S311 (not a secret: so that two do not meet again)
    raise RefusedError(_refusal(name, others.at_work[0]))


def _look(client: MlflowClient, own: Claim, others: _Others, *, break_others: bool) -> None:
    """Renew `others`, and remove claims that a crash left."""
    others.at_work, others.watched = [], []
    for key, text in client.get_registered_model(own.name).tags.items():
        if not key.startswith(CLAIM) or key == own.key:
            continue
        claim = _read(text)
        if claim is not None and not process_identity.has_ended(claim.process):
            if abs(time.time() - claim.at) < STALE and not break_others:
                others.at_work.append(claim)
                continue
            if time.monotonic() - others.since.setdefault(key + text, time.monotonic()) < WATCHED:
                others.watched.append(claim)
                continue
        _remove(client, own.name, key)


def _remove(client: MlflowClient, name: str, key: str) -> None:
    try:
        client.delete_registered_model_tag(name, key)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another has just removed it
            raise


def _read(text: str) -> _Content | None:
    """None for a tag that no move wrote."""
    try:
        return _SCHEMA.validate_json(text, strict=True)
    except ValidationError:
        return None


def _waiting(name: str, others: _Others, *, break_others: bool) -> str:
    if others.at_work:
        return f"waiting for {others.at_work[0]}, who is moving {name}'s champion at this moment"
    sentence = f"waiting {WATCHED:g} s to see whether {others.watched[0]} is still moving {name}'s champion: "
    return sentence + (
        "--break-claim ends a claim that does not change"
        if break_others
        else "that move began long ago and was interrupted, or the clock of that machine is wrong"
    )


def _refusal(name: str, claim: _Content) -> str:
    """Who is in the way, for how long at most, and what to do where that one is gone."""
    since = max(0, round(time.time() - claim.at))
    return (
        f"{claim} is moving {name}'s champion at this moment, and began {since} s ago (one or two are usual): nothing"
        " was moved here; run again. If that process was killed on another machine: add --break-claim, or wait"
        f" {max(1, round((STALE - since) / 60))} minutes, after which its claim no longer counts"
    )


def _say_once(said: set[str], sentence: str) -> None:
    if sentence not in said:
        print(f"podium: {sentence}", file=sys.stderr, flush=True)
    said.add(sentence)
