"""What people's own training loops may save: tensors and plain values, which are read back without pickle's risks."""

from typing import Any, TypeVar

from torch import Tensor

from podium.errors import InputError

PLAIN = (bool, int, float, str, bytes, type(None))
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
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            check_plain(one, f"{where}[{number}]")
    elif not isinstance(value, Tensor) and type(value) not in PLAIN:
        raise InputError(
            f"run.save: takes tensors, numbers, text and lists and dicts of them; {where} is {type(value).__name__}"
        )


def copied(value: Saved) -> Saved:
    """`value` as it is now: training changes its tensors in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return type(value)(copied(one) for one in value)
    return value
