"""What people's own code may save: tensors, plain values and usual collections of them, each read back as the type that
it was, without pickle's risks. But an nn.Parameter is read back as a tensor.

A checkpoint holds tensors, plain values, lists, tuples and dicts. What else is taken is packed into these: a dict whose
key MARK says what it was.
"""

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from podium.errors import InputError

PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)
ROWS = (list, tuple)
"""A class derived from them, such as a named tuple, can't be read back as what it was."""
TENSORS = (Tensor, nn.Parameter)
"""Likewise."""
MARK = "podium:type"
FACTORIES: dict[str, Callable[[], Any]] = {
    one.__name__: one for one in (int, float, bool, str, bytes, list, tuple, dict, set, Counter, OrderedDict, deque)
}
"""What a defaultdict may make of a missing key."""
DICTS = (dict, OrderedDict, Counter, defaultdict)
SINGLE: dict[str, Callable[..., Any]] = {one.__name__: one for one in (set, frozenset, torch.Size)}
PAIRS: dict[str, Callable[..., Any]] = {one.__name__: one for one in (dict, OrderedDict, Counter)}


def is_plain(value: Any) -> bool:
    """Whether `value` is plain, or a list, tuple or dict of plain values."""
    if isinstance(value, dict):
        return all(is_plain(one) for pair in value.items() for one in pair)
    return type(value) in PLAIN or (isinstance(value, list | tuple) and all(map(is_plain, value)))


def with_plain_dicts(value: Any) -> Any:
    """`value` with a dict for each object that is derived from one and can't be read back as what it is, such as a
    defaultdict that makes missing values by a function of somebody's own."""
    kind = type(value)
    if kind in ROWS:
        return kind(map(with_plain_dicts, value))
    if kind is deque:
        return deque(map(with_plain_dicts, value), value.maxlen)
    if not isinstance(value, dict):
        return value
    made = copy.copy(value) if kind in DICTS and _factory(value) is not None else {}
    for key, one in value.items():
        made[key] = with_plain_dicts(one)
    return made


def _factory(value: Any) -> str | None:
    """The name of what makes the missing values of a defaultdict; empty: nothing does; None: it can't be kept."""
    factory = getattr(value, "default_factory", None)
    name = getattr(factory, "__name__", "")
    return name if factory is None or FACTORIES.get(name) is factory else None


def packed(value: Any, where: str) -> Any:
    """A copy of `value` as it is now, in the types of a checkpoint.

    Raises InputError where it holds what can't be read back as what it is, naming that with `where`.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in TENSORS:
        return value.detach().clone()
    if kind in ROWS:
        return kind(packed(one, f"{where}[{number}]") for number, one in enumerate(value))
    if kind is dict and MARK not in value and all(map(is_plain, value)):
        return {packed(key, f"a key of {where}"): packed(one, f"{where}[{key!r}]") for key, one in value.items()}
    found = _marked(value, where)
    if found is None:
        raise InputError(
            f"run.save: takes tensors, numbers, text, arrays and usual collections of them; {where} is"
            f" {kind.__name__}{_remedy(value)}"
        )
    return {MARK: kind.__name__} | found


def unpacked(value: Any) -> Any:
    """A copy of what `packed` was given."""
    kind = type(value)
    if kind is Tensor:
        return value.clone()
    if kind in (list, tuple):
        return kind(unpacked(one) for one in value)
    if kind is not dict:
        return value
    if MARK not in value:
        return {unpacked(key): unpacked(one) for key, one in value.items()}
    return _unmarked(value[MARK], value)


def _marked(value: Any, where: str) -> dict[str, Any] | None:
    """The parts of one of the other types that are taken; None: it is none of them."""
    kind = type(value)
    if kind is np.ndarray or isinstance(value, np.generic):
        return _array(np.asarray(value))
    if kind in (set, frozenset, torch.Size):
        return {"items": [packed(one, f"an element of {where}") for one in value]}
    if kind is deque:
        return {"items": packed(list(value), where), "maxlen": value.maxlen}
    if kind not in DICTS:
        return None
    found = {"items": [[packed(k, f"a key of {where}"), packed(v, f"{where}[{k!r}]")] for k, v in value.items()]}
    if kind is OrderedDict:  # torch's state dicts have their layers' versions there
        found["vars"] = packed(vars(value), f"vars({where})")
    if kind is defaultdict:
        if (name := _factory(value)) is None:
            return None
        found["factory"] = name  # type: ignore[assignment]
    return found


def _array(value: "np.ndarray[Any, Any]") -> dict[str, Any] | None:
    if value.dtype.hasobject:
        return None
    flat = np.ascontiguousarray(value).reshape(-1)
    content = torch.from_numpy(np.frombuffer(flat.tobytes(), np.uint8).copy())
    return {"dtype": np.lib.format.dtype_to_descr(value.dtype), "shape": list(value.shape), "content": content}


def _unmarked(name: str, parts: dict[str, Any]) -> Any:
    if "content" in parts:
        dtype = np.lib.format.descr_to_dtype(parts["dtype"])
        array = np.frombuffer(parts["content"].cpu().numpy().tobytes(), dtype).reshape(parts["shape"]).copy()
        return array if name == "ndarray" else array[()]
    items = unpacked(parts["items"])
    if name == "deque":
        return deque(items, parts["maxlen"])
    if name == "defaultdict":
        return defaultdict(FACTORIES.get(parts["factory"]), map(tuple, items))
    if name in SINGLE:
        return SINGLE[name](items)
    made = PAIRS[name](dict(map(tuple, items)))
    if name == "OrderedDict":
        vars(made).update(unpacked(parts["vars"]))
    return made


def _remedy(value: Any) -> str:
    """What to save in the place of `value`, where something of it can be saved."""
    if isinstance(value, Tensor):
        return ": save it .as_subclass(torch.Tensor)"
    if isinstance(value, np.random.Generator):
        return ": save its .bit_generator.state, and set that after run.load"
    if isinstance(value, torch.Generator):
        return ": save its .get_state(), and .set_state(...) after run.load"
    if isinstance(value, np.ndarray):
        return f" of {value.dtype}: save numpy.asarray(...) of it, of numbers or text of a fixed length"
    for base in (tuple, list, set):
        if isinstance(value, base):
            name = base.__name__
            return f", derived from {name}: save {name}(...) of it and build it again after run.load"
    if hasattr(value, "state_dict"):
        return ": save its state_dict()"
    return ""
