"""Podium: from a set of images to a tuned, registered and promotable PyTorch classifier."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "TrialLogger": ("podium.tracking.trial_logger", "TrialLogger"),
    "connect": ("podium.tracking.store", "open_store"),
}
"""Names to import from here, each with its module and its name there. It is loaded on first use: MLflow takes 1 s."""
__all__ = ["TrialLogger", "connect"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
