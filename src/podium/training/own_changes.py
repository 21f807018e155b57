"""What people's own objects remember where no checkpoint looks: whether it has changed since a training began.

That is what objects hold that an own object holds, and what its functions keep in closures, defaults, attributes of
their own and global variables. It begins anew in a resumed training, which has to be said.
"""

import enum
import hashlib
import inspect
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
from podium.training.plain_state import PLAIN

DEPTH = 4
"""Of objects within objects that are looked at."""
MOST = 10_000
"""Elements of a collection that are looked at."""
LARGEST = 64 << 20
"""Bytes of an array that are looked at, of a larger one about as many: that costs 0.1 s with each checkpoint."""
COLLECTIONS = (list, tuple, set, frozenset, deque)
CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def is_of_own_class(value: Any) -> bool:
    """Whether `value` is of a class that people wrote themselves and that has attributes; no enumeration's."""
    own = any(map(own_code.is_own, type(value).__mro__))
    return own and isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, enum.Enum)


def look_of(value: Any, depth: int = DEPTH) -> str:
    """A text that differs where what `value` holds does, as far as that can be seen from outside.

    Objects of libraries are not looked into, but for modules and generators of random numbers: they have caches.
    """
    kind = type(value).__qualname__
    if isinstance(value, str | bytes):
        return f"{kind} {hash(value)}"
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, random.Random | np.random.RandomState):
        return f"{kind} {hash(str(value.getstate() if isinstance(value, random.Random) else value.get_state()))}"
    if isinstance(value, np.random.Generator):
        return f"{kind} {value.bit_generator.state}"
    if isinstance(value, torch.Generator):
        return f"{kind} {_content(value.get_state())}"
    if isinstance(value, Tensor | np.ndarray):
        return f"{kind} {_content(value)}"
    if isinstance(value, enum.Enum):
        return f"{kind}.{value.name}"
    if isinstance(value, CODE) or depth == 0:
        return kind
    if isinstance(value, Mapping) and len(value) <= MOST:
        return f"{kind} {[(look_of(key, depth - 1), look_of(one, depth - 1)) for key, one in value.items()]}"
    if isinstance(value, COLLECTIONS) and len(value) <= MOST:
        return f"{kind} {[look_of(one, depth - 1) for one in value]}"
    if isinstance(value, nn.Module):
        return f"{kind} {look_of(value.state_dict(), depth)}"
    return f"{kind} {look_of(vars(value), depth - 1)}" if is_of_own_class(value) else kind


def looks_of_code(root: Any, name: str) -> dict[str, str]:
    """What the functions of `root`, which params.yaml calls `name`, keep themselves: a look of each, by what it is."""
    while isinstance(root, partial):
        root = root.func
    found: dict[str, str] = {}
    for function in _functions(root):
        for what, value in _kept(function):
            if not isinstance(value, CODE):
                found[f"{name}: {what}"] = look_of(value)
    return found


def _functions(root: Any) -> Iterator[types.FunctionType]:
    """`root` itself, or the methods of its classes, where people wrote them."""
    if isinstance(root, types.MethodType):
        root = root.__self__
    every = [root] if isinstance(root, types.FunctionType) else []
    if not every:
        every = [one for kind in type(root).__mro__ for one in vars(kind).values()]
    for one in every:
        inner = inspect.unwrap(one) if callable(one) else one
        if isinstance(inner, types.FunctionType) and own_code.is_own(inner):
            yield inner


def _kept(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {variable} around {function.__name__}", cell.cell_contents
        except ValueError:  # it has none yet
            continue
    for argument, one in inspect.signature(function).parameters.items():
        if one.default is not inspect.Parameter.empty:
            yield f"the default of {argument} in {function.__name__}", one.default
    for attribute, value in vars(function).items():
        yield f"{function.__name__}.{attribute}", value
    for variable in _names(function.__code__):
        if variable in function.__globals__:
            yield f"the global variable {variable}", function.__globals__[variable]


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that `code` and the functions in it use."""
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _names(one)


def _content(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.device.type != "cpu" or value.layout is not torch.strided:
            return str(value.shape)
        value = value.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
    if value.dtype.hasobject:
        return str(value.shape)
    flat = value.reshape(-1)[:: 1 + value.nbytes // LARGEST]
    return f"{value.shape} {hashlib.blake2b(np.ascontiguousarray(flat).view(np.uint8).data).hexdigest()}"
