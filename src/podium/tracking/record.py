"""What MLflow is to hold of a trial: a pure function of its study, so that a run can be compared with it."""

import json
import re
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

import optuna
from mlflow.entities import Metric, Param
from optuna.trial import FrozenTrial, TrialState

from podium.text import number
from podium.tracking.pareto_front import best_trials, is_feasible
from podium.tracking.run_names import (
    FRONT_TAG,
    ID_TAG,
    KIND_TAG,
    LEFT_OUT_TAG,
    LIMIT,
    LONGEST_NAME,
    LONGEST_PARAM,
    PEAK_MEMORY,
    STUDY_ID,
    STUDY_TAG,
    TRIAL_TAG,
    clean,
    is_step,
    key_of,
    plain_text,
    text_of,
)
from podium.tracking.study_storage import number_in_storage, storage_of
from podium.tracking.study_summary import objectives

STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}

LONGEST_EPOCH = 1e9
"""Seconds, 30 years: what is longer was not measured."""
_ids: WeakKeyDictionary[optuna.Study, str] = WeakKeyDictionary()
_ids_lock = threading.RLock()  # a logger that Python collects within it asks for its study's id
_watched: WeakKeyDictionary[optuna.Study, tuple[str, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Record:
    """One run, as it should be."""

    name: str
    """Its name while the trial is running."""
    title: str
    """Its name at the end, with the value: it is what lists of runs show first."""
    former_title: str
    """As Podium wrote the same value until 2026-11-29: a run that is called so has its name from us."""
    status: str
    start: int
    """Milliseconds since 1970."""
    end: int | None
    params: dict[str, str]
    metrics: list[Metric]
    """Its result first: the page that compares runs begins with the first metric of the first of them."""
    tags: dict[str, str]

    def entities(self) -> list[Param]:
        """The parameters as MLflow's own class."""
        return [Param(key, value) for key, value in self.params.items()]


@dataclass(frozen=True)
class Attributes:
    """What the attributes of a trial say beyond its parameters and values."""

    name: str = ""
    history: Sequence[Mapping[str, float]] = ()
    params: Mapping[str, Any] | None = None
    tags: dict[str, str] = field(default_factory=dict)


Reader = Callable[[FrozenTrial], Attributes]
"""How a trial's attributes are read: those of Podium's own search, or anybody's."""


def search_attributes(trial: FrozenTrial) -> Attributes:
    """What Podium's own search keeps in a trial's user attributes; nothing else reads them for MLflow.

    Attributes of these names that are not what Podium keeps there are somebody else's: see `user_attributes`.
    """
    own = trial.user_attrs
    name, history, recipe = own.get("name", ""), own.get("history", ()), own.get("recipe", {})
    rested = own.get("rested_at", [])
    if not (isinstance(name, str) and isinstance(recipe, dict) and isinstance(rested, list) and _is_history(history)):
        return user_attributes(trial)
    tags = {f"podium.{key}": clean(str(own[key])) for key in ("seed", "reason", "inherited_from") if key in own}
    if "rested_at" in own:  # of a freeze-thaw search: the epochs at whose ends it rested
        tags["podium.rested_at"] = clean(", ".join(str(epoch) for epoch in rested))
    if "traceback" in own:  # its end says what happened
        tags["podium.traceback"] = clean(str(own["traceback"])[-LIMIT:])
    return Attributes(name, history, own.get("recipe"), tags)


def _is_history(value: Any) -> bool:
    """Whether it is a list of epochs, each with its number, its seconds and other numbers."""
    return isinstance(value, list | tuple) and all(
        isinstance(epoch, dict)
        and {"epoch", "seconds"} <= epoch.keys()
        and all(_is_number(one) for one in epoch.values())
        and is_step(epoch["epoch"])
        and 0 <= epoch["seconds"] < LONGEST_EPOCH
        for epoch in value
    )


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a metric can have this value: whole numbers of 400 digits are read from JSON, too."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def reader_of(study: optuna.Study) -> Reader:
    """How the attributes of the trials of `study` are read: its name says whether it is one of Podium's own."""
    return search_attributes if re.match(r"(search|confirm)-", study.study_name) else user_attributes


def user_attributes(trial: FrozenTrial) -> Attributes:
    """The attributes of a trial of any study as tags: user.<name>, system.<name> and distribution.<parameter>."""
    named = [(f"user.{name}", value) for name, value in trial.user_attrs.items()]
    named += [(f"system.{name}", value) for name, value in trial.system_attrs.items()]
    named += [(f"distribution.{name}", plain_text(value)) for name, value in trial.distributions.items()]
    return Attributes(tags={key_of(name): text_of(value) for name, value in named})


def study_id(study: optuna.Study, *, make: bool = False) -> str | None:
    """The random id of `study`; where it has none of its own yet, `make` gives it one, else None.

    `optuna.copy_study` copies it with all attributes: it is the study's own where it was made for a study of this name.
    No storage has two of one name, so a copy under the same name is in another one, and is that study, moved: its
    number is another one there.
    """
    with _ids_lock:
        if study in _ids:
            return _ids[study]
        found = _own_id(study)
        if make and not found:
            found = uuid.uuid4().hex
            study.set_user_attr(STUDY_ID, f"{found} {_owner(study)}")
        if found:
            _ids[study] = found
        return found or None


def set_study_id(study: optuna.Study, new: str) -> None:
    """Give `study` another id: the runs of the one that it had are those of another study from now on."""
    with _ids_lock:
        study.set_user_attr(STUDY_ID, f"{new} {_owner(study)}")
        _ids[study] = new


def is_copy(study: optuna.Study) -> bool:
    """Whether `study` has the id of the study that it was copied from, and none of its own yet."""
    with _ids_lock:
        return study not in _ids and STUDY_ID in study.user_attrs and not _own_id(study)


def _own_id(study: optuna.Study) -> str:
    """The id among the attributes of `study` if it was made for it; else empty."""
    text = study.user_attrs.get(STUDY_ID)
    if not isinstance(text, str) or not (parts := re.fullmatch(r"([0-9a-f]{32})(?: [0-9]+ (.*))?", text, re.DOTALL)):
        return ""
    if parts[2] is not None:
        return parts[1] if parts[2] == study.study_name else ""
    # From a time when nothing said whose it is: the oldest study of the storage that has it.
    storage, own = storage_of(study), number_in_storage(study)
    having = [one.study_name for one in storage.get_all_studies() if _plain_id(one.user_attrs) == parts[1]]
    return parts[1] if min(map(storage.get_study_id_from_name, having), default=own) == own else ""


def _plain_id(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get(STUDY_ID, "")).partition(" ")[0]


def _owner(study: optuna.Study) -> str:
    return f"{number_in_storage(study)} {study.study_name}"


def record_of(
    study: optuna.Study, trial: FrozenTrial, history: Sequence[Mapping[str, float]] | None, read: Reader
) -> Record:
    """The run of `trial`: its epochs or intermediate values as metrics, its recipe or parameters as parameters.

    `history` is that of a running trial; one that has ended has its own among its attributes, as `read` finds them.
    """
    attributes = read(trial)
    epochs = history if history is not None else attributes.history
    start, end = _time(trial.datetime_start) or 0, _time(trial.datetime_complete)
    end = None if end is None else max(start, end)  # the clock may have been set back meanwhile
    curves = _epoch_metrics(epochs, start, watched(study)) if epochs else _intermediate_metrics(trial, start)
    params = attributes.params if attributes.params is not None else trial.params
    name = clean(attributes.name or f"trial-{trial.number:03d}", LONGEST_NAME)
    title, former_title = (f"{name}{ending}"[:LONGEST_NAME] for ending in _endings(trial))
    return Record(
        name=name,
        title=title,
        former_title=former_title,
        status=STATUS[trial.state],
        start=start,
        end=end,
        params={key_of(str(name)): clean(plain_text(value), LONGEST_PARAM) for name, value in params.items()},
        metrics=_result(study, trial, end or start)
        + curves
        + _summary(trial, start, end, len(attributes.history or trial.intermediate_values)),
        tags=_tags(study, trial, params, fronts=read is search_attributes) | attributes.tags,
    )


def _endings(trial: FrozenTrial) -> tuple[str, str]:
    """What the name of an ended trial's run says beyond its number, and how it said the same until 2026-11-29."""
    if trial.state == TrialState.COMPLETE and trial.values:
        former = (f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}" for value in trial.values)
        return f" · {', '.join(map(number, trial.values))}", f" · {', '.join(former)}"
    if trial.state == TrialState.PRUNED:
        if trial.last_step is None:
            return " · pruned", " · pruned"
        last = trial.intermediate_values[trial.last_step]
        return f" · pruned at {number(last)}", f" · pruned at {last:.4f}"
    ending = " · failed" if trial.state == TrialState.FAIL else ""
    return ending, ending


def watched(study: optuna.Study) -> tuple[str, ...]:
    """What the epochs of a search of Podium's call the metrics that it searches for; () for studies of others."""
    if study not in _watched:
        own = reader_of(study) is search_attributes
        _watched[study] = tuple(f"val_{name}" for name in (study.metric_names or ()) if own)
    return _watched[study]


def _epoch_metrics(epochs: Sequence[Mapping[str, float]], start: int, first: Sequence[str]) -> list[Metric]:
    """Those called as in `first` come first: a server keeps the order in which a run got its metrics."""
    metrics, seconds = [], 0.0
    for epoch in epochs:
        seconds += epoch["seconds"]
        at, step = start + int(seconds * 1000), int(epoch["epoch"])
        names = [*(name for name in first if name in epoch), *(name for name in epoch if name not in first)]
        metrics += [Metric(name, epoch[name], at, step) for name in names if name != "epoch"]
    return metrics


def _intermediate_metrics(trial: FrozenTrial, start: int) -> list[Metric]:
    values = sorted(trial.intermediate_values.items())
    return [Metric("reported", value, start, step) for step, value in values if is_step(step)]


def _result(study: optuna.Study, trial: FrozenTrial, at: int) -> list[Metric]:
    """What came of a trial, logged at the time `at`.

    Only a completed trial has an `objective`: a pruned one's last value goes by another name, so that sorting by the
    objective is safe.
    """
    values: dict[str, float] = {}
    if trial.state == TrialState.COMPLETE and trial.values:
        values = dict(zip(objectives(study), trial.values, strict=True))
    elif trial.state == TrialState.PRUNED and trial.last_step is not None:
        values = {"last_reported": trial.intermediate_values[trial.last_step]}
    return [Metric(key, value, at, 0) for key, value in values.items()]


def _summary(trial: FrozenTrial, start: int, end: int | None, epochs: int) -> list[Metric]:
    """Once the trial has ended its number, as an axis, and what it took.

    Not before: behind a server the page that compares runs begins with what was logged first: then the epochs.
    """
    values: dict[str, float] = {}
    if end is not None:
        values["trial_number"] = trial.number
        took = (_milliseconds(trial.datetime_complete) or 0) - (_milliseconds(trial.datetime_start) or 0)
        values["duration_seconds"] = max(0, took) / 1000  # the clock may have been set back meanwhile
        values["epochs"] = epochs
    used = trial.user_attrs.get(PEAK_MEMORY)
    if end is not None and _is_number(used):
        values[PEAK_MEMORY] = used
    limits = trial.constraints
    if limits:
        values |= {key_of(f"constraint_{name}"): value for name, value in limits.items()}
        values["feasible"] = float(is_feasible(trial))
    return [Metric(key, value, end or start, 0) for key, value in values.items()]


def _tags(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, Any], *, fronts: bool) -> dict[str, str]:
    tags = {
        STUDY_TAG: clean(study.study_name),
        TRIAL_TAG: str(trial.number),
        KIND_TAG: "trial",
        "podium.state": trial.state.name,
    }
    if own := study_id(study):
        tags[ID_TAG] = own
    if fronts and trial.state == TrialState.COMPLETE and (front := _front(study)) is not None:
        tags[FRONT_TAG] = "yes" if trial.number in front else "no"
    if left_out := [step for step in trial.intermediate_values if not is_step(step)]:
        tags[LEFT_OUT_TAG] = clean(f"reported at step {', '.join(map(str, left_out))}: more than 64 bits")
    renamed = {key_of(str(name)): name for name in params if key_of(str(name)) != str(name)}
    return tags | ({"podium.renamed": clean(json.dumps(renamed))} if renamed else {})


def _front(study: optuna.Study) -> frozenset[int] | None:
    """The trials on the Pareto front of a search of Podium's for several metrics; None: it is none.

    A later trial may push one off: what was logged until then is corrected when the search ends. Nobody does that for
    the studies of others.
    """
    if not study.study_name.startswith("search-") or len(study.directions) == 1:
        return None
    return frozenset(trial.number for trial in best_trials(study))


def _time(moment: Any) -> int | None:
    """As MLflow takes it, from 1970 on: a machine whose clock lost its battery may be before, in its own time zone."""
    found = _milliseconds(moment)
    return None if found is None else max(1, found)


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
