"""The trials of a search: what data/search says of them, and when they ran.

Times are from the study itself, since data/ holds nothing in which two equal searches differ.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.errors import InputError
from podium.metrics.scores import Objective
from podium.tuning.storage import open_storage

COLUMNS = (
    "number",
    "state",
    "value",
    "last_value",
    "epochs",
    "seed",
    "feasible",
    "over_limits",
    "front",
    "inherited_from",
)
"""Of trials.csv; each other column is a searched field, or value_<metric> of another metric than the first."""
OTHER_VALUE = "value_"

ABOUT = ("trial", "state", "value")
"""Columns of curves.csv that are no figures."""


@dataclass(frozen=True)
class Trial:
    """One trial that has ended."""

    number: int
    state: str
    """COMPLETE, PRUNED or FAIL."""
    value: float | None
    """Of a completed trial."""
    last_value: float | None
    """The metric after the last epoch, of any trial that had one."""
    epochs: int
    """Epochs that were trained."""
    planned: int
    """Epochs that its configuration asks for."""
    params: dict[str, Any]
    """The searched fields that exist for it."""
    own: bool
    """Whether this study ran it; else it was inherited from an earlier one."""
    curve: list[tuple[int, float]]
    """Epoch and validation metric."""
    over_limits: str = ""
    """The limits that it breaks, in words; empty: none."""
    values: tuple[float, ...] = ()
    """Of a completed trial, one for each metric that is searched for."""
    front: bool = False
    """Whether it is on the Pareto front of several."""


@dataclass(frozen=True)
class Search:
    """Everything that data/search says."""

    study: str
    parent_run_id: str
    metric: Objective
    """What the search optimizes."""
    best: dict[str, Any]
    """As best.json has it."""
    importances: dict[str, float]
    space: dict[str, dict[str, Any]]
    """Each dimension as params.yaml spells it out."""
    fixed: dict[str, Any]
    """The value of each field of the recipe that a trial's parameters do not set."""
    trials: list[Trial] = field(repr=False)
    """By number."""
    decisions: list[dict[str, str]] = field(default_factory=list, repr=False)
    """The rows of decisions.csv; none where trials do not rest."""
    forecast: dict[str, Any] | None = field(default=None, repr=False)
    """forecast.json: what is expected of the trials that rested at the end; None where there is none."""
    last_epoch: dict[str, float] = field(default_factory=dict)
    """The figures of the best trial's last epoch, such as train_loss and val_loss."""
    others: list[Objective] = field(default_factory=list)
    """What it optimizes besides `metric`: metrics, or costs such as latency_ms."""

    @property
    def aims(self) -> list[Objective]:
        """Everything that it optimizes."""
        return [self.metric, *self.others]

    def of(self, *states: str) -> list[Trial]:
        """The trials in one of `states`."""
        return [t for t in self.trials if t.state in states]

    def ranked(self) -> list[Trial]:
        """The completed trials that keep search.limits, best value first."""
        complete = [t for t in self.of("COMPLETE") if not t.over_limits]
        return sorted(complete, key=lambda t: (-self.metric.sign * (t.value or 0.0), t.number))

    def network(self, trial: Trial) -> dict[str, Any]:
        """The `model` section of a trial's configuration."""
        fields = self.fixed | trial.params
        return {name.removeprefix("model."): value for name, value in fields.items() if name.startswith("model.")}


@dataclass(frozen=True)
class Span:
    """One trial in time."""

    start: float
    """Seconds since the first trial began."""
    end: float
    epoch_seconds: float
    """Mean of an epoch; 0 if none ended."""
    reason: str
    """Why it failed; empty for others."""


@dataclass(frozen=True)
class Timing:
    """A study in time."""

    began: str
    """Local date and time of the first trial."""
    seconds: float
    """Duration of the search, over all sessions."""
    spans: dict[int, Span]
    """By the trial's number."""
    epoch_seconds: float | None = None
    """Median over all epochs of the search; None: not known."""

    def lanes(self) -> dict[int, int]:
        """A lane for each trial so that none overlap: the workers, as far as times can tell."""
        free: list[float] = []
        lane: dict[int, int] = {}
        for number, span in sorted(self.spans.items(), key=lambda item: item[1].start):
            row = next((k for k, end in enumerate(free) if end <= span.start), len(free))
            free[row:] = [span.end, *free[row + 1 :]]
            lane[number] = row
        return lane

    def busy(self) -> float:
        """Seconds of all trials together."""
        return sum(span.end - span.start for span in self.spans.values())


def read_search(folder: Path) -> Search:
    """The output of the stage `search` in `folder`. Raises InputError if something is missing."""
    best, space = _json(folder / "best.json"), _json(folder / "space.json")
    curves = _curves(folder / "curves.csv", f"val_{best['metric']}")
    rows = _rows(folder / "trials.csv")
    trials = [_trial(row, space, curves.get(int(row["number"]), [])) for row in rows]
    return Search(
        study=best["study"],
        parent_run_id=best["parent_run_id"],
        metric=Objective.of(best),
        best=best,
        importances=_json(folder / "importances.json"),
        space=space["space"],
        fixed=space["fixed"],
        trials=trials,
        decisions=list(_rows(folder / "decisions.csv")) if (folder / "decisions.csv").is_file() else [],
        forecast=_json(folder / "forecast.json") if (folder / "forecast.json").is_file() else None,
        last_epoch=_last_epoch(folder / "curves.csv", int(best["trial"])),
        others=[Objective.of(one) for one in best.get("aims", [])[1:]],
    )


def read_timing(journal: Path, name: str) -> Timing | None:
    """The times of the study `name`; None if `journal` does not hold it, such as on another machine."""
    if not journal.is_file():
        return None
    storage = open_storage(journal)
    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    ended = [
        t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "inherited_from" not in t.user_attrs
    ]
    moments = [t.datetime_start for t in ended if t.datetime_start is not None]
    if not moments:
        return None
    first = min(moments)
    spans = {t.number: span for t in ended if (span := _span(t, first.timestamp()))}
    took = [epoch["seconds"] for t in ended for epoch in t.user_attrs.get("history", []) if epoch.get("seconds")]
    pace = median(took) if took else None
    return Timing(f"{first:%Y-%m-%d %H:%M}", float(study.user_attrs.get("seconds", 0.0)), spans, pace)


def _trial(row: dict[str, str], space: dict[str, Any], curve: list[tuple[int, float]]) -> Trial:
    params = {
        name: _typed(text, space["fixed"].get(name)) for name, text in row.items() if _is_searched(name) and text != ""
    }
    values = [row["value"], *(text for name, text in row.items() if name.startswith(OTHER_VALUE))]
    return Trial(
        number=int(row["number"]),
        state=row["state"],
        value=float(row["value"]) if row["value"] else None,
        last_value=float(row["last_value"]) if row["last_value"] else None,
        epochs=int(row["epochs"]),
        planned=int(params.get("train.epochs", space["fixed"]["train.epochs"])),
        params=params,
        own=not row["inherited_from"],
        curve=curve,
        over_limits=row.get("over_limits", ""),
        values=tuple(map(float, values)) if all(values) else (),
        front=row.get("front") == "True",
    )


def _is_searched(column: str) -> bool:
    return column not in COLUMNS and not column.startswith(OTHER_VALUE)


def _typed(text: str, example: Any) -> Any:
    """A field's value, of the type that `example` has; without one, of that which the text looks like."""
    if example is None:
        return _guessed(text)
    if isinstance(example, bool):
        return text == "True"
    return type(example)(text)


def _guessed(text: str) -> Any:
    """A number where `text` is one, True or False, or the text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _curves(path: Path, column: str) -> dict[int, list[tuple[int, float]]]:
    found: dict[int, list[tuple[int, float]]] = {}
    for row in _rows(path):
        if row[column]:
            found.setdefault(int(row["trial"]), []).append((int(row["epoch"]), float(row[column])))
    return found


def _last_epoch(path: Path, trial: int) -> dict[str, float]:
    rows = [row for row in _rows(path) if int(row["trial"]) == trial]
    return {name: float(text) for name, text in rows[-1].items() if text and name not in ABOUT} if rows else {}


def _rows(path: Path) -> Iterable[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro search`") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro search`") from None


def _span(trial: FrozenTrial, first: float) -> Span | None:
    start, end = trial.datetime_start, trial.datetime_complete
    if start is None or end is None:
        return None
    history = trial.user_attrs.get("history", [])
    mean = sum(epoch["seconds"] for epoch in history) / len(history) if history else 0.0
    reason = str(trial.user_attrs.get("reason", "no reason was recorded")) if trial.state == TrialState.FAIL else ""
    return Span(start.timestamp() - first, end.timestamp() - first, mean, reason)
