"""Upkeep of mlruns/: every study compared with its runs in MLflow, and checkpoints that nobody needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from safetensors import safe_open

from podium import paths
from podium.config.params import RuntimeParams, TrackingParams
from podium.data.dataset import MARKER, open_split
from podium.errors import PodiumError
from podium.locks import locked, unless_held
from podium.text import reason_of
from podium.tracking import recorded_check, recorded_run, sessions, trial_check, view
from podium.tracking import repair as mirror
from podium.tracking.project_id import project_id
from podium.tracking.record import reader_of, search_attributes, study_id
from podium.tracking.recorded_run import Record, dataset_input
from podium.tracking.run_names import (
    ID_TAG,
    KIND_TAG,
    PROJECT_TAG,
    RETRAIN_TAG,
    STUDY_TAG,
    SUPERSEDED_TAG,
    TRIAL_TAG,
    clean,
    run_name,
)
from podium.tracking.search_run import run_of_search, trial_runs
from podium.tracking.store import STORE_ERRORS, Tracking, connect
from podium.tracking.study_storage import storage_of
from podium.tracking.study_summary import summary_of, title_of
from podium.tracking.trial_check import Difference
from podium.tracking.trial_runs import runs_of
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
        return [optuna.load_study(study_name=name, storage=opened) for name in _names(where, opened)]


def _names(where: Path | str, opened: BaseStorage) -> list[str]:
    with storage.reached(where):
        return sorted(optuna.get_all_study_names(opened))


Failed = Callable[[str, PodiumError], None]


def _raise(name: str, error: PodiumError) -> None:
    raise error


def sync_all(
    params: TrackingParams,
    runtime: RuntimeParams = DEFAULT,
    *,
    repair: bool,
    quick: bool = False,
    failed: Failed = _raise,
    aside: Callable[[str], None] = lambda line: None,
) -> dict[str, list[Difference]]:
    """The differences of every study and retraining from MLflow, by name; with `repair` they are fixed.

    A `quick` look compares the values that the trials' runs show, not each epoch's: few calls of a server. `aside` gets
    a line for each run that contradicted its study and was moved aside, with its reason.

    One that can't be compared, such as one that is at work, stops no other: `failed` is called with its name and the
    reason, which it raises by default.
    """
    found: dict[str, list[Difference]] = {}
    tracking = connect(params)
    where = storage.place(runtime)
    if (opened := _opened(where)) is not None:
        # Searches before confirmations, which would restore the run above their trials without a word.
        for name in sorted(_names(where, opened), key=lambda name: name.startswith("confirm-")):
            with _failing(name, failed), storage.alone(where, name):
                study = optuna.load_study(study_name=name, storage=opened)
                found[name] = _sync_study(tracking, study, repair, thorough=not quick)
                for line in _moved_aside(tracking, study):
                    aside(line)
    for lock in sorted(paths.lock("").parent.glob("retrain-*.lock")):
        with _failing(lock.stem, failed), locked(lock, purpose="the retraining"):
            if lines := _sync_retraining(tracking, lock.stem, repair):
                found[lock.stem] = lines
    return found


@contextmanager
def _failing(name: str, failed: Failed) -> Iterator[None]:
    """What goes wrong within the block with the study or run called `name` goes to `failed`."""
    try:
        yield
    except PodiumError as error:
        failed(name, error)
    except STORE_ERRORS as error:
        failed(name, PodiumError(f"MLflow refuses it: {reason_of(error)}"))
    except Exception as error:  # a study of somebody else's in the same storage may hold anything
        failed(name, PodiumError(f"it can't be compared ({type(error).__name__}: {error})"))


def _sync_study(tracking: Tracking, study: optuna.Study, repair: bool, *, thorough: bool) -> list[Difference]:
    search = _search_of(study)
    is_search = search == study.study_name
    searched = _searched(study, search)
    if searched is not None:
        sessions.check(tracking, searched)
    record = recorded_run.load(_described(searched, search))
    read = reader_of(study)
    searching = is_search and read is search_attributes
    above = recorded_check.unrecorded(tracking, record) if searching else []
    run = recorded_run.found(tracking, record)
    active = run is not None and run.info.lifecycle_stage == "active"
    known = active or record.run_id or runs_of(tracking, study)  # else nothing of it was ever logged
    if is_search and known:
        above += recorded_check.compare(tracking, record, summary_of(study))
    differs = trial_check.differences(
        tracking,
        study,
        thorough=thorough,
        read=read,
        parent=run.info.run_id if run is not None and active else None,
        images=dataset_input(*record.dataset) if record.dataset else None,
    )
    if not repair:
        return above + differs
    if above or differs or (known and not active):
        differs = _repair_study(tracking, study, search, searched, thorough=thorough)
    mirror.end_open_runs(tracking, study)
    return above + differs


def _repair_study(
    tracking: Tracking, study: optuna.Study, search: str, searched: optuna.Study | None, *, thorough: bool
) -> list[Difference]:
    """Make the runs of `study`, and that of its search, what they should be. Returns what differed of its trials.

    The session's mark comes first: killed after that, it has logged nothing that another copy takes for its own.
    """
    above = run_of_search(tracking, study, search)
    if searched is not None:
        sessions.claim(searched, above)
    if search == study.study_name:
        recorded_check.restore(tracking, above.record, summary_of(study), print)
        if reader_of(study) is search_attributes:
            view.save_first(tracking, study)
    return mirror.repair(tracking, study, trial_runs(above, reader_of(study)), thorough=thorough, message=print)


def _searched(study: optuna.Study, search: str) -> optuna.Study | None:
    """The study called `search`, which `study` is or confirms; None: it is not in the same storage."""
    if search == study.study_name:
        return study
    try:
        return optuna.load_study(study_name=search, storage=storage_of(study))
    except KeyError:
        return None


def _described(found: optuna.Study | None, search: str) -> Record:
    """The run of the search called `search`, as far as it follows from its name and the id of its study."""
    own = study_id(found) if found is not None else None
    identity = {STUDY_TAG: clean(search), KIND_TAG: "search"} | ({ID_TAG: own} if own else {})
    return Record(name=title_of(found) if found is not None else run_name(search), identity=identity)


def _search_of(study: optuna.Study) -> str:
    """The name of the search that `study` is or confirms."""
    identity = study.user_attrs.get("identity")
    search = identity.get("search") if isinstance(identity, dict) else None
    return search if isinstance(search, str) else study.study_name


def _sync_retraining(tracking: Tracking, name: str, repair: bool) -> list[Difference]:
    own = {RETRAIN_TAG: name, PROJECT_TAG: project_id()}
    record = recorded_run.load(Record(name="retrain", identity=own | {KIND_TAG: "retrain"}))
    if not record.run_id and not record.former:  # of a time before there were records
        return mirror.abandoned(tracking, "retrain", own, repair=repair)
    if repair:
        return recorded_check.restore(tracking, record, {}, print)
    return recorded_check.compare(tracking, record, {})


def _moved_aside(tracking: Tracking, study: optuna.Study) -> Iterator[str]:
    """A line for each run of `study` that was moved aside; none where nothing of it was ever logged."""
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
