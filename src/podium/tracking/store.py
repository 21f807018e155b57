"""The way into MLflow: one store, one experiment, made once."""

import logging
import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# Said before mlflow is imported: no telemetry, and no look at a package index while a model is logged.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
# A server's client would print two lines of addresses for every trial.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that is away is noticed in seconds: MLflow's seven retries take four minutes, and we retry ourselves.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.locks import locked
from podium.text import MASK, masked
from podium.tracking import relocation

SQLITE = "sqlite:///"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of the experiment: MLflow's pages then begin with training runs and their charts, not with those for chat models."""


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


def database(uri: str) -> Path | None:
    """The SQLite file of a tracking URI; None: the store is a server."""
    uri = resolve_uri(uri)
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def connect(params: TrackingParams) -> Tracking:
    """Open the store of `params.uri`, made on first use, and its experiment.

    A fresh SQLite store runs its migrations on first use and two processes doing so at once break it: hence the lock.
    """
    uri = resolve_uri(params.uri)
    local = database(params.uri)
    folder = local.parent if local else paths.mlruns()
    # Its migrations are of no interest, and every error that it logs with pages of traceback it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        with locked(folder / "mlflow.lock", wait=True):
            if local and (followed := relocation.relocate(local, params.experiment)):
                move, count = followed
                print(
                    f"podium: the project was moved from {move.stored}: {count} stored paths followed", file=sys.stderr
                )
            client = MlflowClient(uri, registry_uri=uri)
            return Tracking(client, uri, _experiment(client, params.experiment, folder if local else None))
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise PodiumError(
            f"tracking.uri: {shown(uri)} does not work: {masked(' '.join(str(error).split()))[:300]}."
            " See that the server is running or the folder can be written, then run again: what is done stays done"
        ) from error


def shown(uri: str) -> str:
    """`uri` without the password that it may hold."""
    password = urlsplit(uri).password
    return masked(uri.replace(f":{password}@", f":{MASK}@") if password else uri)


def _experiment(client: MlflowClient, name: str, folder: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (folder / "artifacts").as_uri() if folder else None
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=KIND))
    except MlflowException:  # another machine made it since we looked
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
