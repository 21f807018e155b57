"""Which servers answer with a registered model: each says so in the registry, and says it again while it lives.

One tag of the registered model for each server process. `podium promote` reads them: it knows no server by itself.
"""

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from podium.data.accesses import who
from podium.text import one_line
from podium.tracking.store import Tracking

# isort: split
# After podium.tracking, which turns MLflow's telemetry off before mlflow is imported.
from mlflow.exceptions import MlflowException

PREFIX = "podium.server."
EVERY = 20.0
"""Seconds between two signs of life."""
GONE = 4 * EVERY
"""Seconds after which a server that has not removed its tag was killed."""


@dataclass(frozen=True)
class Presence:
    """What a server says of itself."""

    address: str
    follows: str
    """The alias whose moves it follows; empty: it stays with its version."""
    version: int
    who: str
    """user@host"""
    process: int
    at: float
    """Seconds since 1970."""

    def __str__(self) -> str:
        how = f"follows {self.follows}" if self.follows else "pinned, does not follow"
        return f"{self.address} ({self.who}, process {self.process}): version {self.version}, {how}"


SCHEMA = TypeAdapter(Presence)


class Sign:
    """The tag of this process."""

    def __init__(self, tracking: Tracking, name: str, address: str, follows: str) -> None:
        self.tracking, self.name, self.address, self.follows = tracking, name, address, follows
        self.key = f"{PREFIX}{secrets.token_hex(6)}"

    def show(self, version: int) -> None:
        """Say that this process answers with `version`, and remove what killed servers have left.

        Raises MlflowException where the registry can't be written.
        """
        now = Presence(self.address, self.follows, version, who(), os.getpid(), time.time())
        self.tracking.client.set_registered_model_tag(self.name, self.key, json.dumps(asdict(now)))
        for key, found in _all(self.tracking, self.name).items():
            if key != self.key and (found is None or time.time() - found.at > GONE):
                self.tracking.client.delete_registered_model_tag(self.name, key)

    def remove(self) -> None:
        """This process answers no longer."""
        self.tracking.client.delete_registered_model_tag(self.name, self.key)


def running(tracking: Tracking, name: str) -> list[Presence]:
    """The servers of `name` that have shown a sign of life lately, by address. A server with workers is there once."""
    found = [one for one in _all(tracking, name).values() if one is not None and time.time() - one.at <= GONE]
    once = {(one.address, one.who): one for one in found}
    return sorted(once.values(), key=lambda one: (one.address, one.who))


def sentences(tracking: Tracking, name: str) -> list[str]:
    """What a move of the champion tells of the servers: one line each."""
    try:
        found = running(tracking, name)
    except MlflowException as error:
        return [f"which servers run is not known: {error.message}"]
    follow = [one for one in found if one.follows == "champion"]
    lines = [f"{one.address} ({one.who}) follows and serves it within seconds" for one in follow]
    lines += [f"{one} - it is not changed" for one in found if one.follows != "champion"]
    return [one_line(line) for line in lines]  # whoever writes to the registry names them


def _all(tracking: Tracking, name: str) -> dict[str, Presence | None]:
    """By tag; None for a tag that none of our servers wrote."""
    tags: dict[str, Any] = tracking.client.get_registered_model(name).tags
    return {key: _read(text) for key, text in tags.items() if key.startswith(PREFIX)}


def _read(text: str) -> Presence | None:
    try:
        return SCHEMA.validate_json(text, strict=True)
    except ValidationError:
        return None
