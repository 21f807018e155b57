"""Keeping mlruns/ true and small: every study against its image in MLflow, and checkpoints that nobody needs."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from podium import paths
from podium.locks import locked
from podium.params import RuntimeParams, TrackingParams
from podium.search import storage
from podium.tracking import sync
from podium.tracking.record import KIND_TAG, RETRAIN_TAG, STUDY_TAG
from podium.tracking.store import Tracking, connect
from podium.tracking.sync import Difference
from podium.tracking.trial_logger import TrialLogger, find_or_create

DEFAULT = RuntimeParams()


@dataclass(frozen=True)
class Leftover:
    """A file that no trial will read again."""

    path: Path
    size: int
    """Bytes."""


def studies(where: Path | str) -> list[optuna.Study]:
    """Every study at `where`, a journal or a database's URL; none where there is no journal."""
    if isinstance(where, Path) and not where.is_file():
        return []
    kept = storage.open_at(where)
    with storage.reached(where):
        names = sorted(optuna.get_all_study_names(kept))
        return [optuna.load_study(study_name=name, storage=kept) for name in names]


def sync_all(params: TrackingParams, runtime: RuntimeParams = DEFAULT, *, repair: bool) -> dict[str, list[Difference]]:
    """The differences of every study and retraining from MLflow, by name; with `repair` they are mended.

    Raises RefusedError naming the holder while one of them is at work.
    """
    found: dict[str, list[Difference]] = {}
    tracking = connect(params)
    where = storage.place(runtime)
    for study in studies(where):
        name = study.study_name
        with storage.alone(where, name):
            found[name] = sync.abandoned(tracking, "search", STUDY_TAG, name, repair=repair)
            if repair:
                found[name] += sync.repair(tracking, study, _logger(tracking, study), thorough=True)
                sync.end_open_runs(tracking, study)
                sync.abandoned(tracking, "search", STUDY_TAG, name, repair=True)  # a parent that the repair has made
            else:
                found[name] += sync.differences(tracking, study)
    for lock in sorted(paths.lock("").parent.glob("retrain-*.lock")):
        with locked(lock, purpose="the retraining"):
            if lines := sync.abandoned(tracking, "retrain", RETRAIN_TAG, lock.stem, repair=repair):
                found[lock.stem] = lines
    return found


def leftovers(runtime: RuntimeParams = DEFAULT) -> list[Leftover]:
    """Checkpoints of trials that have ended or whose study is gone, and what a killed write left behind.

    A retraining's checkpoint goes with its end; one that is there is of a retraining that has yet to go on.
    """
    running = {
        (study.study_name, trial.number)
        for study in studies(storage.place(runtime))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    }
    folder = paths.mlruns() / "checkpoints"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [Leftover(path, path.stat().st_size) for path in files if not _needed(path, running)]


def _needed(path: Path, running: set[tuple[str, int]]) -> bool:
    if path.suffix != ".ckpt":
        return False
    if path.name.startswith("retrain-"):
        return True
    return path.stem.isdigit() and (path.parent.name, int(path.stem)) in running


def _logger(tracking: Tracking, study: optuna.Study) -> TrialLogger:
    parent = study.user_attrs.get("identity", {}).get("search", study.study_name)
    parent = parent if isinstance(parent, str) else study.study_name
    run_id = find_or_create(tracking, parent, {STUDY_TAG: parent, KIND_TAG: "search"})
    return TrialLogger(tracking, run_id)
