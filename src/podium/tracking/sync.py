"""Whether MLflow is a true image of a study, one run a trial; and making it one, without touching what is right."""

import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from podium.tracking.record import KIND_TAG, TRIAL_TAG, Record, record_of
from podium.tracking.store import Tracking
from podium.tracking.trial_logger import TrialLogger, histories, runs_of

IDLE = ("KILLED", "RUNNING")
"""What the run of a trial may say that has not ended: interrupted, or running."""
MEASURED = "seconds"
"""A metric that is another one when a killed trial's epochs after its last checkpoint are trained again."""


@dataclass(frozen=True)
class Difference:
    """One way in which MLflow is not what the study says."""

    trial: int | None
    """None: the run above the trials, or a retraining's."""
    what: str
    study: str
    mlflow: str


def differences(tracking: Tracking, study: optuna.Study, *, thorough: bool = True) -> list[Difference]:
    """Every difference between `study` and its runs.

    `thorough` reads each run's whole metric history; without it the values that the run shows are compared.
    """
    runs = _by_trial(tracking, study)
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING}
    found: list[Difference] = []
    for number, trial in trials.items():
        found += _compare(tracking, study, trial, runs.get(number, []), thorough)
    for number in sorted(set(runs) - set(trials)):
        found.append(Difference(number, "trial", "absent", f"{len(runs[number])} runs"))
    return found


def repair(tracking: Tracking, study: optuna.Study, logger: TrialLogger, *, thorough: bool = False) -> list[Difference]:
    """Make MLflow what the study says. Returns what was different."""
    found = differences(tracking, study, thorough=thorough)
    runs = _by_trial(tracking, study) if found else {}
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING}
    for number in sorted({d.trial for d in found if d.trial is not None}):
        _repair_trial(tracking, study, logger, trials.get(number), runs.get(number, []))
    return found


def end_open_runs(tracking: Tracking, study: optuna.Study) -> None:
    """Set the runs of trials that wait to go on to KILLED: nothing of a search that has ended stays RUNNING."""
    for run in runs_of(tracking, study.study_name):
        if run.info.status == "RUNNING":
            tracking.client.set_terminated(run.info.run_id, "KILLED")


def abandoned(tracking: Tracking, kind: str, tag: str, name: str, *, repair: bool) -> list[Difference]:
    """Runs of a `kind` whose `tag` is `name` that are RUNNING although nobody is at work on them; `repair` sets them
    to KILLED. A retraining's run has its search's tag too: the kind says whose lock the caller has to hold.
    """
    where = f"tags.`{tag}` = '{name}' and tags.`{KIND_TAG}` = '{kind}' and attributes.status = 'RUNNING'"
    runs = tracking.client.search_runs([tracking.experiment_id], where)
    if repair:
        for run in runs:
            tracking.client.set_terminated(run.info.run_id, "KILLED")
    return [Difference(None, f"status of {run.info.run_name}", "nobody works on it", "RUNNING") for run in runs]


def _repair_trial(
    tracking: Tracking, study: optuna.Study, logger: TrialLogger, trial: FrozenTrial | None, runs: list[Run]
) -> None:
    """Keep the run that is right or can be completed, delete the others, and log what is missing."""
    keep = None
    if trial is not None:
        record = record_of(study, trial)
        fitting = [run for run in runs if not _contradicts(tracking, record, run)]
        keep = max(fitting, key=lambda run: (run.info.status == record.status, len(run.data.metrics)), default=None)
    for run in runs:
        if keep is None or run.info.run_id != keep.info.run_id:
            tracking.client.delete_run(run.info.run_id)
    if trial is None:
        return
    logger.forget(study, trial.number, keep.info.run_id if keep else None)
    if keep is not None:
        _mend_facts(tracking, record, keep)
    if trial.state.is_finished():
        logger.log(study, trial)


def _mend_facts(tracking: Tracking, record: Record, run: Run) -> None:
    """Give `run` its name and parameters, and the run of a trial that waits to go on a status that says so."""
    run_id = run.info.run_id
    if run.info.run_name != record.name:
        tracking.client.update_run(run_id, name=record.name)
    absent = [param for param in record.entities() if param.key not in run.data.params]
    if absent:
        tracking.client.log_batch(run_id, params=absent)
    if record.end is None and run.info.status not in IDLE:
        tracking.client.update_run(run_id, status="KILLED")


def _by_trial(tracking: Tracking, study: optuna.Study) -> dict[int, list[Run]]:
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in runs_of(tracking, study.study_name):
        runs[int(run.data.tags[TRIAL_TAG])].append(run)
    return dict(runs)


def _compare(
    tracking: Tracking, study: optuna.Study, trial: FrozenTrial, runs: list[Run], thorough: bool
) -> list[Difference]:
    ended = trial.state.is_finished()
    if len(runs) != 1:
        absent_is_right = not runs and not ended  # a short trial's run is made when it ends
        return [] if absent_is_right else [Difference(trial.number, "runs", "1", str(len(runs)))]
    run, record = runs[0], record_of(study, trial)
    found = _compare_facts(trial.number, record, run, ended)
    if ended:
        found += _compare_metrics(tracking, trial.number, record, run, thorough)
    return found


def _compare_facts(number: int, record: Record, run: Run, ended: bool) -> list[Difference]:
    found = []
    if run.info.status != record.status if ended else run.info.status not in IDLE:
        found.append(Difference(number, "status", record.status, run.info.status))
    if run.info.run_name != record.name:
        found.append(Difference(number, "name", record.name, str(run.info.run_name)))
    for key in sorted(record.params.keys() | run.data.params.keys()):
        theirs, ours = run.data.params.get(key, "absent"), record.params.get(key, "absent")
        if theirs != ours:
            found.append(Difference(number, key, ours, theirs))
    for key, value in record.tags.items():
        if ended and run.data.tags.get(key) != value:
            found.append(Difference(number, f"tag {key}", value[:60], str(run.data.tags.get(key))[:60]))
    return found


def _compare_metrics(tracking: Tracking, number: int, record: Record, run: Run, thorough: bool) -> list[Difference]:
    wanted = {(m.key, m.step): m.value for m in record.metrics}
    if thorough:
        return _compare_values(number, wanted, histories(tracking, run))
    last: dict[str, tuple[int, float]] = {}
    for (key, step), value in wanted.items():
        if key not in last or step >= last[key][0]:
            last[key] = (step, value)
    shown = {(key, 0): {value} for key, value in run.data.metrics.items()}
    return _compare_values(number, {(key, 0): value for key, (_, value) in last.items()}, shown)


def _compare_values(
    number: int, wanted: Mapping[tuple[str, int], float], got: Mapping[tuple[str, int], set[float]]
) -> list[Difference]:
    found = []
    for at in sorted(wanted.keys() | got.keys()):
        ours, theirs = wanted.get(at), got.get(at, set())
        if not theirs or _others(at, ours, theirs):
            shown = ", ".join(str(value) for value in sorted(theirs)) or "None"
            found.append(Difference(number, f"{at[0]} at step {at[1]}", str(ours), shown))
    return found


def _others(at: tuple[str, int], ours: float | None, theirs: set[float]) -> bool:
    """Whether `theirs`, what MLflow holds of a metric at a step, has a value that is not `ours`."""
    if ours is not None and at[0] == MEASURED:
        return False
    return any(ours is None or not _same(ours, value) for value in theirs)


def _same(ours: float, theirs: float) -> bool:
    if math.isinf(ours):  # an SQL store has the largest number instead
        return theirs in (ours, math.copysign(sys.float_info.max, ours))
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def _contradicts(tracking: Tracking, record: Record, run: Run) -> bool:
    """Whether `run` says something that can't be mended by adding to it: another parameter, another value."""
    if any(record.params.get(key) != value for key, value in run.data.params.items()):
        return True
    if record.end is None:
        return False  # a running trial's epochs are with its worker
    wanted = {(m.key, m.step): m.value for m in record.metrics}
    return any(_others(at, wanted.get(at), values) for at, values in histories(tracking, run).items())
