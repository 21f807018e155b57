"""What people's own objects remember where no checkpoint looks: whether it has changed since a training began.

That is what objects hold that an own object holds, and what its functions keep in closures, defaults, attributes of
their own and global variables. It begins anew in a resumed training, which has to be said.
"""

import enum
import hashlib
import inspect
import math
import random
import types
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from podium import own_code
from podium.training.module_parts import unsaved_buffers
from podium.training.plain_state import PLAIN

DEPTH = 4
"""Of objects within objects that are looked at."""
MOST = 6_000
"""What a look may cost: an element costs one, a kilobyte of an array too. That is some 10 ms, whatever there is."""
KILOBYTE = 1024
OF_ARRAY = 12
"""What an array costs beside its bytes: a network has hundreds, most of them small."""
OF_NUMBERS = 60
"""What a generator of random numbers of Python or NumPy costs."""
LEAST = 16
"""What each element of a collection may cost, as long as something is left."""
SAMPLED = 1 << 15
"""Numbers of an array that are looked at where it is too large to be looked at whole: each is a line of the cache."""
COLLECTIONS: tuple[Any, ...] = (list, tuple, set, frozenset, deque, dict)
RANDOM = (random.Random, np.random.RandomState, np.random.Generator)
CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def is_of_own_class(value: Any) -> bool:
    """Whether `value` is of a class that people wrote themselves, and has all it holds as attributes in a `__dict__`:
    no enumeration, no number, text or collection of their own, and nothing with `__slots__`."""
    if isinstance(value, (enum.Enum, *PLAIN, *COLLECTIONS)) or slots_of(value):
        return False
    return any(map(own_code.is_own, type(value).__mro__)) and isinstance(getattr(value, "__dict__", None), dict)


def slots_of(value: Any) -> dict[str, Any]:
    """What `value` holds in the `__slots__` of classes that people wrote themselves."""
    found: dict[str, Any] = {}
    kinds = () if isinstance(value, CODE) else type(value).__mro__
    for kind in filter(own_code.is_own, kinds):
        for name, one in vars(kind).items():
            if isinstance(one, types.MemberDescriptorType):
                with suppress(AttributeError):  # it has none yet
                    found[name] = one.__get__(value)
    return found


def look_of(value: Any) -> str:
    """A text that differs where what `value` holds does, as far as that can be seen from outside and at a bounded cost.

    Objects of libraries are not looked into, but for modules and generators of random numbers: they have caches. What
    can't be looked at has the look of its kind: nothing raises.
    """
    look = _Look()
    look.take(value, MOST, DEPTH)
    return look.text()


class _Look:
    """A hash of what is taken, which is all that is kept."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def text(self) -> str:
        """The look of all that was taken."""
        return self._hash.hexdigest()

    def take(self, value: Any, left: int, depth: int) -> int:
        """Take `value` at the cost of about `left` at most; returns the cost."""
        self._add(type(value).__qualname__)
        try:
            return self._took(value, left, depth)
        except own_code.RAISED:  # somebody's own repr, or a tensor of a kind that has no bytes
            return OF_ARRAY

    def _took(self, value: Any, left: int, depth: int) -> int:
        if isinstance(value, str | bytes):
            self._add(f"{len(value)} {hash(value[:: 1 + len(value) // (KILOBYTE * max(left, 1))])}")
            return 1 + min(left, len(value) // KILOBYTE)
        if isinstance(value, enum.Enum):
            self._add(value.name)
        elif isinstance(value, (*PLAIN, complex)):
            self._add(repr(value))
        elif isinstance(value, RANDOM):
            self._add(_numbers(value))
            return OF_NUMBERS
        elif isinstance(value, torch.Generator):
            return self._array(value.get_state(), left)
        elif isinstance(value, Tensor | np.ndarray | np.generic):
            return self._array(np.asarray(value) if isinstance(value, np.generic) else value, left)
        elif depth and not isinstance(value, CODE):
            return self._elements(value, left, depth)
        return 1

    def _elements(self, value: Any, left: int, depth: int) -> int:
        if isinstance(value, nn.Module):
            return 1 + self._every(_tensors(value), sum(1 for _ in islice(_tensors(value), left)), left, depth)
        cost = 1
        for base in COLLECTIONS:  # by its own methods: those of a class derived from it may do whatever they like
            if isinstance(value, base):
                count = base.__len__(value)
                self._add(str(count))
                cost += self._every(_inside(base, value, left), min(count, left), left, depth)
        if isinstance(getattr(value, "__dict__", None), dict) and any(map(own_code.is_own, type(value).__mro__)):
            cost += self._every(iter(vars(value).items()), len(vars(value)), left - cost, depth)
        slots = slots_of(value)
        return cost + self._every(iter(slots.items()), len(slots), left - cost, depth)

    def _every(self, elements: Iterator[Any], count: int, left: int, depth: int) -> int:
        """Take `count` elements, each with its share of what the earlier ones have left."""
        cost = 0
        for number, one in enumerate(elements):
            if cost >= left:
                break
            share = min(left - cost, max(LEAST, (left - cost) // max(1, count - number)))
            pair = type(one) is tuple and len(one) == 2
            cost += sum(self.take(part, share, depth - 1) for part in (one if pair else (one,)))
        return cost

    def _array(self, value: Any, left: int) -> int:
        if isinstance(value, Tensor) and nn.parameter.is_lazy(value):
            return 1
        self._add(str(tuple(value.shape)))
        if not _has_bytes(value) or (isinstance(value, np.memmap) and value.nbytes > KILOBYTE * KILOBYTE):
            return 1
        bytes_ = KILOBYTE * max(1, left - OF_ARRAY)
        part = value.detach() if isinstance(value, Tensor) else value
        if value.nbytes > bytes_:
            part = _sample(part, min(SAMPLED, max(1, bytes_ // part.itemsize)))
        if isinstance(part, Tensor):
            part = part.resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8).numpy()
        self._hash.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        return OF_ARRAY + int(min(value.nbytes, bytes_)) // KILOBYTE

    def _add(self, text: str) -> None:
        self._hash.update(f"{len(text)} {text}".encode(errors="replace"))


def looks_of_code(root: Any, name: str) -> dict[str, str]:
    """What the functions of `root`, which params.yaml calls `name`, keep themselves: a look of each, by what it is."""
    while isinstance(root, partial):
        root = root.func
    found: dict[str, str] = {f"{name}: its slot {slot}": look_of(one) for slot, one in slots_of(root).items()}
    if isinstance(root, COLLECTIONS):
        found[f"{name}: its elements"] = look_of(root)
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


def _numbers(value: Any) -> str:
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, random.Random):
        return str(value.getstate())
    _, numbers, *others = value.get_state()
    return f"{numbers.tobytes()!r} {others}"


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What its state dict has, one after the other: a large one is not made whole."""
    for path, one in module.named_modules():
        for name, parameter in one.named_parameters(recurse=False):
            yield f"{path}.{name}", parameter
        unsaved = unsaved_buffers(one)
        for name, buffer in one.named_buffers(recurse=False):
            if name not in unsaved:
                yield f"{path}.{name}", buffer


def _inside(base: Any, value: Any, most: int) -> Iterator[Any]:
    """About `most` of what `value`, of a class derived from `base`, holds."""
    if base is dict:
        return islice(iter(dict.items(value)), most)
    if base in (list, tuple):
        return iter(base.__getitem__(value, slice(None, None, 1 + base.__len__(value) // max(1, most))))
    return islice(base.__iter__(value), most)


def _has_bytes(value: Any) -> bool:
    """Whether its numbers are in the memory of this process, and no objects."""
    if isinstance(value, Tensor):
        return value.device.type == "cpu" and value.layout is torch.strided
    return not value.dtype.hasobject


def _sample(value: Any, most: int) -> Any:
    """About `most` numbers from all over an array or a tensor, of which no copy is made."""
    count = math.prod(value.shape)
    if value.is_contiguous() if isinstance(value, Tensor) else value.flags.c_contiguous:
        return value.reshape(-1)[:: (count // most) | 1]  # an odd step: it meets all columns of most tables
    steps: list[slice] = []
    for size in value.shape:
        step = max(1, min(size, count // most))
        steps.append(slice(None, None, step))
        count //= step
    return value[tuple(steps)]
