"""What people's own training loops may save: tensors and plain values, which are read back without pickle's risks."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from podium.errors import InputError

PLAIN = (bool, int, float, str, bytes, type(None))
ROWS = (list, tuple, torch.Size)
"""A class derived from them, such as a named tuple, can't be read back as what it was."""
TENSORS = (Tensor, nn.Parameter)
"""Likewise."""
Saved = TypeVar("Saved")


def is_plain(value: Any) -> bool:
    """Whether `value` is plain, or a list, tuple or dict of plain values."""
    if isinstance(value, dict):
        return all(is_plain(one) for pair in value.items() for one in pair)
    return type(value) in PLAIN or (isinstance(value, list | tuple) and all(map(is_plain, value)))


def check_plain(value: Any, where: str) -> None:
    """Raise InputError where `value` holds anything but tensors and plain values: only these are read back."""
    if isinstance(value, dict):
        for key, one in value.items():
            check_plain(key, f"a key of {where}")
            check_plain(one, f"{where}[{key!r}]")
    elif type(value) in ROWS:
        for number, one in enumerate(value):
            check_plain(one, f"{where}[{number}]")
    elif type(value) not in (*TENSORS, *PLAIN):
        raise InputError(
            f"run.save: takes tensors, numbers, text and lists and dicts of them; {where} is {type(value).__name__}"
            f"{_remedy(value)}"
        )


def _remedy(value: Any) -> str:
    """What to save in the place of `value`, where something of it can be saved."""
    if isinstance(value, Tensor):
        return ": save it .as_subclass(torch.Tensor)"
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return f", derived from {kind}: save {kind}(...) of it and build it again after run.load"
    return ""


def copied(value: Saved) -> Saved:
    """`value` as it is now: training changes its tensors in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return type(value)(copied(one) for one in value)
    return value
