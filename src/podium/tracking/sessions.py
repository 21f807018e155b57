"""Two copies of a project on one tracking store: noticed before one writes on the runs of the other.

A copied folder has the copied studies' ids. So each session that logs trials leaves a random mark, first in the study
and then on its run in MLflow. A mark on the run that the study does not have is of a session that knew another copy of
the study, or a newer state of it: a folder that was restored from a backup lacks marks too, and only a person can say
which of these it is. A folder that was moved has all of its marks and goes on. What is logged before the mark would be
another copy's to take for its own; so it is left before anything else of the session is logged.
"""

import uuid
from contextlib import suppress

import optuna
from mlflow.entities import Run

from podium.errors import PodiumError, RefusedError
from podium.tracking import recorded_run
from podium.tracking.project_id import refuse_while_planned
from podium.tracking.record import study_id
from podium.tracking.recorded_run import Record, RecordedRun, send
from podium.tracking.run_names import ID_TAG, KIND_TAG, SESSION, SESSION_TAG
from podium.tracking.store import Tracking, shown
from podium.tracking.trial_runs import number_of, runs_of


def claim(study: optuna.Study, above: RecordedRun) -> None:
    """Leave this session's mark in `study`, a search, and on its run `above`: it is about to log trials.

    No record holds it: another machine that shares the study leaves its own mark there, and that is right, too.
    """
    mark = uuid.uuid4().hex[:16]
    study.set_user_attr(f"{SESSION}{mark}", "")
    send(above.tracking, above.run_id, tags={SESSION_TAG: mark})


def take_over(tracking: Tracking, study: optuna.Study) -> bool:
    """Leave a mark in `study`, a search, and on its run where a session that it does not know has logged there since.

    Returns whether one has. It is for a person who knows that there is no other copy. Raises RefusedError where `podium
    sync --as-copy` has not ended.
    """
    refuse_while_planned()
    run = others_run(tracking, study)
    if run is None:
        return False
    if run.info.lifecycle_stage != "active":
        tracking.client.restore_run(run.info.run_id)
    claim(study, RecordedRun(tracking, Record(name="", identity={}, run_id=run.info.run_id)))
    return True


def run_of(tracking: Tracking, study: optuna.Study) -> Run | None:
    """The run of `study`, a search, by its id; None: it has none."""
    own = study_id(study)
    if not own:
        return None
    record = Record(name="", identity={ID_TAG: own, KIND_TAG: "search"})
    with suppress(PodiumError):  # a damaged record: the next one to open the run says so
        record.run_id = recorded_run.load(record).run_id
    return recorded_run.found(tracking, record)


def others_run(tracking: Tracking, study: optuna.Study) -> Run | None:
    """The run of `study`, a search, where a session that it does not know has logged there last; None: none has."""
    run = run_of(tracking, study)
    mark = run.data.tags.get(SESSION_TAG) if run is not None else None
    return run if mark and f"{SESSION}{mark}" not in study.user_attrs else None


def check(tracking: Tracking, study: optuna.Study) -> None:
    """Raise RefusedError where a session that `study`, a search, does not know has logged since to the run of its id.

    So it does where `podium sync --as-copy` has not ended.
    """
    refuse_while_planned()
    run = others_run(tracking, study)
    if run is None:
        return
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    logged = len({number_of(one) for one in runs_of(tracking, study)})
    raise RefusedError(
        f"the study {study.study_name} of this folder ({ended} trials ended) and its run {run.info.run_id} in"
        f" {shown(tracking.uri)} ({logged} trials) do not belong together: a session that this folder does not know"
        f" has logged there since (tag {SESSION_TAG}). Nothing was changed. Either another copy of this folder has: go"
        " on in that one, or `podium sync --as-copy` gives the studies of this folder ids, and runs, of their own. Or"
        " there is no other copy, and this folder was restored from a backup, or lost its last lines in a power cut:"
        " `podium sync --only-copy` goes on with these runs, and moves aside those of trials that this folder lacks"
    )
