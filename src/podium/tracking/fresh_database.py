"""The database of a fresh local store, made whole or not at all.

MLflow's migrations take seconds, and minutes on a busy machine. A process killed within them would leave a database
that looks like that of an older MLflow. So they run on another file, which then gets the name.

This reaches into parts of MLflow that are private (its client keeps each store, and each engine open, for as long as
the process lives), all of them named in `_migrate` and `_forget`. Where MLflow is not as it is known here, its public
client does the work in a process of its own, and a message says so.
"""

import logging
import subprocess
import sys
from pathlib import Path

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from podium.text import reason_of

SQLITE = "sqlite:///"
PUBLIC = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments(max_results=1)"

log = logging.getLogger(__name__)


def make(local: Path) -> None:
    """Make the database `local`, which is not there: all its tables and MLflow's own first experiment.

    Raises what MLflow raises: MlflowException, SQLAlchemyError or OSError.
    """
    fresh = local.with_name(f"{local.name}.new")
    _remove(fresh)
    uri = f"{SQLITE}{fresh}"
    try:
        _migrate(uri)
    except (MlflowException, SQLAlchemyError, OSError):
        raise
    except Exception as error:  # whatever it is: the public client knows better, or says what is wrong
        reason = f"{type(error).__name__}: {reason_of(error)}"
        log.warning("MLflow's client makes the database in a process of its own, some seconds slower: %s", reason)
        _remove(fresh)
        _in_a_process(uri)
    fresh.replace(local)
    try:
        _forget(f"{SQLITE}{local}")
    except Exception as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        log.warning("A process that used a database which was at %s before has to start again: %s", local, reason)


def _migrate(uri: str) -> None:
    """Run MLflow's migrations on the file of `uri`, and leave no engine open and none known to MLflow."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        SqlAlchemyStore(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
    finally:
        engine = SqlAlchemyStore._engine_map.pop(uri, None)
        if engine is not None:
            engine.dispose()


def _forget(uri: str) -> None:
    """Close what MLflow has open of a database that was at `uri` before and was removed: it would go on writing there.

    Its stores stay, and open the new file.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for kind in (SqlAlchemyStore, Registry):
        if engine := kind._engine_map.get(uri):
            engine.dispose()


def _in_a_process(uri: str) -> None:
    done = subprocess.run([sys.executable, "-c", PUBLIC, uri], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MlflowException((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])


def _remove(fresh: Path) -> None:
    """Remove what a process that was killed has left."""
    for name in (fresh.name, f"{fresh.name}-journal", f"{fresh.name}-wal", f"{fresh.name}-shm"):
        fresh.with_name(name).unlink(missing_ok=True)
