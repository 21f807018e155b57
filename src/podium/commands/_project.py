"""What many commands begin with: the project's parameters, and the store that they name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.tracking.store import Tracking


@contextmanager
def opened() -> "Iterator[tuple[Tracking, str]]":
    """The store of params.yaml in this folder and `register.name`. MLflow's own errors become a PodiumError."""
    from podium import paths
    from podium.config.params import load
    from podium.registry import versions
    from podium.tracking.store import connect, shown

    params = load(paths.PARAMS)
    with versions.mlflow_errors(f"the MLflow store of tracking.uri ({shown(params.tracking.uri)}) refuses"):
        yield connect(params.tracking), params.register_.name
