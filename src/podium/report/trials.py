"""The trials of a search, from data/search."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podium.errors import InputError

COLUMNS = ("number", "state", "value", "last_value", "epochs", "seed", "inherited_from")
"""Of trials.csv; every other one is a searched field."""


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
    """Whether this study ran it; else it was taken over from an earlier one."""
    curve: list[tuple[int, float]]
    """Epoch and validation metric."""


@dataclass(frozen=True)
class Search:
    """Everything that data/search says."""

    study: str
    parent_run_id: str
    metric: str
    """accuracy or loss."""
    best: dict[str, Any]
    """As best.json has it."""
    importances: dict[str, float]
    space: dict[str, dict[str, Any]]
    """Each dimension as params.yaml spells it out."""
    fixed: dict[str, Any]
    """Every field of the recipe that a trial has unless its parameters say otherwise."""
    trials: list[Trial] = field(repr=False)
    """By number."""

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return -1 if self.metric == "loss" else 1

    def of(self, *states: str) -> list[Trial]:
        """The trials in one of `states`."""
        return [t for t in self.trials if t.state in states]

    def ranked(self) -> list[Trial]:
        """The completed trials, best value first."""
        return sorted(self.of("COMPLETE"), key=lambda t: (-self.sign * (t.value or 0.0), t.number))

    def network(self, trial: Trial) -> dict[str, Any]:
        """The `model` section of a trial's configuration."""
        fields = self.fixed | trial.params
        return {name.removeprefix("model."): value for name, value in fields.items() if name.startswith("model.")}


def read_search(folder: Path) -> Search:
    """What the stage `search` left in `folder`. Raises InputError where something is missing."""
    best, space = _json(folder / "best.json"), _json(folder / "space.json")
    curves = _curves(folder / "curves.csv", f"val_{best['metric']}")
    rows = _rows(folder / "trials.csv")
    trials = [_trial(row, space, curves.get(int(row["number"]), [])) for row in rows]
    return Search(
        study=best["study"],
        parent_run_id=best["parent_run_id"],
        metric=best["metric"],
        best=best,
        importances=_json(folder / "importances.json"),
        space=space["space"],
        fixed=space["fixed"],
        trials=trials,
    )


def _trial(row: dict[str, str], space: dict[str, Any], curve: list[tuple[int, float]]) -> Trial:
    params = {
        name: _typed(text, space["fixed"].get(name)) for name, text in row.items() if name not in COLUMNS and text != ""
    }
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
    )


def _typed(text: str, example: Any) -> Any:
    """A field's value again, of the type that `example` has; without one, of that which the text looks like."""
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
