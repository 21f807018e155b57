"""Checkpoints that are whole or are not there: written by atomic rename, with a checksum that reading verifies."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

HEADER = b"podium-checkpoint-1 "


class TornCheckpointError(Exception):
    """The file is not what was written: torn, tampered with, or of another run."""


def save(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`; `identity` names the run that it belongs to."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, "state": state}, buffer)
    payload = buffer.getbuffer()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n")
            file.write(payload)
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
    header, _, payload = content.partition(b"\n")
    if header != HEADER + hashlib.sha256(payload).hexdigest().encode():
        raise TornCheckpointError(f"{path.name} is torn: its checksum does not match")
    whole = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if whole["identity"] != identity:
        raise TornCheckpointError(f"{path.name} belongs to another run ({whole['identity']}, not {identity})")
    state: dict[str, Any] = whole["state"]
    return state
