"""What MLflow is to hold of a trial and of a study: pure functions of them, so that it can be compared with them."""

import hashlib
import json
import posixpath
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from mlflow.entities import Metric, Param
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}
STUDY_TAG = "podium.study"
ID_TAG = "podium.id"
"""The study's own id: names can be equal, ids are not."""
RETRAIN_TAG = "podium.retrain"
PROJECT_TAG = "podium.project"
"""The id of the folder mlruns that a retraining belongs to: two clones with equal settings have two runs."""
TRIAL_TAG = "podium.trial"
KIND_TAG = "podium.kind"
SUPERSEDED_TAG = "podium.superseded"
"""Why a run was moved aside."""
STUDY_ID = "podium:id"
"""The user attribute of a study that holds its id."""
METRICS_A_CALL = 1000
OTHERS_A_CALL = 100
"""MLflow's limits on a batch: metrics, and parameters or tags."""
LIMIT = 5000
"""Characters of a tag's value that every MLflow store takes."""
LONGEST_PARAM = 6000
LONGEST_NAME = 250
OWN_METRICS = frozenset(
    {"trial_number", "duration_seconds", "epochs", "objective", "last_reported", "reported", "feasible"}
)
"""Metrics of a run that come from here; a person's have other names."""
TOP = 5
"""Trials in the table of a study's note."""
HELP = """\
Trials are the runs below this one: FINISHED ran to their end, KILLED were pruned, FAILED failed. Sort by `objective`,
which only trials that ran to their end have; or select some and press Compare: `trial_number` is an axis there."""

_ids: WeakKeyDictionary[optuna.Study, str] = WeakKeyDictionary()
_ids_lock = threading.Lock()


@dataclass(frozen=True)
class Record:
    """One run, as it should be."""

    name: str
    """Its name while the trial is running."""
    title: str
    """Its name at the end, with the value: it is what lists of runs show first."""
    status: str
    start: int
    """Milliseconds since 1970."""
    end: int | None
    params: dict[str, str]
    metrics: list[Metric]
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
    if not isinstance(name, str) or not isinstance(recipe, dict) or not _is_history(history):
        return user_attributes(trial)
    tags = {f"podium.{key}": clean(str(own[key])) for key in ("seed", "reason", "inherited_from") if key in own}
    if "traceback" in own:  # its end says what happened
        tags["podium.traceback"] = clean(str(own["traceback"])[-LIMIT:])
    return Attributes(name, history, own.get("recipe"), tags)


def _is_history(value: Any) -> bool:
    """Whether it is a list of epochs, each with its number, its seconds and other numbers."""
    return isinstance(value, list | tuple) and all(
        isinstance(epoch, dict)
        and {"epoch", "seconds"} <= epoch.keys()
        and all(isinstance(one, int | float) for one in epoch.values())
        for epoch in value
    )


def reader_of(study: optuna.Study) -> Reader:
    """How the attributes of the trials of `study` are read: its name says whether it is one of Podium's own."""
    return search_attributes if re.match(r"(search|confirm)-", study.study_name) else user_attributes


def user_attributes(trial: FrozenTrial) -> Attributes:
    """The attributes of a trial of any study as tags: user.<name>, system.<name> and distribution.<parameter>."""
    named = [(f"user.{name}", value) for name, value in trial.user_attrs.items()]
    named += [(f"system.{name}", value) for name, value in trial.system_attrs.items()]
    named += [(f"distribution.{name}", str(value)) for name, value in trial.distributions.items()]
    return Attributes(tags={key_of(name): text_of(value) for name, value in named})


def study_id(study: optuna.Study, *, make: bool = False) -> str | None:
    """The random id of `study`; where it has none yet, `make` gives it one, else None."""
    with _ids_lock:
        if study in _ids:
            return _ids[study]
        if make and not study.user_attrs.get(STUDY_ID):
            study.set_user_attr(STUDY_ID, uuid.uuid4().hex)
        found = study.user_attrs.get(STUDY_ID)
        if found:
            _ids[study] = str(found)
        return str(found) if found else None


def record_of(
    study: optuna.Study, trial: FrozenTrial, history: Sequence[Mapping[str, float]] | None, read: Reader
) -> Record:
    """The run of `trial`: its epochs or intermediate values as metrics, its recipe or parameters as parameters.

    `history` is that of a running trial; one that has ended has its own among its attributes, as `read` finds them.
    """
    attributes = read(trial)
    epochs = history if history is not None else attributes.history
    start = _milliseconds(trial.datetime_start) or 0
    end = _milliseconds(trial.datetime_complete)
    metrics = _epoch_metrics(epochs, start) if epochs else _intermediate_metrics(trial, start)
    params = attributes.params if attributes.params is not None else trial.params
    name = clean(attributes.name or f"trial-{trial.number:03d}", LONGEST_NAME)
    return Record(
        name=name,
        title=f"{name}{_ending(trial)}"[:LONGEST_NAME],
        status=STATUS[trial.state],
        start=start,
        end=end,
        params={key_of(name): clean(str(value), LONGEST_PARAM) for name, value in params.items()},
        metrics=metrics + _summary(study, trial, start, end, len(attributes.history or trial.intermediate_values)),
        tags=_tags(study, trial, params) | attributes.tags,
    )


def _ending(trial: FrozenTrial) -> str:
    """What the name of an ended trial's run says beyond its number."""
    if trial.state == TrialState.COMPLETE and trial.values:
        return f" · {', '.join(f'{value:.4f}' if abs(value) < 1e4 else f'{value:.4g}' for value in trial.values)}"
    if trial.state == TrialState.PRUNED:
        last = "" if trial.last_step is None else f" at {trial.intermediate_values[trial.last_step]:.4f}"
        return f" · pruned{last}"
    return " · failed" if trial.state == TrialState.FAIL else ""


def key_of(name: str) -> str:
    """`name`, or where MLflow does not take it as a key, what it takes, with a digest so that no two become one."""
    safe = re.sub(r"[^A-Za-z0-9_.\- :/]", "_", name)
    if posixpath.normpath(safe) != safe or safe.startswith(("..", "/")) or safe == ".":  # no plain relative path
        safe = re.sub(r"^\.+", "_", safe.replace("/", "_"))
    if safe == name and 0 < len(name) <= LONGEST_NAME:
        return name
    return f"{safe[: LONGEST_NAME - 9]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def text_of(value: Any) -> str:
    """An attribute's value for a tag: text as it stands, all else as JSON."""
    return clean(value if isinstance(value, str) else json.dumps(value, default=str))


def clean(text: str, limit: int = LIMIT) -> str:
    """The first `limit` characters of `text` as a database takes them.

    Bytes that Python could not decode (a non-ASCII path without UTF-8 mode) are read as UTF-8, if they are; what no
    UTF-8 text can hold (half a surrogate pair, the character 0) becomes a question mark.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        text = _bytes_of(pairs).decode("utf-8", "replace")
    return text[:limit].replace("\0", "?")


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def objectives(study: optuna.Study) -> list[str]:
    """What the metrics of a study's values are called: objective, or objective_0, ... or as the study names them."""
    count = len(study.directions)
    if count == 1:
        return ["objective"]
    plain = [f"objective_{place}" for place in range(count)]
    names = study.metric_names or []
    if len(set(names)) != count:
        return plain
    taken = [name in OWN_METRICS or name.startswith(("objective", "constraint_")) for name in names]
    return [other if own else key_of(name) for name, other, own in zip(names, plain, taken, strict=True)]


def summary_of(study: optuna.Study) -> dict[str, float]:
    """The result of a study in a few metrics: how many trials ended how, the best value, the size of the front."""
    trials = study.get_trials(deepcopy=False)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    values: dict[str, float] = {
        f"trials_{state.name.lower()}": sum(t.state == state for t in trials) for state in states
    }
    best = best_of(study)
    if len(study.directions) > 1:
        values["trials_on_front"] = len(best)
    elif best and best[0].values:
        values |= {"best_objective": best[0].values[0], "best_trial": best[0].number}
    return values


def best_of(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or the trials on the front of several objectives; none where none completed or is feasible."""
    if len(study.directions) > 1:
        return list(study.best_trials)
    try:
        return [study.best_trial]
    except ValueError:
        return []


def note_of(study: optuna.Study) -> str:
    """The page of a study's parent run in Markdown: counts, the best trials, how to compare them."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    states = Counter(t.state for t in trials)
    complete, pruned, failed = (states[s] for s in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    counts = f"{len(trials)} trials: {complete} ran to their end, {pruned} were pruned, {failed} failed."
    best = _ranking(study, trials)
    lines = [f"### {clean(study.study_name, LONGEST_NAME)}", "", counts, "", *_table(objectives(study), best), "", HELP]
    text = "\n".join(lines)
    return text if len(text) <= LIMIT else "\n".join([*lines[:4], HELP])  # hundreds of parameters


def _ranking(study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        return best_of(study)[:TOP]
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    valued = [t for t in trials if t.value is not None and _keeps_limits(t)]
    return sorted(valued, key=lambda t: (-sign * (t.value or 0), t.number))[:TOP]


def _keeps_limits(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def _table(names: list[str], best: list[FrozenTrial]) -> list[str]:
    params = sorted({name for trial in best for name in trial.params})
    if not best:
        return []
    head = ["trial", *names, *(f"`{name}`" for name in params)]
    rows = [
        [str(t.number), *(f"{v:.4f}" for v in t.values or ()), *(_shown(t.params.get(name, "")) for name in params)]
        for t in best
    ]
    marks = ["---:"] * (1 + len(names)) + ["---"] * len(params)
    return [_row(head), _row(marks), *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _epoch_metrics(epochs: Sequence[Mapping[str, float]], start: int) -> list[Metric]:
    metrics, seconds = [], 0.0
    for epoch in epochs:
        seconds += epoch["seconds"]
        at = start + int(seconds * 1000)
        metrics += [Metric(k, v, at, int(epoch["epoch"])) for k, v in epoch.items() if k != "epoch"]
    return metrics


def _intermediate_metrics(trial: FrozenTrial, start: int) -> list[Metric]:
    return [Metric("reported", value, start, step) for step, value in sorted(trial.intermediate_values.items())]


def _summary(study: optuna.Study, trial: FrozenTrial, start: int, end: int | None, epochs: int) -> list[Metric]:
    """The trial's number as an axis, and once it has ended its result.

    Only a completed trial has an `objective`: a pruned one's last value goes by another name, so that sorting by the
    objective is safe.
    """
    values: dict[str, float] = {"trial_number": trial.number}
    if end is not None:
        values["duration_seconds"] = (end - start) / 1000
        values["epochs"] = epochs
    if trial.state == TrialState.COMPLETE and trial.values:
        values |= dict(zip(objectives(study), trial.values, strict=True))
    elif trial.state == TrialState.PRUNED and trial.last_step is not None:
        values["last_reported"] = trial.intermediate_values[trial.last_step]
    limits = trial.constraints
    if limits:
        values |= {key_of(f"constraint_{name}"): value for name, value in limits.items()}
        values["feasible"] = float(all(value <= 0 for value in limits.values()))
    return [Metric(key, value, end or start, 0) for key, value in values.items()]


def _tags(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, Any]) -> dict[str, str]:
    tags = {
        STUDY_TAG: clean(study.study_name),
        TRIAL_TAG: str(trial.number),
        KIND_TAG: "trial",
        "podium.state": trial.state.name,
    }
    if own := study_id(study):
        tags[ID_TAG] = own
    renamed = {key_of(name): name for name in params if key_of(name) != name}
    return tags | ({"podium.renamed": clean(json.dumps(renamed))} if renamed else {})


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
