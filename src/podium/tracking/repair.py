"""Making MLflow a true image of a study, one run per trial.

A run that contradicts the study (another value of a parameter or metric, a second run of a trial) is never deleted or
rewritten: it is moved aside, with its reason in the tag podium.superseded, and another one takes its place.
"""

import logging
from collections.abc import Callable, Sequence

import optuna
from mlflow.entities import Metric, Run
from optuna.trial import FrozenTrial

from podium.tracking import doubles
from podium.tracking.histories import histories
from podium.tracking.record import Record, study_id
from podium.tracking.recorded_run import FORMER_NAME
from podium.tracking.run_names import ID_TAG, KIND_TAG, SUPERSEDED, SUPERSEDED_TAG, TRIAL_TAG
from podium.tracking.store import Tracking, end_run, search
from podium.tracking.trial_check import (
    IDLE,
    Difference,
    Found,
    Look,
    contradiction,
    differing,
    every_run,
    shown_wrongly,
)
from podium.tracking.trial_runs import PARENT, TrialRuns, log_absent_params, runs_of

TOGETHER = 200
"""Trials that are logged in one transaction."""

log = logging.getLogger(__name__)


def repair(
    tracking: Tracking,
    study: optuna.Study,
    trials: TrialRuns,
    *,
    thorough: bool = False,
    message: Callable[[str], None] = log.warning,
) -> list[Difference]:
    """Make MLflow what the study says. Returns what was different; each run that is moved aside gets a `message`."""
    every: list[Difference] = []
    absent: list[FrozenTrial] = []
    look = Look(tracking, thorough, trials.parent(study), trials.images)
    runs = every_run(look, study)
    trials.know(study, runs)
    for found, differs in differing(look, study, trials.read, runs):
        every += differs
        _repair(look, study, trials, found, message)
        if found.trial is not None and found.ended:
            absent.append(found.trial)
    _log(trials, study, absent)
    if thorough:
        trials.show_objective_first(study)
    return every


def _log(trials: TrialRuns, study: optuna.Study, ended: Sequence[FrozenTrial]) -> None:
    """Log what is missing of the trials that have `ended`, those without a run together."""
    for start in range(0, len(ended), TOGETHER):
        some = ended[start : start + TOGETHER]
        written = trials.log_ended(study, some)
        for trial in some:
            if trial.number not in written:
                trials.log(study, trial)


def superseded(tracking: Tracking, study: optuna.Study) -> list[Run]:
    """The runs of `study` that were moved aside."""
    own = study_id(study)
    return search(tracking, {ID_TAG: own, KIND_TAG: SUPERSEDED}) if own else []


def end_open_runs(tracking: Tracking, study: optuna.Study) -> None:
    """Set the runs of trials that wait to go on to KILLED: nothing of a search that has ended stays RUNNING."""
    for run in runs_of(tracking, study, status="RUNNING"):
        end_run(tracking, run.info.run_id, "KILLED")


def abandoned(tracking: Tracking, kind: str, tags: dict[str, str], *, repair: bool) -> list[Difference]:
    """Runs of a `kind` with all of `tags` that are RUNNING although nobody is at work on them; `repair` sets them to
    KILLED. A retraining's run has its search's tags too: the kind says whose lock the caller has to hold.
    """
    runs = search(tracking, tags | {KIND_TAG: kind}, status="RUNNING")
    if repair:
        for run in runs:
            end_run(tracking, run.info.run_id, "KILLED")
    return [Difference(None, f"status of {run.info.run_name}", "nobody works on it", "RUNNING") for run in runs]


def _repair(look: Look, study: optuna.Study, trials: TrialRuns, found: Found, message: Callable[[str], None]) -> None:
    """Keep the run that is right or can be completed, and move the others aside; what is missing is logged after it.

    Where the trial has no run but a deleted one that fits, that one is restored, with all that people wrote on it.
    """
    tracking = look.tracking
    reasons = {run.info.run_id: contradiction(tracking, found, run) for run in found.runs}
    fitting = [run for run in found.runs if not reasons[run.info.run_id]]
    status = found.record.status if found.record else ""
    keep = max(fitting, key=lambda run: (run.info.status == status, len(run.data.metrics)), default=None)
    for run in found.runs:
        if run is not keep:
            _move_aside(tracking, run, reasons[run.info.run_id] or "the trial has another run", message)
    if found.trial is None or found.record is None:
        return
    keep = keep or _restored(tracking, found)
    trials.forget(study, found.number, keep.info.run_id if keep else None)
    if keep is not None:
        log_absent_params(tracking, found.record, keep)
        _mend_links(look, found.record, keep)
        if found.ended:
            _mend_shown(tracking, found.record, keep)
        if found.record.end is None and keep.info.status not in IDLE:
            tracking.client.update_run(keep.info.run_id, status="KILLED")


def _restored(tracking: Tracking, found: Found) -> Run | None:
    """The newest deleted run of a trial that does not contradict it, restored; None: there is none."""
    for run in reversed(found.deleted):
        if not contradiction(tracking, found, run):
            tracking.client.restore_run(run.info.run_id)
            return tracking.client.get_run(run.info.run_id)
    return None


def _mend_links(look: Look, record: Record, run: Run) -> None:
    """Give `run` its parent, its images and, where it was looked at closely, its name."""
    client, run_id = look.tracking.client, run.info.run_id
    if look.parent and run.data.tags.get(PARENT) != look.parent:
        client.set_tag(run_id, PARENT, look.parent)
    if look.images is not None and look.thorough:
        client.log_inputs(run_id, [look.images])  # a second time changes nothing
    if look.thorough and run.info.run_name != record.title:
        if run.info.run_name not in (record.name, record.former_title):
            client.set_tag(run_id, FORMER_NAME, run.info.run_name)
        client.update_run(run_id, name=record.title)


def _mend_shown(tracking: Tracking, record: Record, run: Run) -> None:
    """Make `run` show the last values of its own history, by logging them once more at a later time."""
    for metric, _ in shown_wrongly(record, run, histories(tracking, run)):
        times = [one.timestamp for one in tracking.client.get_metric_history(run.info.run_id, metric.key)]
        again = Metric(metric.key, metric.value, max(times) + 1, metric.step)
        tracking.client.log_batch(run.info.run_id, [again])


def _move_aside(tracking: Tracking, run: Run, reason: str, message: Callable[[str], None]) -> None:
    """Take `run` out of the study's trials."""
    doubles.move_aside(tracking.client, run, reason)
    trial, run_id = run.data.tags.get(TRIAL_TAG), run.info.run_id
    message(f"MLflow's run {run_id} of trial {trial} is moved aside ({SUPERSEDED_TAG}): {reason}")
