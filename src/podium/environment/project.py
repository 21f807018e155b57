"""The project: parameters, what lies in mlruns/, the tracking server, locks, git, DVC's remote."""

import configparser
import fcntl
import os
import urllib.error
import urllib.request
from pathlib import Path

from podium.config.params import TrackingParams, load
from podium.environment.finding import Finding, fail, note, ok
from podium.errors import InputError, PodiumError
from podium.registry.provenance import UNKNOWN, git_facts

PATIENCE = 5.0
"""Seconds in which a tracking server has to answer."""


def parameters(path: Path) -> Finding:
    """Whether params.yaml can be read."""
    try:
        load(path)
    except InputError as error:
        return fail("params.yaml", str(error), "mend it: docs/reference/params.md lists every parameter")
    return ok("params.yaml", "no problems")


def old_store(mlruns: Path) -> Finding:
    """Whether an old file store of MLflow lies where ours is: it turns MLflow's default around."""
    found = sorted(path.parent for path in mlruns.glob("*/meta.yaml") if path.parent.name.isdigit())
    if found:
        return fail(
            "mlruns layout",
            f"{found[0]} is of MLflow's old file store, which MLflow 3 refuses to write to",
            f"move the numbered folders out of {mlruns}, or bring them over: mlflow migrate-filestore --help",
        )
    return ok("mlruns layout", f"nothing foreign in {mlruns}")


def foreign_database(root: Path) -> Finding:
    """Whether somebody started MLflow without saying where our database is."""
    path = root / "mlflow.db"
    if path.is_file():
        return note("mlflow.db", f"{path} is not Podium's", "`mlflow ui` alone makes it: use `make ui`, and delete it")
    return ok("mlflow.db", "none beside mlruns/")


def writable(folder: Path) -> Finding:
    """Whether what is executed can be recorded."""
    existing = folder if folder.exists() else folder.parent
    if os.access(existing, os.W_OK | os.X_OK):
        return ok("mlruns", f"{folder} can be written")
    return fail("mlruns", f"{existing} can't be written", f"chmod u+rwx {existing}, or work in a folder of your own")


def tracking(params: TrackingParams) -> Finding:
    """Whether the store of tracking.uri answers. A local one that is not there yet is not made."""
    from podium.tracking.store import SQLITE, connect, resolve_uri, shown

    uri = resolve_uri(params.uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return ok("tracking", f"{shown(uri)} will be made by the first run")
    if uri.startswith(("http://", "https://")) and (why := _unreachable(uri)):
        return fail("tracking", f"{shown(uri)} does not answer: {why}", "start the server, or correct tracking.uri")
    try:
        connect(params)
    except PodiumError as error:
        return fail("tracking", str(error), "start the server, or correct tracking.uri")
    return ok("tracking", f"{shown(uri)} answers")


def locks(mlruns: Path, root: Path) -> Finding:
    """Who works here, and what a killed git left behind."""
    stale = root / ".git" / "index.lock"
    if stale.exists():
        return fail("locks", f"{stale} is there", f"if no git is running, it was killed: rm {stale}")
    leftover = mlruns / "optuna.journal.lock"
    if leftover.exists() or leftover.is_symlink():
        return fail("locks", f"{leftover} is Optuna's own lock, left by a killed program", f"rm {leftover}")
    busy = [path.stem for path in sorted((mlruns / "locks").glob("*.lock")) if _is_held(path)]
    if busy:
        return note("locks", f"at work now: {', '.join(busy)}", "a second `dvc repro` is refused until it has ended")
    return ok("locks", "nobody is at work here")


def tree(root: Path) -> Finding:
    """Whether a model registered now could be made again from a commit."""
    git = git_facts(root)
    if git.commit == UNKNOWN:
        return note("git", "this is no git checkout", "git init, and commit: a version then says where it came from")
    if git.dirty == "true":
        return note(
            "git", f"{git.commit[:12]} with uncommitted changes", "git commit: a version then says exactly that"
        )
    return ok("git", f"{git.commit[:12]}, clean")


def remote(root: Path) -> Finding:
    """Whether `dvc push` has somewhere to push to."""
    config = configparser.ConfigParser()
    config.read([root / ".dvc/config", root / ".dvc/config.local"])
    name = config.get("core", "remote", fallback="")
    if f"'remote \"{name}\"'" in config.sections() or f'remote "{name}"' in config.sections():
        return ok("DVC remote", f"{name}")
    return note("DVC remote", "there is none", "dvc remote add --default storage /path/or/s3://bucket, then dvc push")


def _unreachable(uri: str) -> str:
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=PATIENCE):  # noqa: S310 (http, looked at above)
            return ""
    except urllib.error.HTTPError:
        return ""  # it answers, if not to this
    except OSError as error:
        return str(getattr(error, "reason", error))


def _is_held(path: Path) -> bool:
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
