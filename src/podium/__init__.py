"""Podium: from images, or a PyTorch program of your own, to a tuned, registered and promotable model."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podium.api import PreparedData, Trained, build_network, load_params, prepared_data, search, train
    from podium.tracking.store import open_store as connect
    from podium.tracking.trial_logger import TrialLogger

__all__ = [
    "PreparedData",
    "Trained",
    "TrialLogger",
    "build_network",
    "connect",
    "load_params",
    "prepared_data",
    "search",
    "train",
]

_PLACES = {
    "TrialLogger": ("podium.tracking.trial_logger", "TrialLogger"),
    "connect": ("podium.tracking.store", "open_store"),
}
"""Names that lie elsewhere than in podium.api, each with its module and its name there."""


def __getattr__(name: str) -> Any:
    """A name of the Python API, imported when it is first asked for: `import podium` stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'podium' has no attribute {name!r}")
    module, attribute = _PLACES.get(name, ("podium.api", name))
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
