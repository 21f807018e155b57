"""Upkeep of mlruns/: every study compared with its runs in MLflow, and checkpoints that nobody needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from safetensors import safe_open

from podium import paths
from podium.config.params import RuntimeParams, TrackingParams
from podium.data.dataset import MARKER, open_split
from podium.locks import locked, unless_held
from podium.tracking import repair as mirror
from podium.tracking.record import (
    ID_TAG,
    PROJECT_TAG,
    RETRAIN_TAG,
    SUPERSEDED_TAG,
    TRIAL_TAG,
    search_attributes,
    study_id,
)
from podium.tracking.repair import Difference
from podium.tracking.search_run import run_of_search
from podium.tracking.store import Tracking, connect, project_id
from podium.tracking.trial_logger import TrialRuns
from podium.tuning import storage
from podium.tuning.folds import PARTS

DEFAULT = RuntimeParams()
IMAGES = "images"
"""As podium.training.features, which imports torch, has it."""


@dataclass(frozen=True)
class Leftover:
    """A file that no trial will read again."""

    path: Path
    size: int
    """Bytes."""


def studies(where: Path | str) -> list[optuna.Study]:
    """Every study at `where`, a journal or a database's URL; none where there is no journal."""
    opened = _opened(where)
    if opened is None:
        return []
    with storage.reached(where):
        names = sorted(optuna.get_all_study_names(opened))
        return [optuna.load_study(study_name=name, storage=opened) for name in names]


def sync_all(params: TrackingParams, runtime: RuntimeParams = DEFAULT, *, repair: bool) -> dict[str, list[Difference]]:
    """The differences of every study and retraining from MLflow, by name; with `repair` they are fixed.

    Raises RefusedError naming the holder while one of them is at work.
    """
    found: dict[str, list[Difference]] = {}
    tracking = connect(params)
    where = storage.place(runtime)
    for study in studies(where):
        name = study.study_name
        with storage.alone(where, name):
            found[name] = mirror.abandoned(tracking, "search", {ID_TAG: study_id(study) or ""}, repair=repair)
            if repair:
                found[name] += mirror.repair(tracking, study, _runs(tracking, study), thorough=True, message=print)
                mirror.end_open_runs(tracking, study)
                # A parent that the repair has made:
                mirror.abandoned(tracking, "search", {ID_TAG: study_id(study) or ""}, repair=True)
            else:
                found[name] += mirror.differences(tracking, study)
    for lock in sorted(paths.lock("").parent.glob("retrain-*.lock")):
        with locked(lock, purpose="the retraining"):
            tags = {RETRAIN_TAG: lock.stem, PROJECT_TAG: project_id()}
            if lines := mirror.abandoned(tracking, "retrain", tags, repair=repair):
                found[lock.stem] = lines
    return found


def moved_aside(params: TrackingParams, runtime: RuntimeParams = DEFAULT) -> Iterator[str]:
    """A line for each run that contradicted its study and was moved aside, with its reason."""
    tracking = connect(params)
    for study in studies(storage.place(runtime)):
        for run in mirror.superseded(tracking, study):
            tags = run.data.tags
            yield f"{study.study_name} trial {tags.get(TRIAL_TAG)}: run {run.info.run_id}, {tags.get(SUPERSEDED_TAG)}"


def leftovers(runtime: RuntimeParams = DEFAULT, busy: Callable[[str], None] = lambda name: None) -> Iterator[Leftover]:
    """Checkpoints of trials that have ended or whose study is gone, and what a killed write left behind.

    Each comes while the lock of its search or retraining is held: delete it before the next is asked for. Those that
    are at work are left out, and `busy` is called with their names. A retraining removes its checkpoint when it ends;
    one that is there is of a retraining that has yet to resume.
    """
    where = storage.place(runtime)
    folder = paths.mlruns() / "checkpoints"
    opened: BaseStorage | None = None
    for name in sorted({_owner(path) for path in folder.glob("*")}):
        search = (folder / name).is_dir()
        with unless_held(storage.alone(where, name) if search else locked(paths.lock(name))) as free:
            if not free:
                busy(name)
                continue
            opened = opened or _opened(where)
            running = _running(opened, name) if search and opened else set()
            files = (folder / name).rglob("*") if search else (p for p in folder.glob("*") if _owner(p) == name)
            for path in sorted(path for path in files if path.is_file() and not _needed(path, running)):
                yield Leftover(path, path.stat().st_size)


def old_features(busy: Callable[[str], None] = lambda name: None) -> Iterator[Path]:
    """Files of mlruns/features of other images than those of data/prepared, and what killed writers left there.

    Each comes while its lock is held, and its lock after it: delete it before the next is asked for. A file that is in
    use is left out, and `busy` is called with its name. Nothing comes where no images are prepared.
    """
    if not all((paths.PREPARED / part / MARKER).is_file() for part in PARTS):
        return
    present = {open_split(paths.PREPARED / part).digest for part in PARTS}
    folder = paths.mlruns() / "features"
    for key in sorted({path.name.partition(".")[0] for path in folder.glob("*")}):
        lock = folder / f"{key}.lock"
        with unless_held(locked(lock)) as free:
            if not free:
                busy(f"features {key[:12]}")
                continue
            whole = folder / f"{key}.safetensors"
            yield from sorted(folder.glob(f"{key}.*.tmp"))
            if _images_of(whole) not in present:
                yield from (path for path in (whole, lock) if path.is_file())


def _images_of(path: Path) -> str:
    """The digest of the (first) images whose features `path` holds; empty where it does not say so."""
    try:
        with safe_open(path, framework="np") as file:
            return ((file.metadata() or {}).get(IMAGES) or " ").split(" ")[0]
    except Exception:  # the reader raises its own kinds for whatever is wrong, and there may be no file
        return ""


def _owner(path: Path) -> str:
    """The search of a folder of checkpoints, or the retraining of a file next to these."""
    return path.name if path.is_dir() else path.name.partition(".")[0]


def _opened(where: Path | str) -> BaseStorage | None:
    """The storage at `where`; None where there is no journal."""
    return None if isinstance(where, Path) and not where.is_file() else storage.open_at(where)


def _running(opened: BaseStorage, study: str) -> set[int]:
    """The trials of `study` that are to be resumed; none where it is gone."""
    try:
        trials = optuna.load_study(study_name=study, storage=opened).get_trials(deepcopy=False)
    except KeyError:
        return set()
    return {trial.number for trial in trials if trial.state == TrialState.RUNNING}


def _needed(path: Path, running: set[int]) -> bool:
    if path.suffix != ".ckpt":
        return False
    return path.name.startswith("retrain-") or (path.stem.isdigit() and int(path.stem) in running)


def _runs(tracking: Tracking, study: optuna.Study) -> TrialRuns:
    parent = study.user_attrs.get("identity", {}).get("search", study.study_name)
    parent = parent if isinstance(parent, str) else study.study_name
    return TrialRuns(tracking, run_of_search(tracking, study, parent), search_attributes)
