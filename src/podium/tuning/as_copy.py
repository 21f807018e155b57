"""Two copies of a project on one MLflow: one gets runs of its own, or is said to be the only one there is.

A copied project gets other ids for its studies and retrainings. All ids are planned before the first is given, in a
file. Whatever kills this, a second time goes on from that plan, and each of its steps may be done twice.
"""

import uuid
from pathlib import Path

import optuna

from podium import paths
from podium.config.params import RuntimeParams, TrackingParams
from podium.errors import RefusedError
from podium.locks import locked
from podium.tracking import project_id, recorded_run, sessions
from podium.tracking.project_id import Plan
from podium.tracking.record import set_study_id, study_id
from podium.tracking.run_names import ID_TAG, PROJECT_TAG, SESSION_TAG, STUDY_ID
from podium.tracking.store import connect, shown
from podium.tuning import storage, upkeep

KINDS = "search", "retrain"
"""Of runs that have a record."""


def separate(params: TrackingParams, runtime: RuntimeParams) -> int:
    """Give each study and each retraining of this folder another id; returns how many studies that were.

    The runs of the ids that they had are left to the original. `podium sync` then logs all of this folder again.
    Raises RefusedError where the studies lie in a database, which a copy of the folder shares, where nobody else has
    logged to their runs, or where a search or a retraining is at work: before anything is changed.
    """
    where = storage.place(runtime)
    if not isinstance(where, Path):
        raise RefusedError(
            "sync --as-copy: the studies lie in a database (runtime.storage), which a copy of the folder shares. Set"
            " runtime.storage to another database, or to none for a journal in mlruns"
        )
    studies = upkeep.studies(where)
    _refuse_at_work(where, studies)
    for path in recorded_run.files(KINDS):
        recorded_run.read(path)  # a damaged one is named before anything is changed
    plan = project_id.planned()
    if plan is None:
        _refuse_alone(params, studies)
        project_id.plan(plan := _new(studies))
    _refuse_at_work(where, studies)  # one that began meanwhile; from now on none does
    for study in studies:
        _, new = plan.studies.get(study.study_name, ("", None))
        with storage.alone(where, study.study_name):
            if new is not None and study_id(study) != new:
                set_study_id(study, new)
    project_id.set_project_id(plan.project[1])
    _refer(plan)
    project_id.carried_out()
    return len(plan.studies)


def _refuse_alone(params: TrackingParams, studies: list[optuna.Study]) -> None:
    """Raise RefusedError where `studies` have runs, and nobody else has logged there: they are this folder's."""
    tracking = connect(params)
    has_runs = any(sessions.run_of(tracking, study) for study in studies)
    if has_runs and not any(sessions.others_run(tracking, study) for study in studies):
        raise RefusedError(
            f"sync --as-copy: nobody else has logged to the runs of this folder's studies in {shown(tracking.uri)}"
            f" (none has a {SESSION_TAG} that this folder does not know). They are its own: other ids would log each"
            " trial once more. Nothing was changed. `podium sync` logs what is missing. Of two copies the one that logs"
            " first keeps the runs: use --as-copy in the other one, once `podium sync` refuses it"
        )


def _refuse_at_work(where: Path, studies: list[optuna.Study]) -> None:
    """Raise RefusedError where the search of one of `studies`, or a retraining, is at work."""
    for study in studies:
        with storage.alone(where, study.study_name):
            pass
    for lock in sorted(paths.lock("").parent.glob("retrain-*.lock")):
        with locked(lock, purpose="the retraining"):
            pass


def _new(studies: list[optuna.Study]) -> Plan:
    """Another id for this folder, and for each of `studies` that has one."""
    ids = {s.study_name: (study_id(s) or "", uuid.uuid4().hex) for s in studies if STUDY_ID in s.user_attrs}
    return Plan(project=(project_id.old_project_id(), uuid.uuid4().hex), studies=ids)


def _refer(plan: Plan) -> None:
    """Let the records whose runs are found by an old id be found by its new one: these runs are yet to be made."""
    ids = {PROJECT_TAG: dict([plan.project]), ID_TAG: dict(plan.studies.values())}
    for path in recorded_run.files(KINDS):
        record = recorded_run.read(path)
        new = {tag: ids[tag][old] for tag in ids if (old := record.identity.get(tag)) and old in ids[tag]}
        if not new:
            continue
        record.identity |= new
        record.tags.pop(SESSION_TAG, None)
        record.former += [record.run_id] if record.run_id else []
        record.run_id = ""
        recorded_run.save(record)
        if path.stem != record.key:
            path.unlink()


def take_over(params: TrackingParams, runtime: RuntimeParams) -> int:
    """Leave a mark of this folder on each search's run where a session that it does not know has logged since: it was
    restored from a backup, or lost lines in a power cut.

    It is for a person who knows that there is no other copy, which would be refused from now on. `podium sync` then
    makes the runs what the studies hold. Returns how many studies that were. Killed, it goes on when it is run again.
    Raises RefusedError where one of these searches is at work.
    """
    tracking = connect(params)
    where = storage.place(runtime)
    taken = 0
    for study in upkeep.studies(where):
        if sessions.others_run(tracking, study) is None:
            continue
        with storage.alone(where, study.study_name), storage.reached(where):
            taken += sessions.take_over(tracking, study)
    return taken
