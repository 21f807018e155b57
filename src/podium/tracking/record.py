"""What MLflow is to hold of a trial: a pure function of the study and the trial, so that a mirror can be checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from mlflow.entities import Metric, Param
from optuna.trial import FrozenTrial, TrialState

STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}
STUDY_TAG = "podium.study"
RETRAIN_TAG = "podium.retrain"
TRIAL_TAG = "podium.trial"
KIND_TAG = "podium.kind"
METRICS_A_CALL = 1000
"""MLflow's limit on a batch."""
LIMIT = 5000
"""Characters of a tag's value that every MLflow store takes."""


@dataclass(frozen=True)
class Record:
    """One run, as it should be."""

    name: str
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


def record_of(study: optuna.Study, trial: FrozenTrial, history: Sequence[dict[str, float]] | None = None) -> Record:
    """The run of `trial`: every epoch of its history as metrics, its recipe as parameters.

    `history` is that of a running trial; one that has ended carries its own in the attribute `history`. A study
    that was not made by Podium has neither: its intermediate values and parameters are taken.
    """
    attributes = trial.user_attrs
    epochs = history if history is not None else attributes.get("history", [])
    start = _milliseconds(trial.datetime_start) or 0
    end = _milliseconds(trial.datetime_complete)
    metrics = _epoch_metrics(epochs, start) if epochs else _intermediate_metrics(trial, start)
    recipe: dict[str, Any] = attributes.get("recipe", trial.params)
    return Record(
        name=attributes.get("name", f"trial-{trial.number:03d}"),
        status=STATUS[trial.state],
        start=start,
        end=end,
        params={name: str(value) for name, value in recipe.items()},
        metrics=metrics + _summary(trial, start, end),
        tags=_tags(study, trial),
    )


def _epoch_metrics(epochs: Sequence[dict[str, float]], start: int) -> list[Metric]:
    metrics, seconds = [], 0.0
    for epoch in epochs:
        seconds += epoch["seconds"]
        at = start + int(seconds * 1000)
        metrics += [Metric(k, v, at, int(epoch["epoch"])) for k, v in epoch.items() if k != "epoch"]
    return metrics


def _intermediate_metrics(trial: FrozenTrial, start: int) -> list[Metric]:
    return [Metric("reported", value, start, step) for step, value in sorted(trial.intermediate_values.items())]


def _summary(trial: FrozenTrial, start: int, end: int | None) -> list[Metric]:
    """The trial's number as an axis, and once it has ended its result.

    Only a completed trial has an `objective`: a pruned one's last value goes by another name, so that sorting by the
    objective is safe.
    """
    values: dict[str, float] = {"trial_number": trial.number}
    if end is not None:
        values["duration_seconds"] = (end - start) / 1000
        values["epochs"] = len(trial.user_attrs.get("history", trial.intermediate_values))
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        values["objective"] = trial.value
    elif trial.state == TrialState.PRUNED and trial.last_step is not None:
        values["last_reported"] = trial.intermediate_values[trial.last_step]
    return [Metric(key, value, end or start, 0) for key, value in values.items()]


def _tags(study: optuna.Study, trial: FrozenTrial) -> dict[str, str]:
    attributes = trial.user_attrs
    tags = {
        STUDY_TAG: study.study_name,
        TRIAL_TAG: str(trial.number),
        KIND_TAG: "trial",
        "podium.state": trial.state.name,
    }
    tags |= {
        f"podium.{key}": str(attributes[key])[:LIMIT]
        for key in ("seed", "reason", "inherited_from")
        if key in attributes
    }
    if "traceback" in attributes:  # its end says what happened
        tags["podium.traceback"] = attributes["traceback"][-LIMIT:]
    return tags


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
