"""The way into MLflow: one store, one experiment, made once. With `registry` the only code that imports mlflow."""

import os
from dataclasses import dataclass
from pathlib import Path

# Said before mlflow is imported: no telemetry, and no look at a package index while a model is logged.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium import paths
from podium.locks import locked
from podium.params import TrackingParams

SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Tracking:
    """An MLflow store and the experiment in which everything is recorded."""

    client: MlflowClient
    uri: str
    experiment_id: str


def resolve_uri(uri: str) -> str:
    """`uri` with a relative SQLite path made absolute from the project's root."""
    if uri.startswith(SQLITE) and not uri.startswith(SQLITE + "/"):
        return f"{SQLITE}{paths.root() / uri.removeprefix(SQLITE)}"
    return uri


def connect(params: TrackingParams) -> Tracking:
    """Open the store of `params.uri`, made on first use, and its experiment.

    A fresh SQLite store runs its migrations on first use and two processes doing so at once break it: hence the lock.
    """
    uri = resolve_uri(params.uri)
    local = uri.startswith(SQLITE)
    folder = Path(uri.removeprefix(SQLITE)).parent if local else paths.mlruns()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "mlflow.lock", wait=True):
        client = MlflowClient(uri, registry_uri=uri)
        return Tracking(client, uri, _experiment(client, params.experiment, folder if local else None))


def _experiment(client: MlflowClient, name: str, folder: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (folder / "artifacts").as_uri() if folder else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:  # another machine made it since we looked
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
