"""Checkpoints that are whole or are not there: written by atomic rename, with a checksum that reading verifies."""

import hashlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

import torch

HEADER = b"podium-checkpoint-1 "


class TornCheckpointError(Exception):
    """The file is not what was written: torn, tampered with, or of another run."""


def dumps(identity: str, state: dict[str, Any]) -> bytes:
    """A checkpoint as bytes; `identity` names the run that `state` (tensors and plain values) belongs to."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, "state": state}, buffer)
    payload = buffer.getvalue()
    return HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def save(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`; `identity` names the run that it belongs to."""
    write(path, dumps(identity, state))


def write(path: Path, content: bytes) -> None:
    """Write a checkpoint that `dumps` made."""
    # Not the process id: on a shared folder two machines may have the same one.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk every byte counts
        raise


def load(path: Path, identity: str) -> dict[str, Any] | None:
    """The state in `path`, on the CPU; None where there is no file.

    Raises TornCheckpointError where the file is not whole or belongs to another run.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return loads(content, identity, path.name)


def loads(content: bytes, identity: str, name: str = "the checkpoint") -> dict[str, Any]:
    """The state in what `dumps` returned, on the CPU. Raises TornCheckpointError as `load` does."""
    header, _, payload = content.partition(b"\n")
    if header != HEADER + hashlib.sha256(payload).hexdigest().encode():
        raise TornCheckpointError(f"{name} is torn: its checksum does not match")
    whole = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if whole["identity"] != identity:
        raise TornCheckpointError(f"{name} belongs to another run ({whole['identity']}, not {identity})")
    state: dict[str, Any] = whole["state"]
    return state
