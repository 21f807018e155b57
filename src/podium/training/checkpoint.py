"""Checkpoints that are whole or are not there: written by atomic rename, with a checksum that reading verifies."""

import hashlib
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch.serialization import get_crc32_options, set_crc32_options

HEADER = b"podium-checkpoint-1 "


class TornCheckpointError(Exception):
    """The file is not what was written: torn, tampered with, or of another run."""


def dumps(identity: str, state: dict[str, Any]) -> bytes:
    """A checkpoint as bytes; `identity` names the run that `state` (tensors and plain values) belongs to."""
    buffer = io.BytesIO()
    _write(buffer, identity, state, lambda: False)
    return buffer.getvalue()


def save(path: Path, identity: str, state: dict[str, Any], abandoned: Callable[[], bool] = lambda: False) -> bool:
    """Write `state` (tensors and plain values) to `path`; `identity` names the run that it belongs to.

    Returns whether it is written: not where `abandoned` turned true meanwhile, which leaves `path` as it was.
    """
    try:
        _replace(path, lambda file: _write(file, identity, state, abandoned))
    except _AbandonedError:
        return False
    return True


def write(path: Path, content: bytes) -> None:
    """Write a checkpoint that `dumps` made."""
    _replace(path, lambda file: file.write(content))


class _AbandonedError(Exception):
    """Nobody wants the rest."""


class _Hashed:
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: BinaryIO, abandoned: Callable[[], bool]) -> None:
        self._file, self._abandoned = file, abandoned
        self.sha = hashlib.sha256()
        self.error: Exception | None = None
        """Why it could not be written to; torch's writer raises a RuntimeError of its own instead."""

    def write(self, data: bytes) -> int:
        try:
            if self._abandoned():
                raise _AbandonedError
            self.sha.update(data)
            return self._file.write(data)
        except (OSError, _AbandonedError) as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(file: BinaryIO, identity: str, state: dict[str, Any], abandoned: Callable[[], bool]) -> None:
    """Write header and state to `file`, never the whole of it in memory; the checksum comes last, into its place."""
    start = len(HEADER)
    file.write(HEADER + b"0" * 64 + b"\n")
    hashed = _Hashed(file, abandoned)
    crc = get_crc32_options()
    set_crc32_options(False)  # three quarters of the time, for a checksum that nobody needs beside ours
    try:
        torch.save({"identity": identity, "state": state}, cast(BinaryIO, hashed))
    except RuntimeError as error:
        raise hashed.error or error from None
    finally:
        set_crc32_options(crc)
    file.seek(start)
    file.write(hashed.sha.hexdigest().encode())


def _replace(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Put what `fill` writes in the place of `path`, whole or not at all."""
    # Not the process id: on a shared folder two machines may have the same one.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
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
