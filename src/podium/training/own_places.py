"""Where people's own objects hold what they remember: the objects within them, and which attributes share one."""

import random
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from podium.training.module_parts import parts_of
from podium.training.own_changes import is_of_own_class
from podium.training.plain_state import PLAIN

OF_TORCH = {*vars(nn.Module()), "training"}
"""Attributes that every torch module has."""
RANDOM = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
NO_HOLDER = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, Tensor, np.ndarray, *RANDOM)


def holders(
    root: Any, name: str, known: set[str] | None = None, seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """The objects of `root` whose attributes are saved, with their places: itself, the modules of a module, and those
    of their attributes that are modules or of people's own classes. With `known`, those in these places only."""
    seen = set() if seen is None else seen
    while isinstance(root, partial | types.MethodType):
        root = root.func if isinstance(root, partial) else root.__self__
    found: list[tuple[str, Any]] = []
    if isinstance(root, nn.Module):
        every = root.named_modules(remove_duplicate=known is None)
        found = [(f"{name}/{path}" if path else name, module) for path, module in every]
    elif not isinstance(root, NO_HOLDER) and (hasattr(root, "__dict__") or is_handled(root)):
        found = [(name, root)]
    for place, holder in found:
        if id(holder) in seen or (known is not None and place not in known):
            continue
        seen.add(id(holder))
        yield place, holder
        for attribute, value in attributes(holder).items():
            if is_inner(value):
                yield from holders(value, f"{place}.{attribute}", known, seen)


def firsts(holders: Iterable[tuple[str, Any]], before: Mapping[str, str]) -> dict[str, str]:
    """Of each attribute the first with the same object, where attributes of `before` come first and in its order."""
    every = {f"{place}.{name}": one for place, holder in holders for name, one in inside(holder).items()}
    met: dict[int, str] = {}
    for where in [*before, *(one for one in every if one not in before)]:
        if where in every:
            met.setdefault(id(every[where]), where)
    return {where: met[id(one)] for where, one in every.items() if type(one) not in PLAIN}


def inside(holder: Any) -> dict[str, Any]:
    """The attributes of `holder`, and the parameters, buffers and modules in it."""
    parts: dict[str, Any] = {}
    if isinstance(holder, nn.Module) and not isinstance(holder, torch.jit.ScriptModule):
        parts = parts_of(holder)
    return parts | attributes(holder)


def is_inner(value: Any) -> bool:
    """Whether `value`, an attribute of an object, is looked into as that is."""
    if isinstance(value, NO_HOLDER) or is_handled(value):
        return False
    return isinstance(value, nn.Module) or is_of_own_class(value)


def attributes(holder: Any) -> dict[str, Any]:
    """What `holder` has as attributes: of a module, what it has beyond every module's own."""
    if isinstance(holder, torch.jit.ScriptModule) or is_handled(holder):
        return {}
    if isinstance(holder, nn.Module):
        return {name: one for name, one in vars(holder).items() if name not in OF_TORCH}
    return dict(vars(holder))


def is_handled(value: Any) -> bool:
    """Whether `value` says its state itself, as an optimizer does; a module's is taken apart."""
    return not isinstance(value, nn.Module | type) and all(
        callable(getattr(type(value), name, None)) for name in ("state_dict", "load_state_dict")
    )
