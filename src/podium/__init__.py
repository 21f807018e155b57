"""Podium: from images, or a PyTorch program of your own, to a tuned, registered and promotable model."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podium.api import PreparedData, Trained, build_network, load_params, prepared_data, search, train
    from podium.tracking.store import connect
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

_PLACES = {"TrialLogger": "podium.tracking.trial_logger", "connect": "podium.tracking.store"}


def __getattr__(name: str) -> Any:
    """A name of the Python API, imported when it is first asked for: `import podium` stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'podium' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES.get(name, "podium.api")), name)
