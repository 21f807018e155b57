"""What a freeze-thaw search has decided, as its study records it: the one fact that no trial has of its own.

The list only grows, an entry at a time, each written before the trial it names is handed to a worker. Which trials
rest, which are under way and how much of a budget is spent follows from it and from what the trials have reported: so a
search that was killed at any moment goes on as the one that was not.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.tuning.inherit import is_own

PREFIX = "thaw:"
"""How the names of the study's user attributes begin that hold the decisions, by number."""

RESTED = "rested_at"
"""User attribute of a trial: the epochs at whose ends it rested, for people."""


@dataclass(frozen=True)
class Decision:
    """One trial is to train until the end of an epoch."""

    trial: int
    """Its number; where there is no such trial yet, it begins."""
    until: int | None
    """The epoch, from 1; None: its last."""
    how: Literal["enqueued", "portfolio", "stratum", "random", "new", "thaw"]
    """An enqueued one, one of search.starts, one of the first strata, a random one before the model has seen enough,
    and the model's choice: a new one or one that rests."""
    values: dict[str, Any] | None = None
    """What a new trial is asked for, by dimension."""
    theta: list[float] | None = None
    """The model's parameters, where they were fitted for this decision."""
    limits_theta: list[float] | None = None
    """Those of the model of the limits of metrics."""
    gain: float | None = None
    """The largest expected improvement of any candidate at its end, in the logarithm of the error."""
    noise: float | None = None
    """The standard deviation of what the model takes for chance, in the same unit."""

    batch: int | None = None
    """Which batch it belongs to, from 0, in a deterministic search."""

    @property
    def by_model(self) -> bool:
        """Whether the model made it."""
        return self.how in ("new", "thaw")


def read(study: optuna.Study) -> list[Decision]:
    """The decisions of `study`, in order."""
    found = {name: value for name, value in study.user_attrs.items() if name.startswith(PREFIX)}
    return [Decision(**json.loads(found[name])) for name in sorted(found)]


def append(study: optuna.Study, decisions: list[Decision], decision: Decision) -> None:
    """Record `decision` after `decisions`, those that `study` has, and add it to them."""
    plain = {name: value for name, value in asdict(decision).items() if value is not None}
    if "until" not in plain:
        plain["until"] = None
    study.set_user_attr(f"{PREFIX}{len(decisions):06d}", json.dumps(plain))
    decisions.append(decision)


def until(decisions: Sequence[Decision], trial: FrozenTrial) -> int:
    """The epoch until which `trial` is to train by the last decision on it; 0: there is none."""
    last = next((one for one in reversed(decisions) if one.trial == trial.number), None)
    if last is None:
        return 0
    total = int(trial.user_attrs.get("recipe", {}).get("train.epochs", 0))
    return total if last.until is None else min(last.until, total or last.until)


def trained(trial: FrozenTrial) -> int:
    """Epochs that `trial` has reported."""
    return max(trial.intermediate_values, default=0)


def rests(decisions: Sequence[Decision], trial: FrozenTrial) -> bool:
    """Whether a RUNNING `trial` has done what was decided, and all of its epochs are recorded with it.

    One at its last epoch never rests: its driver died before it recorded the end.
    """
    history = trial.user_attrs.get("history", [])
    total = int(trial.user_attrs.get("recipe", {}).get("train.epochs", 0))
    return 0 < until(decisions, trial) <= len(history) < total and trained(trial) == len(history)


def not_begun(decisions: Sequence[Decision], trials: Sequence[FrozenTrial]) -> list[Decision]:
    """Decisions to begin a trial that the study does not have, or still has WAITING: its driver died in between."""
    states = {trial.number: trial.state for trial in trials}
    return [one for one in decisions if states.get(one.trial, TrialState.WAITING) == TrialState.WAITING]


def spent(decisions: Sequence[Decision], trials: Sequence[FrozenTrial]) -> int:
    """Epochs that the study's own trials have trained, and that the running ones are yet to train as decided."""
    total = 0
    for trial in (t for t in trials if is_own(t)):
        running = trial.state == TrialState.RUNNING
        total += max(trained(trial), until(decisions, trial) if running else 0)
    return total


def write_decisions(path: Path, study: optuna.Study) -> None:
    """What a freeze-thaw search decided, in order: which trial, how, until which epoch, and what the model expected.

    Another search has no such file. `gain` and `noise` are logarithms of the error: see Decision.
    """
    decisions = read(study)
    if not decisions:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["decision", "trial", "how", "until", "gain", "noise"]
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for number, one in enumerate(decisions):
            known = {name: value for name, value in vars(one).items() if value is not None}
            writer.writerow({"decision": number, **known})
