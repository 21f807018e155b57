"""Optimizers without the compiler: training starts 1.6 s earlier and takes 120 MB less in every process.

torch.optim imports torch._dynamo only to exclude the optimizer from compilation. Where nothing is compiled there is
nothing to exclude, so `torch._dynamo` is here a module that answers just that, and becomes the real one as soon as it
is asked for anything else (torch.compile, torch.export).

All of this is private to torch (2.14). Where another version has other names, or calls them otherwise, the real module
answers and only the time is lost: a failure leaves torch as it was.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from podium.private_names import say

NAME = "torch._dynamo"
KNOWN = {"recursive", "wrapping"}
"""The options of torch._dynamo.disable that make no difference to a function that is never compiled."""


class _Later(ModuleType):
    """torch._dynamo until somebody needs more of it than the optimizers do."""

    def disable(self, fn: Callable[..., Any] | None = None, *options: Any, **named: Any) -> Any:
        """`fn` itself: what is never compiled need not be excluded. Asked for anything else, the real answer."""
        if callable(fn) and len(options) <= 1 and named.keys() <= KNOWN:
            return fn
        return self._real().disable(fn, *options, **named)

    def graph_break(self, *options: Any, **named: Any) -> None:
        """Outside a compiled function this does nothing in torch either."""

    def __getattr__(self, name: str) -> Any:
        # A module's own facts are asked for by whoever walks over all modules (inspect does, in the middle of other
        # imports): nobody needs the compiler for that. `__path__` is what an import of a submodule begins with.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        _withdraw(self)
        return importlib.import_module(NAME)


def without_compiler() -> None:
    """Put off the import of torch._dynamo, where it has not happened yet; whatever goes wrong, torch is as it was."""
    if NAME in sys.modules:
        return
    later = _Later(NAME)
    try:
        later.__spec__ = importlib.util.find_spec(NAME)
        if later.__spec__ is None:  # this torch has none
            return
        sys.modules[NAME] = later
        torch._dynamo = later
    except Exception as error:
        _withdraw(later)
        say("torch", "training starts a second or two later", error)


def _withdraw(later: _Later) -> None:
    """Leave nothing of `later` where torch or the next import would find it."""
    if sys.modules.get(NAME) is later:
        del sys.modules[NAME]
    if vars(torch).get("_dynamo") is later:
        del torch._dynamo
