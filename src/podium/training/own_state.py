"""What people's own objects remember within a training: buffers, counters, generators of random numbers.

A checkpoint has it, so that a resumed training goes on with the loss and the augmentations that it had. Such an object
is made by the same code in each process; its state is read from its attributes and put back in place, without pickle.
"""

import ast
import hashlib
import io
import logging
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from podium import own_code
from podium.errors import InputError
from podium.training.plain_state import PLAIN, is_plain, packed, unpacked

LARGE = 1 << 20
"""Bytes from which on an array or a tensor is saved only where it has changed: it may be a set of images."""
OF_TORCH = {*vars(nn.Module()), "training"}
"""Attributes that every torch module has."""
NO_STATE = (type, types.ModuleType, types.BuiltinFunctionType, io.IOBase, logging.Logger)
RANDOM = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
GROUPS = (list, tuple, dict, deque)
FIXED = (tuple, partial, types.MethodType)
"""Whose parts can't be replaced; what is in them may change in place."""
REPLACED = ("value", "tensor", "array")
CONSTANT: dict[str, Any] = {"is": "constant"}
Node = dict[str, Any]
"""What one object held: `is` says which of the forms below it has."""


class OwnState:
    """What `roots`, objects by what they are called in params.yaml, hold besides their code."""

    def __init__(self, roots: Mapping[str, Any], device: torch.device, network: nn.Module | None = None) -> None:
        """Of an own `network` counts what its state dict does not have."""
        self._roots = dict(roots) | ({"model.name": network} if network is not None else {})
        self._network, self._device = network, device
        self._begun = {id(value): _digest(value) for value in self._large()}
        """Of what is large, as it was at the beginning."""

    def state(self) -> dict[str, Node]:
        """What they hold now, for a checkpoint; those that hold nothing are left out."""
        saved = {id(one) for one in self._saved_elsewhere()}
        found = {name: self._node(one, name, saved.copy()) for name, one in self._roots.items()}
        return {name: node for name, node in found.items() if node != CONSTANT}

    def refusal(self, state: Mapping[str, Node]) -> str:
        """Why `restore` can't go back to `state`; empty: it can.

        A network's weights are in its state dict; what else it keeps is a cache more often than not, and no reason.
        """
        roots = {name: one for name, one in self._roots.items() if one is not self._network}
        reasons = (_mismatch(roots[name], node, name) for name, node in state.items() if name in roots)
        return next(filter(None, reasons), "")

    def notes(self) -> list[str]:
        """What no checkpoint can have of them now."""
        why = self.refusal(self.state())
        return [f"{why}: where this training is interrupted, it begins again"] if why else []

    def restore(self, state: Mapping[str, Node]) -> None:
        """Go back to what `state` returned, here or in another process. No `refusal` may speak against it."""
        for name, node in state.items():
            if name in self._roots and not _mismatch(self._roots[name], node, name):
                self._put(self._roots[name], node)

    def _saved_elsewhere(self) -> list[Tensor]:
        return [] if self._network is None else list(self._network.state_dict(keep_vars=True).values())

    def _large(self) -> Iterator[Any]:
        seen, waiting = {id(one) for one in self._saved_elsewhere()}, list(self._roots.values())
        while waiting:
            value = waiting.pop()
            if id(value) not in seen:
                seen.add(id(value))
                waiting += _parts(value).values()
                if _is_large(value):
                    yield value

    def _node(self, value: Any, place: str, seen: set[int]) -> Node:
        """What `value` holds, and everything below it that was not `seen` yet."""
        if type(value) in PLAIN:
            return {"is": "value", "value": value}
        if id(value) in seen:
            return CONSTANT
        if isinstance(value, Tensor | np.ndarray):  # once more in each place: where it is new, it has to be put there
            return self._array(value)
        seen.add(id(value))
        if isinstance(value, RANDOM):
            return {"is": "numbers", "value": packed(_numbers(value), place)}
        if _is_handled(value):
            return {"is": "state dict", "value": packed(value.state_dict(), place)}
        if isinstance(value, Iterator) and not hasattr(value, "__dict__") and not isinstance(value, io.IOBase):
            return {"is": "lost", "why": f"{place} is a {type(value).__name__}, which no checkpoint can have"}
        if not isinstance(value, GROUPS) or _is_flat(value):
            try:
                return {"is": "value", "value": packed(value, place)}
            except InputError:
                pass  # an object of another class, of which each part is looked at
        nodes = {name: self._node(one, f"{place}.{name}", seen) for name, one in _parts(value).items()}
        held = {name: node for name, node in nodes.items() if node != CONSTANT}
        if not held and not isinstance(value, GROUPS):
            return CONSTANT
        sizes: Node = {"size": len(value)} if isinstance(value, list | deque) else {}
        sizes = {"keys": list(nodes)} if isinstance(value, dict) else sizes
        return {"is": "object", "class": _class_of(value), "parts": held} | sizes

    def _array(self, value: Any) -> Node:
        if isinstance(value, np.ndarray) and (not value.flags.writeable or value.dtype.hasobject):
            return CONSTANT
        if _is_large(value) and self._begun.get(id(value)) == _digest(value):
            return CONSTANT
        if isinstance(value, np.ndarray):
            return {"is": "array", "value": packed(np.array(value), "")}
        return {"is": "tensor", "value": value.detach().clone(), "here": value.device.type != "cpu"}

    def _put(self, value: Any, node: Node) -> None:
        if node["is"] == "numbers":
            _set_numbers(value, unpacked(node["value"]))
        elif node["is"] == "state dict":
            value.load_state_dict(unpacked(node["value"]))
        elif node["is"] == "object":
            _resize(value, node)
            there = _parts(value)
            for name, part in node["parts"].items():
                if part["is"] not in REPLACED:
                    if not _mismatch(there.get(name), part, ""):  # of a network alone: see `refusal`
                        self._put(there[name], part)
                    continue
                made = self._made(part)
                if not _put_numbers(there.get(name), made) and not isinstance(value, FIXED):
                    _set_part(value, name, made)

    def _made(self, part: Node) -> Any:
        if part["is"] == "tensor":
            return part["value"].to(self._device if part["here"] else "cpu", copy=True)
        return unpacked(part["value"])


class PassedOn(OwnState):
    """The state of objects that are elsewhere, as it came from there."""

    _passed: Mapping[str, Node] = {}

    def state(self) -> dict[str, Node]:
        """What `restore` was given."""
        return dict(self._passed)

    def refusal(self, state: Mapping[str, Node]) -> str:
        """None: those objects decide."""
        return ""

    def restore(self, state: Mapping[str, Node]) -> None:
        """Keep `state` for `state`."""
        self._passed = state


def _parts(value: Any) -> dict[str, Any]:
    """What `value` is made of, by name: attributes, elements of a collection, variables that a function encloses."""
    if isinstance(value, NO_STATE + RANDOM + (Tensor, np.ndarray)) or type(value) in PLAIN or _is_handled(value):
        return {}
    if isinstance(value, dict):
        return {f"[{key!r}]": one for key, one in value.items() if is_plain(key)}
    if isinstance(value, list | tuple | deque):
        return {f"[{number}]": one for number, one in enumerate(value)}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"__self__": value.__self__}
    if isinstance(value, types.FunctionType):
        return vars(value) | _enclosed(value) if own_code.is_own(value) else {}
    if isinstance(value, torch.jit.ScriptModule):
        return dict(value.state_dict(keep_vars=True))
    if isinstance(value, nn.Module):
        own = {name: one for name, one in vars(value).items() if name not in OF_TORCH}
        return own | value._parameters | value._buffers | value._modules
    slots = (name for kind in type(value).__mro__ for name in _slots(kind))
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})


def _enclosed(function: types.FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}


def _slots(kind: type) -> list[str]:
    named = kind.__dict__.get("__slots__", ())
    return [one for one in ((named,) if isinstance(named, str) else named) if not one.startswith("__")]


def _resize(value: Any, node: Node) -> None:
    """Give a collection as many elements as `node` has, or the keys that it has."""
    if isinstance(value, dict):
        for key in [key for key in value if is_plain(key) and f"[{key!r}]" not in node["keys"]]:
            del value[key]
        for name in [name for name in node["parts"] if name not in _parts(value)]:
            value[ast.literal_eval(name[1:-1])] = None
    elif isinstance(value, list | deque):
        while len(value) > node["size"]:
            value.pop()
        value.extend([None] * (node["size"] - len(value)))


def _set_part(value: Any, name: str, part: Any) -> None:
    """Give `value` another part `name`."""
    if isinstance(value, dict):
        value[next(key for key in value if f"[{key!r}]" == name)] = part
    elif isinstance(value, list | deque):
        value[int(name[1:-1])] = part
    elif isinstance(value, types.FunctionType) and name in value.__code__.co_freevars:
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        cells[name].cell_contents = part
    elif isinstance(value, nn.Module) and name in value._buffers:
        value._buffers[name] = part
    elif hasattr(value, "__dict__"):
        vars(value)[name] = part
    else:
        object.__setattr__(value, name, part)


def _mismatch(value: Any, node: Node, place: str) -> str:
    """Why what `node` holds can't be put into `value`; empty: it can."""
    if node["is"] == "lost":
        return str(node["why"])
    late = f"{place} was made after the beginning, so it is not here yet"
    if node["is"] in ("numbers", "state dict"):
        return "" if isinstance(value, RANDOM) or _is_handled(value) else late
    if node["is"] != "object":
        return ""
    if _class_of(value) != node["class"]:
        return late
    there = _parts(value)
    known = node.get("keys") or [f"[{number}]" for number in range(node.get("size", 0))]
    for name in known:
        if name not in there and node["parts"].get(name, CONSTANT)["is"] not in REPLACED:
            return f"{place}{name} was made after the beginning, so it is not here yet"
    for name, part in node["parts"].items():
        if why := _mismatch(there.get(name), part, f"{place}.{name}"):
            return why
    return ""


def _put_numbers(value: Any, other: Any) -> bool:
    """Put the numbers of `other` into `value`, where that is a tensor or an array like it; others may hold it too."""
    if type(value) is not type(other) and not (isinstance(value, Tensor) and isinstance(other, Tensor)):
        return False
    if not isinstance(value, Tensor | np.ndarray) or value.shape != other.shape or value.dtype != other.dtype:
        return False
    if isinstance(value, Tensor):
        with torch.no_grad():
            value.copy_(other)
    else:
        value[...] = other
    return True


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_flat(value: Any) -> bool:
    """Whether the collection `value` has no object in it, so that the whole of it can be put into its place."""
    parts = value.values() if isinstance(value, dict) else value
    small = (one for one in parts if type(one) not in PLAIN)
    return all(isinstance(one, GROUPS) and _is_flat(one) for one in small)


def _is_handled(value: Any) -> bool:
    """Whether `value` says its state itself, as an optimizer does; torch's modules say less than they hold."""
    return not isinstance(value, nn.Module | type) and all(
        callable(getattr(type(value), name, None)) for name in ("state_dict", "load_state_dict")
    )


def _is_large(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.device.type == "cpu" and value.layout is torch.strided and value.nbytes >= LARGE
    return isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes >= LARGE


def _digest(value: Any) -> str:
    array = value.detach().reshape(-1).view(torch.uint8).numpy() if isinstance(value, Tensor) else value
    return hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _numbers(value: Any) -> Any:
    """Where a generator of random numbers is."""
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    return value.get_state() if isinstance(value, torch.Generator) else value.getstate()


def _set_numbers(value: Any, state: Any) -> None:
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, np.random.RandomState | torch.Generator):
        value.set_state(state)
    else:
        value.setstate(state)
