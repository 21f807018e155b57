"""Whether MLflow is a true image of a study, one run per trial; and making it one.

What a person added to a run is no difference: metrics, parameters, tags, notes, artifacts, another name. A run that
contradicts the study (another value of a parameter or metric, a second run of a trial) is never deleted or rewritten:
it is moved aside, with its reason in the tag podium.superseded, and another one takes its place.
"""

import logging
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import optuna
from mlflow.entities import DatasetInput, Run
from optuna.trial import FrozenTrial, TrialState

from podium.tracking.record import (
    ID_TAG,
    KIND_TAG,
    LIMIT,
    LONGEST_NAME,
    OWN_METRICS,
    SUPERSEDED_TAG,
    TRIAL_TAG,
    Reader,
    Record,
    record_of,
    search_attributes,
    study_id,
)
from podium.tracking.recorded_run import FORMER_NAME
from podium.tracking.store import Tracking, search
from podium.tracking.trial_logger import PARENT, TrialRuns, histories, log_absent_params, number_of, runs_of

IDLE = ("KILLED", "RUNNING")
"""What the run of a trial may say that has not ended: interrupted, or running."""
UNNUMBERED = -1
"""Stands for the number of a run whose tag is none any more: somebody changed it."""
MEASURED = "seconds"
"""A metric that is another one when a killed trial's epochs after its last checkpoint are trained again."""
SUPERSEDED = "superseded"
"""The kind of a run that was moved aside: nothing that looks for trials finds it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """One way in which MLflow is not what the study says."""

    trial: int | None
    """None: the run above the trials, or a retraining's."""
    what: str
    study: str
    mlflow: str


@dataclass(frozen=True)
class _Found:
    """A trial, what its run should be, and the runs that it has."""

    number: int
    trial: FrozenTrial | None
    record: Record | None
    runs: list[Run]
    deleted: list[Run]
    """Those that can be restored."""

    @staticmethod
    def of(number: int, trial: FrozenTrial | None, record: Record | None, runs: list[Run]) -> "_Found":
        active = [run for run in runs if run.info.lifecycle_stage == "active"]
        return _Found(number, trial, record, active, [run for run in runs if run not in active])


def differences(
    tracking: Tracking,
    study: optuna.Study,
    *,
    thorough: bool = True,
    read: Reader = search_attributes,
    parent: str | None = None,
    images: DatasetInput | None = None,
) -> list[Difference]:
    """Every difference between `study` and its runs, which lie below the run `parent` and have `images` as an input.

    `thorough` reads each run's whole metric history, names and inputs; without it the values that the run shows are
    compared. Without a `parent` or `images` those are not.
    """
    looked = _Look(tracking, thorough, parent, images)
    return [d for found in _found(tracking, study, read) for d in _compare(looked, found)]


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
    looked = _Look(tracking, thorough, trials.parent(study), trials.images)
    for found in _found(tracking, study, trials.read):
        if differs := _compare(looked, found):
            every += differs
            _repair(looked, study, trials, found, message)
    return every


@dataclass(frozen=True)
class _Look:
    """Where and how closely it is looked, and what the runs of trials have in common."""

    tracking: Tracking
    thorough: bool
    parent: str | None
    images: DatasetInput | None


def images_of(run: Run) -> list[tuple[str, str]]:
    """Name and digest of each data set that is an input of `run`."""
    return [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs] if run.inputs else []


def superseded(tracking: Tracking, study: optuna.Study) -> list[Run]:
    """The runs of `study` that were moved aside."""
    own = study_id(study)
    return search(tracking, {ID_TAG: own, KIND_TAG: SUPERSEDED}) if own else []


def end_open_runs(tracking: Tracking, study: optuna.Study) -> None:
    """Set the runs of trials that wait to go on to KILLED: nothing of a search that has ended stays RUNNING."""
    for run in runs_of(tracking, study):
        if run.info.status == "RUNNING":
            tracking.client.set_terminated(run.info.run_id, "KILLED")


def abandoned(tracking: Tracking, kind: str, tags: dict[str, str], *, repair: bool) -> list[Difference]:
    """Runs of a `kind` with all of `tags` that are RUNNING although nobody is at work on them; `repair` sets them to
    KILLED. A retraining's run has its search's tags too: the kind says whose lock the caller has to hold.
    """
    runs = [run for run in search(tracking, tags | {KIND_TAG: kind}) if run.info.status == "RUNNING"]
    if repair:
        for run in runs:
            tracking.client.set_terminated(run.info.run_id, "KILLED")
    return [Difference(None, f"status of {run.info.run_name}", "nobody works on it", "RUNNING") for run in runs]


def _found(tracking: Tracking, study: optuna.Study, read: Reader) -> Iterator[_Found]:
    """Every trial that has begun, and every number that only runs have."""
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in runs_of(tracking, study, deleted=True, numbered=False):
        number = number_of(run)
        runs[UNNUMBERED if number is None else number].append(run)
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING}
    for number, trial in trials.items():
        yield _Found.of(number, trial, record_of(study, trial, None, read), runs.get(number, []))
    for number in sorted(set(runs) - set(trials)):
        found = _Found.of(number, None, None, runs[number])
        if found.runs:
            yield found


def _repair(look: _Look, study: optuna.Study, trials: TrialRuns, found: _Found, message: Callable[[str], None]) -> None:
    """Keep the run that is right or can be completed, move the others aside, and log what is missing.

    Where the trial has no run but a deleted one that fits, that one is restored, with all that people wrote on it.
    """
    tracking = look.tracking
    reasons = {run.info.run_id: _contradiction(tracking, found, run) for run in found.runs}
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
        if found.record.end is None and keep.info.status not in IDLE:
            tracking.client.update_run(keep.info.run_id, status="KILLED")
    if found.trial.state.is_finished():
        trials.log(study, found.trial)


def _restored(tracking: Tracking, found: _Found) -> Run | None:
    """The newest deleted run of a trial that does not contradict it, restored; None: there is none."""
    for run in reversed(found.deleted):
        if not _contradiction(tracking, found, run):
            tracking.client.restore_run(run.info.run_id)
            return tracking.client.get_run(run.info.run_id)
    return None


def _mend_links(look: _Look, record: Record, run: Run) -> None:
    """Give `run` its parent, its images and, where it was looked at closely, its name."""
    client, run_id = look.tracking.client, run.info.run_id
    if look.parent and run.data.tags.get(PARENT) != look.parent:
        client.set_tag(run_id, PARENT, look.parent)
    if look.images is not None and look.thorough:
        client.log_inputs(run_id, [look.images])  # a second time changes nothing
    if look.thorough and run.info.run_name != record.title:
        if run.info.run_name != record.name:
            client.set_tag(run_id, FORMER_NAME, run.info.run_name)
        client.update_run(run_id, name=record.title)


def _move_aside(tracking: Tracking, run: Run, reason: str, message: Callable[[str], None]) -> None:
    """Take `run` out of the study's trials: its name, kind and reason say so, all that it holds stays."""
    run_id, name = run.info.run_id, f"{run.info.run_name} (superseded)"[:LONGEST_NAME]
    tracking.client.set_tag(run_id, SUPERSEDED_TAG, reason[:LIMIT])
    tracking.client.set_tag(run_id, KIND_TAG, SUPERSEDED)
    tracking.client.update_run(run_id, status="KILLED" if run.info.status == "RUNNING" else None, name=name)
    message(f"MLflow's run {run_id} of trial {run.data.tags[TRIAL_TAG]} is moved aside ({SUPERSEDED_TAG}): {reason}")


def _compare(look: _Look, found: _Found) -> list[Difference]:
    if found.trial is None or found.record is None:
        return [Difference(found.number, "trial", "absent", f"{len(found.runs)} runs")]
    ended = found.trial.state.is_finished()
    if len(found.runs) != 1:
        absent_is_right = not found.runs and not ended  # a short trial's run is made when it ends
        if absent_is_right and not found.deleted:
            return []
        count = f"{len(found.runs)} (deleted)" if found.deleted and not found.runs else str(len(found.runs))
        return [Difference(found.number, "runs", "1", count)]
    differs = _compare_facts(found.number, found.record, found.runs[0], ended)
    differs += _compare_links(look, found.number, found.record, found.runs[0])
    if ended:
        differs += _compare_metrics(look.tracking, found.number, found.record, found.runs[0], look.thorough)
    return differs


def _compare_links(look: _Look, number: int, record: Record, run: Run) -> list[Difference]:
    found = []
    parent = run.data.tags.get(PARENT, "absent")
    if look.parent and parent != look.parent:
        found.append(Difference(number, f"tag {PARENT}", look.parent, parent))
    if look.thorough and run.info.run_name not in (record.title, *([] if record.end else [record.name])):
        found.append(Difference(number, "name", record.title, str(run.info.run_name)))
    if look.thorough and look.images is not None:
        ours = (look.images.dataset.name, look.images.dataset.digest)
        inputs = images_of(run)
        if ours not in inputs:
            shown = ", ".join(" ".join(one) for one in inputs) or "absent"
            found.append(Difference(number, "dataset", " ".join(ours), shown))
    return found


def _compare_facts(number: int, record: Record, run: Run, ended: bool) -> list[Difference]:
    found = []
    if run.info.status != record.status if ended else run.info.status not in IDLE:
        found.append(Difference(number, "status", record.status, run.info.status))
    for key, ours in sorted(record.params.items()):
        if (theirs := run.data.params.get(key, "absent")) != ours:
            found.append(Difference(number, key, ours, theirs))
    for key, value in record.tags.items():
        if ended and run.data.tags.get(key) != value:
            found.append(Difference(number, f"tag {key}", value[:60], str(run.data.tags.get(key))[:60]))
    return found


def _compare_metrics(tracking: Tracking, number: int, record: Record, run: Run, thorough: bool) -> list[Difference]:
    wanted = {(m.key, m.step): m.value for m in record.metrics}
    own = _own(record)
    if thorough:
        got = histories(tracking, run)
        return _compare_values(number, wanted, {at: values for at, values in got.items() if at[0] in own})
    last: dict[str, tuple[int, float]] = {}
    for (key, step), value in wanted.items():
        if key not in last or step >= last[key][0]:
            last[key] = (step, value)
    shown = {(key, 0): {value} for key, value in run.data.metrics.items() if key in own}
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
    return any(ours is None or not same(ours, value) for value in theirs)


def same(ours: float, theirs: float) -> bool:
    """Whether `theirs` is what MLflow makes of `ours`."""
    if math.isinf(ours):  # an SQL store has the largest number instead
        return theirs in (ours, math.copysign(sys.float_info.max, ours))
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def _own(record: Record) -> set[str]:
    """The metrics that say what the study says; a person's have other names."""
    return {metric.key for metric in record.metrics} | OWN_METRICS


def _contradiction(tracking: Tracking, found: _Found, run: Run) -> str:
    """What `run` says that can't be repaired by adding to it: another parameter, another value. Empty: nothing."""
    record = found.record
    if found.number == UNNUMBERED:
        return f"its tag {TRIAL_TAG} is no number: {run.data.tags.get(TRIAL_TAG)}"
    if record is None:
        return "the study has no such trial"
    for key, ours in record.params.items():
        if run.data.params.get(key, ours) != ours:
            return f"{key} is {ours} in the study, {run.data.params[key]} here"
    if record.end is None:
        return ""  # a running trial's epochs are with its worker
    wanted, own = {(m.key, m.step): m.value for m in record.metrics}, _own(record)
    for at, values in histories(tracking, run).items():
        if at[0] in own and _others(at, wanted.get(at), values):
            held = ", ".join(str(value) for value in sorted(values))
            return f"{at[0]} at step {at[1]} is {wanted.get(at)} in the study, {held} here"
    return ""
