"""How often the sealed images were opened, by whom and for what: a line each in mlruns/sealed.jsonl, never taken back.

Every look at a test set is a chance to choose by luck, so the gate says how many there were. A set is known by its
digest: other images are counted anew. Folders that share a registry tell it (registry/versions.py).
"""

import getpass
import json
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path

from podium import paths
from podium.errors import PodiumError

ID_BYTES = 6
"""Of the name of an opening, by which copies of a line are known as such."""


def record(digest: str, reader: str, purpose: str) -> None:
    """Write that `reader` opens the sealed set `digest`. Raises PodiumError where it can't: then nothing is opened."""
    about = {"at": now(), "who": who(), "reader": reader, "purpose": purpose, "digest": digest}
    line = json.dumps(about | {"id": secrets.token_hex(ID_BYTES)})
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:  # one short write to the end: two processes do not mix
            file.write(line + "\n")
    except OSError as error:
        raise PodiumError(
            f"{path} can't be written: {error.strerror}. The sealed images stay closed, since every opening is counted"
        ) from None


def known(digest: str) -> dict[str, str]:
    """The openings of the sealed set `digest` from here: the reader of each by its id.

    Raises PodiumError for a file that was damaged.
    """
    path = _path()
    if not path.is_file():
        return {}
    try:
        about = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        # Lines of an earlier Podium have no id; their moment has to do.
        return {str(one.get("id", one["at"])): str(one["reader"]) for one in about if one["digest"] == digest}
    except (ValueError, KeyError, TypeError) as error:
        raise PodiumError(
            f"{path} is damaged ({error}); it counts the openings of the sealed set: restore it"
        ) from None


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
