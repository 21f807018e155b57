"""The way into MLflow: one store, one experiment, made once; runs by their tags.

A local store that was moved or copied follows: MLflow keeps absolute paths, and here they become those of the present
folder. The root is where its database lies: artifacts lie beside it.
"""

import logging
import os
import re
import sqlite3
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from alembic.util.exc import CommandError
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError, RefusedError
from podium.private_names import private_or_public
from podium.text import MASK, masked, reason_of
from podium.tracking import fresh_database
from podium.tracking.doubles import Calls
from podium.tracking.fresh_database import SQLITE
from podium.tracking.refusal import check_names, check_types, deleted, no_mlflow, refusal
from podium.tracking.run_names import SUPERSEDED_TAG
from podium.tracking.sqlite_reading import read_runs
from podium.tracking.store_lock import alone
from podium.tracking.synchronous_client import SynchronousClient

LOCAL = SQLITE + "mlruns/mlflow.db"
"""Where `open_store` finds its store where no uri is given."""
PAGE = 500
"""Runs a call, about 2 s of a processor of the server: a busy one has to answer within MLFLOW_HTTP_REQUEST_TIMEOUT."""
SMALL_PAGE = 100
"""Runs a call of a server that was too busy for those of a page."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of the experiment: MLflow's pages then begin with training runs and their charts, not with those for chat models."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow 3.17 stores paths."""
ARTIFACTS = "artifacts"
STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
"""What MLflow's client raises where a store is away or refuses."""
_calls = Calls()
"""Those of this process that made a run in `find_or_create`."""


@dataclass(frozen=True)
class Tracking:
    """An MLflow store and the experiment in which everything is recorded."""

    client: MlflowClient
    uri: str
    experiment_id: str
    experiment: str = "podium"
    """Its name."""


def resolve_uri(uri: str) -> str:
    """`uri` with a relative SQLite path made absolute from the project's root."""
    if uri.startswith(SQLITE) and not uri.startswith(SQLITE + "/"):
        return f"{SQLITE}{paths.root() / uri.removeprefix(SQLITE)}"
    return uri


def database(uri: str) -> Path | None:
    """The SQLite file of a tracking URI; None: the store is a server."""
    uri = resolve_uri(uri)
    # What follows a question mark, such as ?timeout=60, is for SQLite's driver.
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def connect(params: TrackingParams) -> Tracking:
    """Open the store of `params.uri`, made on first use, and its experiment. Raises PodiumError where it is away."""
    return open_store(params.uri, params.experiment)


def open_store(uri: str | None = None, experiment: str = "podium") -> Tracking:
    """Open the MLflow store at `uri`, by default that of the current folder's mlruns, and its `experiment`.

    Both are made on first use. Raises RefusedError where a person has to act first (the experiment was deleted, no
    permission, the database of another MLflow, a file that can't be written), PodiumError where the store is away.
    """
    check_types(uri, experiment)
    uri = resolve_uri(LOCAL if uri is None else uri)
    check_names(uri, experiment)
    local = database(uri)
    # Its migrations are of no interest, and every error that it logs with pages of traceback it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        if local is None or _only_read(local):
            client = SynchronousClient(uri, registry_uri=uri)
            if experiment_id := _known_experiment(client, uri, experiment):  # without a file: a container has none
                return Tracking(client, uri, experiment_id, experiment)
        with alone(local, shown(uri)):  # two processes that run the migrations of a fresh store at once break it
            if local and (followed := relocate(local, experiment)):
                move, count = followed
                print(
                    f"podium: the project was moved from {move.stored}: {count} stored paths followed", file=sys.stderr
                )
            if local and not local.exists():
                fresh_database.make(local)
            client = SynchronousClient(uri, registry_uri=uri)
            experiment_id = _experiment(client, uri, experiment, local.parent if local else None)
            return Tracking(client, uri, experiment_id, experiment)
    except UnicodeEncodeError as error:
        raise RefusedError(
            f"tracking.uri: {uri!a} is not ASCII, and Python's UTF-8 mode is off in a locale without"
            " UTF-8: set PYTHONUTF8=1 in the environment"
        ) from error
    except (*STORE_ERRORS, CommandError, ModuleNotFoundError) as error:
        if refused := refusal(error, shown(uri), experiment):
            raise refused from error
        remedy = "See that the server is running or the folder can be written"
        if local and "database is locked" in str(error):
            remedy = "Another program has locked it for longer than MLflow waits: end that, or wait for it"
        raise PodiumError(
            f"tracking.uri: {shown(uri)} does not work: {reason_of(error)}."
            f" {remedy}, then run again: what is done stays done"
        ) from error


def making(tracking: Tracking) -> AbstractContextManager[None]:
    """A lock under which no other process of this machine looks for, and then makes, what is to be there once."""
    return alone(database(tracking.uri), shown(tracking.uri))


def find_or_create(tracking: Tracking, name: str, tags: dict[str, str], known: str = "") -> str:
    """The id of the experiment's run that has all of `tags`; where there is none, a new one called `name`.

    One that was deleted is restored. Of two that were made at once on two machines both take the older one. The run
    `known`, to which was logged before, is taken before any older one.
    """
    runs = [run for run in search(tracking, tags, deleted=True) if SUPERSEDED_TAG not in run.data.tags]
    if active := [str(run.info.run_id) for run in runs if run.info.lifecycle_stage == "active"]:
        first = known if known in active else active[0]
        _calls.take_away(tracking.client, runs, first)
        return first
    if runs:
        tracking.client.restore_run(runs[-1].info.run_id)
        return str(runs[-1].info.run_id)
    with _calls.call() as call:
        all_tags = origin() | tags | ({} if database(tracking.uri) else call)
        made = str(tracking.client.create_run(tracking.experiment_id, tags=all_tags, run_name=name).info.run_id)
    _calls.made_run(made)
    found = sorted(search(tracking, tags), key=lambda run: (run.info.start_time, run.info.run_id))
    first = str(found[0].info.run_id) if found else made  # `known` is not there: it would have been found above
    _calls.take_away(tracking.client, found, first)
    return first


def end_run(tracking: Tracking, run_id: str, status: str) -> None:
    """End a run now; not before its start where the clock was set back since: MLflow's pages show how long it took."""
    start = tracking.client.get_run(run_id).info.start_time
    tracking.client.set_terminated(run_id, status, max(int(time.time() * 1000), start or 0))


@cache
def origin() -> dict[str, str]:
    """The tags that MLflow's own client puts on a run: user, source, git commit; what can't be found out is absent."""

    def resolved() -> dict[str, str]:
        from mlflow.tracking.context.registry import resolve_tags

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that git is not installed
            found: dict[str, str] = resolve_tags()
        return {key: value for key, value in found.items() if value}

    return private_or_public("mlflow", "runs have no tags of their user, source and git commit", resolved, dict)


def search(
    tracking: Tracking, tags: dict[str, str], *, deleted: bool = False, status: str = "", without: str = ""
) -> list[Run]:
    """Every run of the experiment that has all of `tags`, whatever characters they have; the oldest first.

    With `deleted` those too that were deleted and can be restored; with a `status` only those that have it; `without`
    a tag only those that have none of that name.
    """
    local = database(tracking.uri)
    read = read_runs(local, tracking.experiment_id, tags, deleted=deleted, status=status) if local else None
    if read is not None:
        return [run for run in read if without not in run.data.tags]
    plain = {key: value for key, value in tags.items() if re.fullmatch(r"[\w.-]+", value, re.ASCII)}
    asked = [f"tags.`{key}` = '{value}'" for key, value in plain.items()]
    asked += [f"attributes.status = '{status}'"] if status else []
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    try:
        found = _pages(tracking, [*asked, *([f"tags.`{without}` IS NULL"] if without else [])], view)
    except MlflowException as error:
        if not without or error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        found = _pages(tracking, asked, view)  # an older server can't be asked for what is absent
    found = [run for run in found if without not in run.data.tags]
    return [run for run in found if all(run.data.tags.get(key) == value for key, value in tags.items())]


def _pages(tracking: Tracking, asked: Sequence[str], view: int) -> list[Run]:
    """Every run that a server has under all conditions of `asked`."""
    runs: list[Run] = []
    token: Any = None
    size = PAGE
    while True:
        try:
            page = tracking.client.search_runs(
                [tracking.experiment_id],
                " and ".join(asked),
                view,
                size,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        except MlflowException as error:
            if size == SMALL_PAGE or "Read timed out" not in str(error):
                raise
            size = SMALL_PAGE
            continue
        runs += page
        token = page.token
        if not token:
            return runs


def shown(uri: str) -> str:
    """`uri` without the password that it may hold."""
    try:
        password = urlsplit(uri).password
    except ValueError:  # a host that can't be read
        password = None
    return masked(uri.replace(f":{password}@", f":{MASK}@") if password else uri)


@dataclass(frozen=True)
class Move:
    """A folder of the database that is stored, and where it is."""

    stored: Path
    here: Path


def moved(database: Path, experiment: str) -> Move | None:
    """The move that the paths in `database` have not followed yet; None: there was none.

    It is seen by where the artifacts of `experiment` were to lie. Where they did not come along (here is no folder of
    them), the stored paths are left as they are.
    """
    here = database.resolve().parent
    if not database.is_file() or not (here / ARTIFACTS).is_dir():
        return None
    with closing(sqlite3.connect(database)) as connection:
        if not _columns(connection):
            return None
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        rows = connection.execute(query, (experiment,)).fetchall()
    stored = [path for (location,) in rows if (path := _path(location)) and path.name == ARTIFACTS]
    return Move(stored[0].parent, here) if stored and stored[0].parent != here else None


def relocate(database: Path, experiment: str) -> tuple[Move, int] | None:
    """Make every stored path follow the project, all or none; returns the move and how many were changed.

    Raises RefusedError where the database is the one of a copy that is still at the stored place.
    """
    move = moved(database, experiment)
    if move is None:
        return None
    other = move.stored / database.name
    if other.is_file() and other.samefile(database):
        raise RefusedError(
            f"{database} is one and the same file as {other}: two copies of the project would share one database, and"
            f" the paths in it can be those of one only. Give this copy its own: `cp --remove-destination {other}"
            f" {database}`, or remove the other one"
        )
    with closing(sqlite3.connect(database)) as connection, connection:
        count = 0
        for table, column in _columns(connection):
            for old, new in ((move.stored.as_uri(), move.here.as_uri()), (str(move.stored), str(move.here))):
                count += connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (new, len(old) + 1, len(old) + 1, f"{old}/"),
                ).rowcount
    return move, count


def _only_read(local: Path) -> bool:
    """Whether this database is on a file system that nobody can write to, not even its lock: there it is only read."""
    return local.is_file() and bool(os.statvfs(local.parent).f_flag & os.ST_RDONLY)


def _known_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment `name`; empty: there is none yet."""
    found = client.get_experiment_by_name(name)  # a deleted one too
    if found is None:
        return ""
    if not found.experiment_id:
        raise no_mlflow(shown(uri))
    if found.lifecycle_stage != "active":
        raise deleted(shown(uri), name, str(found.experiment_id))
    return str(found.experiment_id)


def _experiment(client: MlflowClient, uri: str, name: str, folder: Path | None) -> str:
    if known := _known_experiment(client, uri, name):
        return known
    location = (folder / "artifacts").as_uri() if folder else None
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=KIND))
    except MlflowException:  # another machine made it since we looked
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those of COLUMNS that this database has."""
    found = []
    for table, column in COLUMNS:
        names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        found += [(table, column)] if column in names else []
    return found


def _path(location: str | None) -> Path | None:
    """The folder of an artifact location; None for one that is not on this machine."""
    parts = urlsplit(location or "")
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location or "")
