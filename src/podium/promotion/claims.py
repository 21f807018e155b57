"""One mover at a time, by the registry alone: tags of a registered model on which somebody claims its ledger.

A registry knows no "write if nobody else has". So whoever moves first writes a claim of their own and then looks
whether another one is there: of two, at least the later writer sees both. Those that see another withdraw and try
again after a while of random length.
"""

import json
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium.data.accesses import who
from podium.errors import RefusedError

PREFIX = "podium.ledger-claim."
STALE = 600
"""Seconds after which a claim was left by a crash: a move takes one or two."""
TRIES = 8


@contextmanager
def claimed(client: MlflowClient, name: str) -> Iterator[None]:
    """Nobody else moves this champion within the block. Raises RefusedError where another goes on claiming it."""
    key = f"{PREFIX}{secrets.token_hex(8)}"
    others: list[str] = []
    for _ in range(TRIES):
        client.set_registered_model_tag(name, key, json.dumps({"at": time.time(), "who": who()}))
        try:
            others = _other_claims(client, name, key)
            if not others:
                yield
                return
        finally:
            client.delete_registered_model_tag(name, key)
        time.sleep(random.uniform(0.05, 1.0))  # noqa: S311 (not a secret: so that two do not meet again)
    raise RefusedError(f"{others[0]} is moving {name}'s champion at this moment: nothing was moved here; run again")


def _other_claims(client: MlflowClient, name: str, own: str) -> list[str]:
    """Who else claims the ledger; claims that a crash left are removed."""
    found = []
    for key, text in client.get_registered_model(name).tags.items():
        if not key.startswith(PREFIX) or key == own:
            continue
        try:
            claim = json.loads(text)
            fresh = abs(time.time() - float(claim["at"])) < STALE
        except (ValueError, KeyError, TypeError):
            fresh, claim = False, {}
        if fresh:
            found.append(str(claim["who"]))
        else:
            with suppress(MlflowException):  # another has just removed it
                client.delete_registered_model_tag(name, key)
    return found
