"""What people's own objects remember within a training: buffers, counters, generators of random numbers.

A checkpoint has it, so that a resumed training goes on with the loss and the augmentations that it had. Such an object
is made by the same code in each process. Of it are saved, without pickle: a module's parameters and buffers;
attributes that are numbers, text, arrays, tensors, usual collections of them or generators of random numbers; and what
it, or an attribute of it, gives as `state_dict()` and takes with `load_state_dict()`. Attributes that are modules, or
objects of people's own classes, are looked into likewise. What else has changed, a resumed training says: so where two
attributes have one object that had two, or the reverse.
"""

import hashlib
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from podium.errors import InputError
from podium.training.module_parts import has_buffer, parts_of, unsaved_buffers
from podium.training.own_changes import look_of, looks_of_code
from podium.training.own_places import RANDOM, attributes, firsts, holders, inside, is_handled, is_inner
from podium.training.plain_state import PLAIN, packed, unpacked

LARGE = 1 << 20
"""Bytes from which on an array or a tensor is saved only where it has changed: it may be a set of images."""
BITS = {
    one.__name__: one
    for one in (np.random.PCG64, np.random.MT19937, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
}
DICTS = (dict, OrderedDict, Counter, defaultdict)
Node = dict[str, Any]
"""What one object held: `values` of attributes, where `numbers` of generators are, the `tensors` of a module, the
`states` of attributes that give one; `here`: which values are on the device; `lost`: what could not be saved;
`anew`: attributes that have one object with others, or no longer, each with the first of these."""


class OwnState:
    """What `roots`, objects by what they are called in params.yaml, hold besides their code."""

    def __init__(self, roots: Mapping[str, Any], device: torch.device, network: nn.Module | None = None) -> None:
        """Of an own `network` count plain attributes and the buffers that its state dict does not have."""
        self._roots, self._device = dict(roots), device
        self._network = network
        self._begun: dict[str, Any] = {}
        """The attributes of all objects as they were at the beginning, by place; of what is large, a digest."""
        self._looks: dict[str, str] = {}
        """Of what no checkpoint has, at the beginning, by what it is."""
        self._firsts: dict[str, str] = {}
        """Of each attribute the first that had the same object, at the beginning."""
        self._places: set[str] = set()
        """Of all objects that were looked into at the beginning."""
        for name in self._roots:
            self._begin(name)

    def replace(self, name: str, root: Any, state: Mapping[str, Node]) -> None:
        """Take `root` in the place of the one that was there, and have it go on where `state` was."""
        self._roots[name] = root
        self._begin(name)
        for place, holder in holders(root, name):
            if place in state:
                self._put(holder, state[place])

    def state(self) -> dict[str, Node]:
        """What they hold now, for a checkpoint; those that hold nothing are left out."""
        now = firsts(self._every(), self._firsts)
        found = {place: self._node(holder, place, now) for place, holder in self._every()}
        found |= {place: self._of_network(module) for place, module in self._layers()}
        looks = [pair for name, root in self._roots.items() for pair in looks_of_code(root, name).items()]
        found[""] = {"lost": lost} if (lost := [what for what, look in looks if self._looks.get(what) != look]) else {}
        return {place: node for place, node in found.items() if node}

    def restore(self, state: Mapping[str, Node]) -> list[str]:
        """Go back to what `state` returned, here or in another process; returns notes about what could not be saved."""
        there = dict(self._every()) | dict(self._layers())
        for place, holder in there.items():
            if place in state:
                self._put(holder, state[place])
        self._share(state, dict(there))
        lost = [f"{place}.{name}".lstrip(".") for place, node in state.items() for name in node.get("lost", ())]
        for place in state:  # an object that this process does not have
            is_of_root = any(place.startswith((f"{name}.", f"{name}/")) for name in self._roots)
            if is_of_root and place not in there and not any(f"{place}.".startswith(f"{one}.") for one in lost):
                lost.append(place)
        return [f"{one} is of a kind that no checkpoint has: it is as at the beginning again" for one in lost]

    def _every(self) -> Iterator[tuple[str, Any]]:
        """Objects that have the place of the beginning first: another attribute may have them too by now."""
        given: set[int] = set()
        for name, root in self._roots.items():
            for known in (self._places, None):
                for place, holder in holders(root, name, known):
                    if id(holder) not in given:
                        given.add(id(holder))
                        yield place, holder

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        if self._network is not None and not isinstance(self._network, torch.jit.ScriptModule):
            for path, module in self._network.named_modules():
                yield f"model.name/{path}", module

    def _begin(self, name: str) -> None:
        self._looks |= looks_of_code(self._roots[name], name)
        found = list(holders(self._roots[name], name))
        self._firsts |= firsts(found, {})
        self._places |= {place for place, _ in found}
        for place, holder in found:
            for attribute, value in attributes(holder).items():
                where = f"{place}.{attribute}"
                self._begun[where] = _digest(value) if _is_large(value) else value
                self._looks[where] = "" if _is_large(value) else look_of(value)
            self._begun |= {f"{place}/{n}": _digest(one) for n, one in _tensors(holder).items() if _is_large(one)}

    def _share(self, state: Mapping[str, Node], there: Mapping[str, Any]) -> None:
        """Give attributes the values that others have, where they had them in common when `state` was saved."""
        values = {f"{place}.{name}": one for place, holder in there.items() for name, one in inside(holder).items()}
        for place, node in state.items():
            for name, first in node.get("anew", {}).items():
                saved = name in node.get("values", ()) or name in node.get("numbers", ())
                if saved and place in there and first in values:
                    vars(there[place])[name] = values[first]

    def _node(self, holder: Any, place: str, now: Mapping[str, str]) -> Node:
        if is_handled(holder):
            return _stated(holder, place)
        values: dict[str, Any] = {}
        moved = {
            name: first
            for name in inside(holder)
            if (first := now.get(where := f"{place}.{name}")) and self._firsts.get(where, where) != first
        }
        parts = parts_of(holder) if isinstance(holder, nn.Module) and moved else {}
        node: Node = {
            "values": values,
            "numbers": {},
            "states": {},
            "tensors": {
                name: one
                for name, one in _tensors(holder).items()
                if name in moved or not (_is_large(one) and self._begun.get(f"{place}/{name}") == _digest(one))
            },
            "lost": [name for name in moved if isinstance(parts.get(name), nn.Module)],
            "here": [],
            "anew": moved,
        }
        for name, value in attributes(holder).items():
            where = f"{place}.{name}"
            if isinstance(value, RANDOM):
                node["numbers"][name] = _numbers(value)
            elif is_handled(value):
                node["states"][name] = _stated(value, where)
                node["lost"] += [name] * (name in moved or type(self._begun.get(where)) is not type(value))
            elif is_inner(value):
                node["lost"] += [name] * (name in moved or type(self._begun.get(where)) is not type(value))
            elif name in moved or not (_is_large(value) and self._begun.get(where) == _digest(value)):
                try:
                    values[name] = packed(value, where)
                    node["here"] += [name] * _is_elsewhere(value)
                except InputError:
                    same = self._begun.get(where, node) is value and self._looks.get(where) == look_of(value)
                    if isinstance(value, Iterator) or not same:
                        node["lost"].append(name)
        return {key: one for key, one in node.items() if one}

    def _of_network(self, module: nn.Module) -> Node:
        """A layer of an own network: what else it keeps is a cache more often than not."""
        held = attributes(module)
        numbers = {name: _numbers(value) for name, value in held.items() if isinstance(value, RANDOM)}
        values = {name: value for name, value in held.items() if type(value) in PLAIN}
        unsaved = {name: getattr(module, name) for name in unsaved_buffers(module)}
        tensors = {name: one.detach().clone() for name, one in unsaved.items() if one is not None}
        return {key: one for key, one in {"values": values, "numbers": numbers, "tensors": tensors}.items() if one}

    def _put(self, holder: Any, node: Node) -> None:
        if "state" in node:
            holder.load_state_dict(unpacked(node["state"]))
            return
        held = vars(holder) if hasattr(holder, "__dict__") else {}
        for name in node.get("anew", ()):  # what is there may be another attribute's too
            if has_buffer(holder, name):
                setattr(holder, name, None)
            elif name in node.get("values", ()) or name in node.get("numbers", ()):
                held[name] = None
        for name, value in node.get("values", {}).items():
            _put_value(held, name, _on(unpacked(value), self._device if name in node.get("here", ()) else None))
        for name, there in node.get("numbers", {}).items():
            _set_numbers(held, name, there, self._device)
        for name, given in node.get("states", {}).items():
            if is_handled(held.get(name)):
                held[name].load_state_dict(unpacked(given["state"]))
        for name, tensor in node.get("tensors", {}).items():
            _put_tensor(holder, name, tensor, self._device)


class PassedOn(OwnState):
    """The state of objects that are elsewhere, as it came from there."""

    _passed: Mapping[str, Node] = {}

    def state(self) -> dict[str, Node]:
        """What `restore` was given."""
        return dict(self._passed)

    def restore(self, state: Mapping[str, Node]) -> list[str]:
        """Keep `state` for `state`."""
        self._passed = state
        return []


def _tensors(holder: Any) -> dict[str, Tensor]:
    """Parameters and buffers of a module, without those of the modules in it."""
    if not isinstance(holder, nn.Module):
        return {}
    named = [*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False)]
    return {name: one.detach().clone() for name, one in named if not nn.parameter.is_lazy(one)}


def _stated(value: Any, place: str) -> Node:
    try:
        return {"state": packed(value.state_dict(), place)}
    except InputError:
        return {"lost": ["state_dict()"]}


def _put_value(held: dict[str, Any], name: str, new: Any) -> None:
    """Put `new` in its place, into what is there where that is alike: others may hold it too."""
    if not _filled(held.get(name), new):
        held[name] = new


def _filled(old: Any, new: Any) -> bool:
    """Whether all of `new` could be put into `old`."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return _copied(old, new)
    if type(old) is not type(new):
        return False
    if isinstance(old, np.ndarray):
        if old.shape != new.shape or old.dtype != new.dtype or not old.flags.writeable:
            return False
        old[...] = new
    elif isinstance(old, list):
        old[:] = new
    elif isinstance(old, set | dict):
        old.clear()
        old.update(new)
    elif isinstance(old, deque) and old.maxlen == new.maxlen:
        old.clear()
        old.extend(new)
    else:
        return False
    return True


def _put_tensor(module: nn.Module, name: str, tensor: Tensor, device: torch.device) -> None:
    """Put a parameter or a buffer back; a buffer may have another shape than at the beginning, or have been None."""
    there = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
    old = there.get(name)
    if (old is None or not _copied(old, tensor)) and has_buffer(module, name):
        setattr(module, name, tensor.to(device if old is None else old.device, copy=True))


def _copied(old: Tensor, new: Tensor) -> bool:
    """Whether the numbers of `new` could be put into `old`: not into one of another shape, or that was expanded."""
    if old.shape != new.shape or old.dtype != new.dtype:
        return False
    try:
        with torch.no_grad():
            old.copy_(new)
    except RuntimeError:
        return False
    return True


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors_in(list(value.values()))
    elif isinstance(value, Iterable) and type(value) not in PLAIN and not isinstance(value, np.ndarray):
        for one in value:
            yield from _tensors_in(one)


def _is_elsewhere(value: Any) -> bool:
    return any(one.device.type != "cpu" for one in _tensors_in(value))


def _on(value: Any, device: torch.device | None) -> Any:
    """`value` with all tensors in it on the device; None: as they are."""
    if device is None:
        return value
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, DICTS):
        for key in value:
            value[key] = _on(value[key], device)
        return value
    if isinstance(value, deque):
        return deque((_on(one, device) for one in value), value.maxlen)
    return type(value)(_on(one, device) for one in value) if type(value) in (list, tuple) else value


def _is_large(value: Any) -> bool:
    if isinstance(value, Tensor):
        if nn.parameter.is_lazy(value):
            return False
        return value.device.type == "cpu" and value.layout is torch.strided and value.nbytes >= LARGE
    return isinstance(value, np.ndarray) and not value.dtype.hasobject and value.nbytes >= LARGE


def _digest(value: Any) -> str:
    if isinstance(value, Tensor):
        value = value.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).hexdigest()


def _numbers(value: Any) -> Node:
    """Which generator of random numbers `value` is, and where it is."""
    if isinstance(value, np.random.Generator):
        return {"kind": type(value.bit_generator).__name__, "at": packed(value.bit_generator.state, "")}
    if isinstance(value, np.random.RandomState):
        return {"kind": "RandomState", "at": packed(value.get_state(legacy=False), "")}
    if isinstance(value, torch.Generator):
        return {"kind": "torch", "at": value.get_state()}
    return {"kind": "Random", "at": value.getstate()}


def _set_numbers(held: dict[str, Any], name: str, there: Node, device: torch.device) -> None:
    """Put the generator `name` of `held` back where it was; one that was made after the beginning is made anew."""
    kind, at = there["kind"], unpacked(there["at"])
    if not isinstance(held.get(name), RANDOM) or _numbers(held[name])["kind"] != kind:
        held[name] = _generator(kind, device)
    value = held[name]
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = at
    elif isinstance(value, np.random.RandomState):
        value.set_state(at)
    elif isinstance(value, torch.Generator):
        value.set_state(at.cpu())
    else:
        value.setstate(at)


def _generator(kind: str, device: torch.device) -> Any:
    if kind == "torch":
        return torch.Generator(device)
    if kind == "Random":
        return random.Random()  # noqa: S311 (no secret)
    if kind == "RandomState":
        return np.random.RandomState()
    return np.random.Generator(BITS[kind]())
