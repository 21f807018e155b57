"""Checks of the project (parameters, mlruns/, tracking server, locks, git, DVC's remote), and all checks in order."""

import configparser
import fcntl
import os
import urllib.error
import urllib.request
from pathlib import Path

from podium import paths
from podium.config import inactive
from podium.config.params import Params, TrackingParams, load
from podium.doctor import machine
from podium.doctor.machine import Finding, fail, note, ok
from podium.doctor.preset_choice import preset
from podium.errors import InputError, PodiumError, RefusedError
from podium.own_modules import REQUIREMENTS
from podium.registry.provenance import UNKNOWN, git_facts

PATIENCE = 5.0
"""Seconds in which a tracking server has to answer."""


def check_environment() -> list[Finding]:
    """Every finding about this machine and the project in the current folder, in order; nothing is changed."""
    from podium.training.device import own_kind

    root, mlruns = paths.root(), paths.mlruns()
    params = _params_or_defaults(paths.PARAMS)
    return [
        machine.python(),
        machine.packages(Path("requirements.lock")),
        machine.own_packages(Path(REQUIREMENTS)),
        machine.cuda(own_kind(params.runtime.device, params.runtime.devices)),
        machine.disk(root),
        machine.ports(),
        parameters(paths.PARAMS),
        preset(params, paths.PRESETS),
        own_code(params, paths.PREPARED),
        metrics(params, paths.PREPARED),
        weights(params),
        writable(mlruns),
        old_store(mlruns),
        foreign_database(root, params.tracking),
        tracking(params.tracking),
        locks(mlruns, root),
        tree(root),
        remote(root),
    ]


def parameters(path: Path) -> Finding:
    """Whether params.yaml can be read, and what it asks for is installed."""
    try:
        params = load(path)
        params.register_.check_installed()
        inactive.check(params.recipe(), params.search)
    except InputError as error:
        return fail("params.yaml", str(error), "fix it: docs/reference/params.md lists every parameter")
    return ok("params.yaml", "no problems")


def own_code(params: Params, prepared: Path) -> Finding:
    """Whether code that is not Podium's works: called with the prepared images' shape, or else loaded only.

    A source is loaded only: it may download, or take minutes until its first row.
    """
    from podium import own_code
    from podium.components import find
    from podium.data.dataset import DatasetInfo
    from podium.models.networks import ImageSpec
    from podium.training.rehearsal import foreign, other_metrics, rehearse

    base, source, problems = params.recipe().replace(params.search.overrides), params.prepare.source, []
    named = foreign(base, params.search)
    named += [one.name for _, one in other_metrics(params.search, params.evaluate.metrics, params.gate.metric)]
    named += [source] if find("source", source) is None else []
    if not named:
        return ok("own code", "params.yaml names none")
    images = ImageSpec.of(DatasetInfo.read(prepared)) if prepared.is_dir() else None
    try:
        rehearse(base, params.search, images, params.evaluate.metrics, params.gate.metric)
    except InputError as error:
        problems.append(str(error))
    try:
        if source in named:
            function = own_code.load(source, "prepare.source")
            own_code.check_arguments(function, source, "prepare", params.prepare.arguments, set())
    except InputError as error:
        problems.append(str(error))
    if problems:
        return fail("own code", "\n  ".join(problems), "fix it: docs/extend.md shows what each kind is called with")
    how = "tried" if images else "loaded; `dvc repro prepare` first, and it is tried with images"
    others = [name for name in dict.fromkeys(named) if name != source]
    told = [f"{', '.join(others)}: {how}"] if others else []
    told += [f"{source}: loaded; `dvc repro prepare` reads its rows"] if source in named else []
    return ok("own code", "; ".join(told))


def metrics(params: Params, prepared: Path) -> Finding:
    """Whether the metrics that params.yaml names have a value for the prepared images."""
    from podium.data.dataset import DatasetInfo
    from podium.tuning.search_plan import check_defined

    if not prepared.is_dir():
        return ok("metrics", "not checked: run `dvc repro prepare` first")
    try:
        check_defined(params, DatasetInfo.read(prepared))
    except InputError as error:
        return fail("metrics", str(error), "`podium doctor data` shows the images of each class")
    return ok("metrics", "each has a value for the validation images")


def weights(params: Params) -> Finding:
    """Whether the weights that params.yaml begins with are there, and are those that they should be."""
    from podium.models.weight_files import digests

    try:
        found = digests(params.recipe(), params.search.space)
    except InputError as error:
        return fail("weights", str(error), "podium weights NAME fetches them, or set model.weights to ''")
    return ok("weights", ", ".join(found) or "none are named")


def old_store(mlruns: Path) -> Finding:
    """Whether mlruns/ holds a file store of MLflow 2, which makes MLflow 3 refuse to write."""
    found = sorted(path.parent for path in mlruns.glob("*/meta.yaml") if path.parent.name.isdigit())
    if found:
        return fail(
            "mlruns layout",
            f"{found[0]} belongs to MLflow's old file store, which MLflow 3 refuses to write to",
            f"move the numbered folders out of {mlruns}, or convert them: mlflow migrate-filestore --help",
        )
    return ok("mlruns layout", f"only Podium's files in {mlruns}")


def foreign_database(root: Path, params: TrackingParams) -> Finding:
    """Whether somebody started MLflow without saying where our database is."""
    from podium.tracking.store import database

    path = root / "mlflow.db"
    if path == database(params.uri):
        return ok("mlflow.db", f"{path} is the store of tracking.uri")
    if path.is_file():
        return note(
            "mlflow.db",
            f"{path} is not the store of tracking.uri",
            "plain `mlflow ui` makes an empty one: use `make ui`, and delete it unless somebody's runs are in it",
        )
    return ok("mlflow.db", "none next to mlruns/")


def writable(folder: Path) -> Finding:
    """Whether what is executed can be recorded."""
    existing = folder if folder.exists() else folder.parent
    if os.access(existing, os.W_OK | os.X_OK):
        return ok("mlruns", f"{folder} can be written")
    return fail("mlruns", f"{existing} can't be written", f"chmod u+rwx {existing}, or work in a folder of your own")


def tracking(params: TrackingParams) -> Finding:
    """Whether the store of tracking.uri answers. A local one that does not exist yet is not created."""
    from podium.tracking.store import connect, database, resolve_uri, shown

    uri = resolve_uri(params.uri)
    if (local := database(uri)) and not local.exists():
        return ok("tracking", f"{shown(uri)} will be created by the first run")
    if uri.startswith(("http://", "https://")) and (why := _unreachable(uri)):
        return fail("tracking", f"{shown(uri)} does not answer: {why}", "start the server, or correct tracking.uri")
    try:
        connect(params)
    except RefusedError as error:
        return fail("tracking", str(error), "")  # it says what to do
    except PodiumError as error:
        return fail("tracking", str(error), "start the server, or correct tracking.uri")
    return ok("tracking", f"{shown(uri)} answers")


def locks(mlruns: Path, root: Path) -> Finding:
    """Which searches are running here, and which locks a killed program left."""
    stale = root / ".git" / "index.lock"
    if stale.exists():
        return fail("locks", f"{stale} is there", f"if no git is running, it was killed: rm {stale}")
    leftover = mlruns / "optuna.journal.lock"
    if leftover.exists() or leftover.is_symlink():
        return fail("locks", f"{leftover} is Optuna's own lock, left by a killed program", f"rm {leftover}")
    busy = [path.stem for path in sorted((mlruns / "locks").glob("*.lock")) if _is_held(path)]
    if busy:
        return note("locks", f"running now: {', '.join(busy)}", "a second `dvc repro` is refused until it ends")
    return ok("locks", "nothing is running here")


def tree(root: Path) -> Finding:
    """Whether a model registered now could be reproduced from a commit."""
    git = git_facts(root)
    if git.commit == UNKNOWN:
        return note("git", "this is no git repository", "git init, and commit: a version then records its commit")
    if git.dirty == "true":
        return note(
            "git", f"{git.commit[:12]} with uncommitted changes", "git commit: a version then records exactly this code"
        )
    return ok("git", f"{git.commit[:12]}, clean")


def remote(root: Path) -> Finding:
    """Whether `dvc push` has somewhere to push to."""
    config = configparser.ConfigParser()
    config.read([root / ".dvc/config", root / ".dvc/config.local"])
    name = config.get("core", "remote", fallback="")
    if f"'remote \"{name}\"'" in config.sections() or f'remote "{name}"' in config.sections():
        return ok("DVC remote", f"{name}")
    return note("DVC remote", "none is set", "dvc remote add --default storage /path/or/s3://bucket, then dvc push")


def _params_or_defaults(path: Path) -> Params:
    """The project's parameters; the defaults if they are wrong, which is a finding of its own."""
    try:
        return load(path)
    except InputError:
        return Params()


def _unreachable(uri: str) -> str:
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=PATIENCE):  # noqa: S310 (http, checked above)
            return ""
    except urllib.error.HTTPError:
        return ""  # it responds, though not to this
    except OSError as error:
        return str(getattr(error, "reason", error))


def _is_held(path: Path) -> bool:
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
