"""Test set accesses: who read the held-out test set, when and for what, one line each in mlruns/sealed.jsonl.

Every look at a test set is a chance to choose by luck, so the promotion gate reports their number, and no line is ever
removed. A test set is known by the name of its split, which stays while the set grows (podium.data.split_file), or by
its digest where that is not remembered: one that was split again is counted from zero. Folders that share a registry
report their accesses to it.
"""

import getpass
import json
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podium import paths
from podium.errors import PodiumError

ID_BYTES = 6
"""Of the id of an access, by which copies of a line are recognised."""


@dataclass(frozen=True)
class Access:
    """One look at a test set."""

    at: str
    """UTC, ISO 8601, as `now` writes it."""
    reader: str
    purpose: str
    """For which run or version."""
    digest: str
    """By what its test set is known."""


def record(digest: str, reader: str, purpose: str) -> None:
    """Log that `reader` opens the test set `digest`. Raises PodiumError if it can't: then nothing is opened."""
    about = {"at": now(), "who": who(), "reader": reader, "purpose": purpose, "digest": digest}
    line = json.dumps(about | {"id": secrets.token_hex(ID_BYTES)})
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:  # one short write to the end: two processes do not mix
            file.write(line + "\n")
    except OSError as error:
        raise PodiumError(
            f"{path} can't be written: {error.strerror}. The test set stays closed, since every access to it is counted"
        ) from None


def known(digest: str) -> dict[str, str]:
    """The accesses to the test set `digest` from this folder: the reader of each by its id.

    Raises PodiumError for a file that was damaged.
    """
    return {access: one.reader for access, one in _every().items() if one.digest == digest}


def others(digest: str) -> int:
    """How many accesses there were from this folder to other test sets than `digest`."""
    return sum(one.digest != digest for one in _every().values())


def made(reader: str, purpose: str) -> list[Access]:
    """Every access by `reader` for `purpose` from this folder, the oldest first. Raises as `known`."""
    return [one for one in _every().values() if (one.reader, one.purpose) == (reader, purpose)]


def _every() -> dict[str, Access]:
    """Each access by its id."""
    path = _path()
    try:
        about = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        # Lines of an earlier Podium have no id; their time stands in.
        return {str(one.get("id", one["at"])): _access(one) for one in about}
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except OSError as error:
        raise PodiumError(f"{path} can't be read: {error.strerror}. It counts the test set accesses") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PodiumError(f"{path} is damaged ({error}); it counts the test set accesses: restore it") from None


def _access(line: dict[str, Any]) -> Access:
    return Access(str(line.get("at", "")), str(line["reader"]), str(line.get("purpose", "")), str(line["digest"]))


def who() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """This moment in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _path() -> Path:
    return paths.mlruns() / "sealed.jsonl"
