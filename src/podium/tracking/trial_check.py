"""Whether MLflow is a true image of a study, one run per trial.

What a person added to a run is no difference: metrics, parameters, tags, notes, artifacts, another name.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import optuna
from mlflow.entities import DatasetInput, Metric, Run
from optuna.trial import FrozenTrial, TrialState

from podium.tracking.histories import histories, histories_of
from podium.tracking.record import Reader, Record, record_of, search_attributes, study_id
from podium.tracking.run_names import ID_TAG, KIND_TAG, STUDY_TAG, SUPERSEDED_TAG, TRIAL_TAG, clean, is_id
from podium.tracking.sqlite_reading import History
from podium.tracking.store import Tracking, search
from podium.tracking.study_summary import OWN_METRICS
from podium.tracking.trial_runs import PARENT, number_of

IDLE = ("KILLED", "RUNNING")
"""What the run of a trial may say that has not ended: interrupted, or running."""
UNNUMBERED = -1
"""Stands for the number of a run whose tag is none any more: somebody changed it."""
MEASURED = "seconds"
"""A metric that is another one when a killed trial's epochs after its last checkpoint are trained again."""
AT_ONCE = 500
"""Trials whose runs' histories are read together: those of 10,000 at once would take gigabytes."""


@dataclass(frozen=True)
class Difference:
    """One way in which MLflow is not what the study says."""

    trial: int | None
    """None: the run above the trials, or a retraining's."""
    what: str
    study: str
    mlflow: str


@dataclass(frozen=True)
class Found:
    """A trial, what its run should be, and the runs that it has."""

    number: int
    trial: FrozenTrial | None
    record: Record | None
    runs: list[Run]
    deleted: list[Run]
    """Those that can be restored."""

    @property
    def ended(self) -> bool:
        """Whether the trial has: then its run has all that there will be."""
        return self.trial is not None and self.trial.state.is_finished()

    @staticmethod
    def of(number: int, trial: FrozenTrial | None, record: Record | None, runs: list[Run]) -> "Found":
        """The trial with all of its `runs`, deleted ones among them."""
        active = [run for run in runs if run.info.lifecycle_stage == "active"]
        return Found(number, trial, record, active, [run for run in runs if run not in active])


@dataclass(frozen=True)
class Look:
    """Where and how closely it is looked, and what the runs of trials have in common."""

    tracking: Tracking
    thorough: bool
    parent: str | None
    images: DatasetInput | None


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
    look = Look(tracking, thorough, parent, images)
    runs = every_run(look, study)
    return [difference for _, differs in differing(look, study, read, runs) for difference in differs]


def every_run(look: Look, study: optuna.Study) -> list[Run]:
    """All runs that are or were a trial's: deleted ones too, and those whose number, kind or id somebody changed.

    One without the study's id is known by the parent that it lies below, its study's name and its trial's number.
    These are looked for where it is looked closely, or a trial seems to have no run; then also those whose id somebody
    changed to what is none.
    """
    own = study_id(study)
    if own is None:
        return []
    runs = [run for run in search(look.tracking, {ID_TAG: own}, deleted=True) if _is_trials(run)]
    there = {number_of(run) for run in runs if run.info.lifecycle_stage == "active"}
    ended = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    if look.parent is None or not (look.thorough or ended - there):
        return runs
    name = clean(study.study_name)
    below = search(look.tracking, {PARENT: look.parent}, without="" if ended - there else ID_TAG)
    below = [run for run in below if not is_id(run.data.tags.get(ID_TAG, ""))]
    without = [run for run in below if run.data.tags.get(STUDY_TAG, name) == name]
    return [*filter(_is_trials, without), *runs]  # of two for one trial the first is kept: it may have notes


def _is_trials(run: Run) -> bool:
    """Whether `run` is a trial's, going by its kind or, where somebody changed that, by its number."""
    kind = run.data.tags.get(KIND_TAG)
    return kind == "trial" or (TRIAL_TAG in run.data.tags and SUPERSEDED_TAG not in run.data.tags)


def differing(
    look: Look, study: optuna.Study, read: Reader, runs: Sequence[Run]
) -> Iterator[tuple[Found, list[Difference]]]:
    """The trials of `study` that `runs`, all of them, do not show as they are, and in what."""
    every = _found(study, read, runs)
    while part := list(islice(every, AT_ONCE)):
        closely = [found.runs[0] for found in part if look.thorough and found.ended and len(found.runs) == 1]
        known = histories_of(look.tracking, closely)
        for found in part:
            history = known.get(str(found.runs[0].info.run_id)) if found.runs else None
            if differs := _compare(look, found, history):
                yield found, differs


def images_of(run: Run) -> list[tuple[str, str]]:
    """Name and digest of each data set that is an input of `run`."""
    return [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs] if run.inputs else []


def _found(study: optuna.Study, read: Reader, every: Sequence[Run]) -> Iterator[Found]:
    """Every trial that has begun, and every number that only runs have."""
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in every:
        number = number_of(run)
        runs[UNNUMBERED if number is None else number].append(run)
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING}
    for number, trial in trials.items():
        yield Found.of(number, trial, record_of(study, trial, None, read), runs.get(number, []))
    for number in sorted(set(runs) - set(trials)):
        found = Found.of(number, None, None, runs[number])
        if found.runs:
            yield found


def _compare(look: Look, found: Found, history: History | None) -> list[Difference]:
    """What differs; without a `history` the values that the run shows are compared."""
    if found.trial is None or found.record is None:
        return [Difference(found.number, "trial", "absent", f"{len(found.runs)} runs")]
    if len(found.runs) != 1:
        absent_is_right = not found.runs and not found.ended  # a short trial's run is made when it ends
        if absent_is_right and not found.deleted:
            return []
        count = f"{len(found.runs)} (deleted)" if found.deleted and not found.runs else str(len(found.runs))
        return [Difference(found.number, "runs", "1", count)]
    differs = _compare_facts(found.number, found.record, found.runs[0], found.ended)
    differs += _compare_links(look, found.number, found.record, found.runs[0])
    if found.ended:
        values = _compare_metrics(found.number, found.record, found.runs[0], history)
        if values and history is None:  # it may be what a person added that is shown
            values = _compare_metrics(
                found.number, found.record, found.runs[0], histories(look.tracking, found.runs[0])
            )
        differs += values
    return differs


def _compare_links(look: Look, number: int, record: Record, run: Run) -> list[Difference]:
    found = []
    parent = run.data.tags.get(PARENT, "absent")
    if look.parent and parent != look.parent:
        found.append(Difference(number, f"tag {PARENT}", look.parent, parent))
    names = (record.title, record.former_title, *([] if record.end else [record.name]))
    if look.thorough and run.info.run_name not in names:
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
    if ended and not run.info.end_time:
        found.append(Difference(number, "end", "there", "absent"))
    return found


def _compare_metrics(number: int, record: Record, run: Run, history: History | None) -> list[Difference]:
    wanted = {(m.key, m.step): m.value for m in record.metrics}
    own = _results(record)
    if history is not None:
        judged = {at: values for at, values in history.items() if at in wanted or at[0] in own}
        shown_wrong = [
            Difference(number, f"{m.key} as it is shown", str(m.value), now)
            for m, now in shown_wrongly(record, run, history)
        ]
        return _compare_values(number, wanted, judged) + shown_wrong
    last: dict[str, tuple[int, float]] = {}
    for (key, step), value in wanted.items():
        if key not in last or step >= last[key][0]:
            last[key] = (step, value)
    shown = {(key, 0): {value} for key, value in run.data.metrics.items() if key in own or key in last}
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


def _results(record: Record) -> set[str]:
    """The metrics that say how a trial ended, by which pages sort: one value each, and another step is another value.

    Epochs and reports have many steps: what a person adds at one that the study does not have contradicts nothing.
    """
    many = {metric.key for metric in record.metrics if metric.step != 0} | {"reported"}
    return ({metric.key for metric in record.metrics} | OWN_METRICS) - many


def shown_wrongly(record: Record, run: Run, history: History) -> list[tuple[Metric, str]]:
    """The metrics of which `run` does not show the last value in its own `history`: that value, and what is shown.

    MLflow keeps what it shows in a table of its own, from which its pages read.
    """
    found = []
    for key in dict.fromkeys(metric.key for metric in record.metrics):
        last = max((step for name, step in history if name == key), default=None)
        if last is None:
            continue
        values, shown = history[key, last], run.data.metrics.get(key)
        if shown is None or not any(same(value, shown) for value in values):
            ours = next((m.value for m in record.metrics if (m.key, m.step) == (key, last)), max(values))
            found.append((Metric(key, ours, record.end or record.start, last), str(shown)))
    return found


def contradiction(tracking: Tracking, found: Found, run: Run) -> str:
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
    wanted, own = {(m.key, m.step): m.value for m in record.metrics}, _results(record)
    for at, values in histories(tracking, run).items():
        if (at in wanted or at[0] in own) and _others(at, wanted.get(at), values):
            held = ", ".join(str(value) for value in sorted(values))
            return f"{at[0]} at step {at[1]} is {wanted.get(at)} in the study, {held} here"
    return ""
