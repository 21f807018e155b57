"""A network's tensors by name, from a file of weights: what is in it, and what training scripts put around them."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from podium.errors import InputError

POINTER = b"version https://git-lfs"
ANNEX, ANNEX_AT = b"/annex/objects/", 100
ENTRIES = ("state_dict_ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model")
"""Under what training scripts save the state dict in a larger one. As in timm, averaged weights go first: they are
those that were validated."""
DEEPEST = 4
"""Dicts around a state dict."""
OBJECTS = ("Unsupported global", "Unsupported class", "Trying to load unsupported")
"""In torch's refusals of files that hold more than tensors."""
OBJECT = re.compile(r"(?:GLOBAL|class) (?P<name>[\w.]+)")
PICKLE, ZIP, GZIP = b"\x80", b"PK", b"\x1f\x8b"
"""What files begin with: one of torch before 1.6, one since, and a compressed one."""
TAR, TAR_AT = b"ustar", 257
HEADER = 512
COUNTER = "num_batches_tracked"
"""Of a batch norm, which older files lack; nothing here is computed with it."""
SHOWN = 3
"""Names in an error."""


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors in `path` by name, and under what they were saved there; empty: they are all that it holds.

    Raises InputError where there is no such file, or no state dict in it; nothing in it is run.
    """
    state = _tensors_of(path, _beginning(path))
    entries: list[str] = []
    while isinstance(state, Mapping) and len(entries) < DEEPEST:
        key = _entry_of(state, path)
        if key is None:
            break
        state = state[key]
        entries.append(str(key))
    if problem := _no_state_dict(state):
        raise InputError(
            f"model.weights: {path} must hold a state dict, tensors by name; got {problem}"
            " (save a network's with torch.save(network.state_dict(), ...))"
        )
    return dict(state), ".".join(entries)


def without_prefix(state: Mapping[str, Tensor], wanted: Iterable[str], path: Path) -> tuple[dict[str, Tensor], str]:
    """`state` by the names in `wanted`, and what was before each: module. of DataParallel, backbone. of a larger model.

    What has another prefix is not of this network and is left out. Raises InputError where the file holds several such.
    """
    names = [name for name in wanted if not name.endswith(COUNTER)]
    ends = [f".{name}" for name in names[:SHOWN]]
    prefixes = {key[: len(key) - len(end) + 1] for key in state for end in ends if key.endswith(end)}
    found = {prefix: sum(prefix + name in state for name in names) for prefix in ("", *sorted(prefixes))}
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if best[0] and most == len(names) and len(best) > 1:
        raise InputError(
            f"model.weights: {path} holds this network {len(best)} times, as {', '.join(best[:SHOWN])}: save the one"
            " that is meant alone"
        )
    prefix = best[0] if most else ""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, prefix


def as_of(own: Tensor, value: Tensor, name: str) -> Tensor:
    """`value`, the tensor `name` of a file, dense and in the type of the network's `own`.

    Raises ValueError where it can't be had, or has numbers that are not finite.
    """
    if value.is_meta:
        raise ValueError(f"{name} has no values (it is on the device meta)")
    if value.is_quantized:
        raise ValueError(f"{name} is quantized: dequantize() it where it was made")
    if own.is_floating_point() and not value.is_floating_point():
        raise ValueError(f"{name} is {_named(value)} instead of {_named(own)}")
    dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    here = dense.to(own.dtype)
    if here.is_floating_point() and (bad := int((~torch.isfinite(here) & _has_to_be_finite(own, here)).sum())):
        raise ValueError(f"{name} has NaN or infinite numbers ({bad:,} of {here.numel():,})")
    return here


def _has_to_be_finite(own: Tensor, here: Tensor) -> Tensor:
    """Which numbers of `here`: a mask that is infinite in the network itself may be that."""
    return torch.isfinite(own).to(here.device) if own.shape == here.shape else torch.ones_like(here, dtype=torch.bool)


def _named(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _entry_of(state: Mapping[Any, Any], path: Path) -> Any:
    """Under what key of `state` its state dict is; None: it is one itself, or has none."""
    if not any(isinstance(value, Mapping) for value in state.values()):
        return None
    known = [key for key in ENTRIES if isinstance(state.get(key), Mapping) and state[key]]
    if known:
        return next((key for key in known if _holds_tensors(state[key])), known[0])
    inner = [key for key, value in state.items() if isinstance(value, Mapping) and _holds_tensors(value)]
    if len(inner) > 1:
        raise InputError(
            f"model.weights: {path} holds several state dicts, {', '.join(map(str, inner[:SHOWN]))}: save the one that"
            " is meant alone"
        )
    return inner[0] if inner else None


def _holds_tensors(found: Mapping[Any, Any]) -> bool:
    """Whether a state dict is in `found`, or in what it holds; the moments of an optimizer are none."""
    if _no_state_dict(found):
        return any(isinstance(found.get(key), Mapping) and _holds_tensors(found[key]) for key in ENTRIES)
    return True


def _no_state_dict(found: Any) -> str:
    """What `found` is instead of a state dict; empty: it is one."""
    if not isinstance(found, Mapping):
        return type(found).__name__
    if not found:
        return "an empty dict"
    for key, value in found.items():
        if not isinstance(key, str):
            return f"a dict with the key {key!r}"
        if not isinstance(value, Tensor):
            return f"a dict in which {key} is {type(value).__name__}"
    return ""


def _beginning(path: Path) -> bytes:
    """The first bytes of the file. Raises InputError where there is none, or it can't be a file of weights."""
    if path.is_dir():
        raise InputError(f"model.weights: {path} is a folder: name the file in it")
    if not path.is_file():
        where = f"is a link to {path.readlink()}, which is missing" if path.is_symlink() else "is missing"
        raise InputError(f"model.weights: {path} {where}: put the file there, or set model.weights to ''")
    try:
        with path.open("rb") as file:
            first = file.read(HEADER)
    except OSError as error:
        raise InputError(f"model.weights: {path} can't be read: {error.strerror or error}") from None
    if why := _no_weights(first, path):
        raise InputError(f"model.weights: {path} can't be read: it is {why}")
    return first


def _no_weights(first: bytes, path: Path) -> str:
    """What a file that begins with `first` is, and the remedy, where it is nothing that holds weights; else empty."""
    if _is_safetensors(first):  # its first bytes are a number, which may look like any text
        return ""
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    if first.startswith(POINTER):
        return "a pointer of Git LFS, not the file: `git lfs pull`"
    if not text:
        return "empty: fetch it again"
    if not any(first):
        return "zero bytes, as where a copy broke off: fetch it again"
    if ANNEX in text[:ANNEX_AT]:
        return "a pointer of git-annex, not the file: `git annex get`"
    if text.startswith(b"<"):
        return "a web page (HTML or XML), such as the answer of a server that wants a login: fetch the file itself"
    if first.startswith(GZIP) or first[TAR_AT:].startswith(TAR):
        return "an archive: unpack it, and name the file of weights in it"
    if first.startswith(ZIP):
        return _no_weights_in_zip(path)
    if first.startswith(PICKLE):
        return ""
    shown = text[:40].decode("ascii", "backslashreplace").splitlines()[0]
    return f"no file of weights: it begins with {shown!r}; fetch it again"


def _no_weights_in_zip(path: Path) -> str:
    """As `_no_weights`, of what looks like a zip file: torch saves as such, and so do others."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "broken: it ends too early, or was damaged on its way; fetch it again"
    ends = {name.partition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return "a TorchScript program: save the tensors of torch.jit.load(...).state_dict() by torch.save"
    if "archive_format" in ends:
        return "an exported program: save the tensors of torch.export.load(...).state_dict by torch.save"
    if "data.pkl" not in ends:
        return f"an archive of {', '.join(names[:SHOWN]) or 'nothing'}: unpack it, and name the file of weights in it"
    return ""


def _harmless() -> list[Any]:
    """What training scripts save beside the tensors, and what can't run code: their arguments, as timm's and
    torchvision's do, and numbers of NumPy, by the name of NumPy 1 too."""
    kinds = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    scalar = np.float64(0).__reduce__()[0]
    return [argparse.Namespace, scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _is_safetensors(first: bytes) -> bool:
    """A length of eight bytes, then JSON."""
    return len(first) > 8 and first[8:9] == b"{" and first[:1] != b"{"


def _tensors_of(path: Path, first: bytes) -> Any:
    """What the file holds, by its content: names are often wrong about it."""
    try:
        if _is_safetensors(first):
            from safetensors.torch import load_file

            return load_file(path)
        with path.open("rb") as file, torch.serialization.safe_globals(_harmless()):  # of a path the name would decide
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # both readers raise whatever a broken file makes of them
        # torch's own text recommends to read it unsafely.
        if isinstance(error, pickle.UnpicklingError) and any(text in str(error) for text in OBJECTS):
            named = OBJECT.search(str(error))
            one = f" ({named['name']})" if named else ""
            raise InputError(
                f"model.weights: {path} can't be read safely: it holds Python objects{one}, such as a whole network,"
                " and reading those may run any code; where it was made, save the tensors alone:"
                " torch.save(network.state_dict(), ...)"
            ) from None
        raise InputError(
            f"model.weights: {path} can't be read: it is broken, or no file of weights ({type(error).__name__});"
            " fetch it again"
        ) from None
