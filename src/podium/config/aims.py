"""`search.metric` as a list: several aims, of which none alone says which trial is better.

The first one is a metric of the validation images. By it the report's first figure, the evaluation and the promotion
gate go on; the others may be metrics too, or costs that follow from the configuration (config.limits.COSTS).
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from podium.components import Choice, choice
from podium.config.limits import COSTS
from podium.config.problems import sentences
from podium.config.section import ComponentError, made_of
from podium.errors import InputError, of_parameter

MOST = 4
"""With more aims nearly every trial is on the Pareto front, and a front is no help to choose (K. Deb and H. Jain, An
evolutionary many-objective optimization algorithm, 2014)."""
RULES = ("first", "knee")
"""What select.rule may be besides weights."""


@dataclass(frozen=True)
class Aim:
    """One of the things that a search is after."""

    name: str
    """accuracy, latency_ms: what study, files and MLflow call it."""
    direction: Literal["maximize", "minimize"]
    percent: bool
    """Whether its values are fractions of images."""

    @property
    def key(self) -> str:
        """What an epoch, or a configuration's costs, calls it."""
        return self.name if self.name in COSTS else f"val_{self.name}"

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1."""
        return 1 if self.direction == "maximize" else -1

    def plain(self) -> dict[str, Any]:
        """As best.json has it."""
        return {"metric": self.name, "direction": self.direction, "percent": self.percent}

    @staticmethod
    def of(chosen: Choice) -> "Aim":
        """That of a metric or a cost. Raises InputError where an own metric does not say which way is better."""
        if chosen.name in COSTS:
            return Aim(chosen.name, "minimize", False)
        metric = made_of("metric", chosen, {})
        try:
            is_up = metric.sign > 0
        except InputError as error:
            raise InputError(of_parameter("search.metric", str(error))) from None
        return Aim(metric.label, "maximize" if is_up else "minimize", bool(metric.PERCENT))

    @staticmethod
    def read(best: Mapping[str, Any]) -> "list[Aim]":
        """Those of best.json: of a search for one metric that one."""
        every = best.get("aims", [best])
        return [Aim(one["metric"], one["direction"], bool(one.get("percent"))) for one in every]


def label(chosen: Choice) -> str:
    """What a metric or a cost is called; nothing of people's own is imported for it."""
    return chosen.name if chosen.name in COSTS else str(made_of("metric", chosen, {}).label)


def metrics(value: Any) -> Any:
    """What stands in `search.metric`: a metric, or a list of several metrics and costs. Raises ValueError."""
    read = choice("metric").func
    if value is None:
        raise ValueError("must be a name, a mapping of name and arguments, or a list of these; got None")
    if not isinstance(value, list):
        if cost := _cost(value):
            raise ValueError(
                f"must be a metric of the validation images; {cost} follows from the configuration alone: set a limit"
                f" on it (search.limits), or search for both, as in [accuracy, {cost}]"
            )
        return read(value)  # type: ignore[call-arg] # pydantic's own type has the arguments of both kinds
    if not value:
        raise ValueError("must name a metric, or several; got []")
    found, problems = [], []
    for place, one in enumerate(value, 1):
        if one is None:
            problems.append(
                f"must have a metric or a cost as each item; item {place} is empty (null): name one or remove it"
            )
            continue
        if (cost := _cost(one)) and isinstance(one, dict) and one.get("arguments"):
            problems.append(f"{cost} takes no arguments; got {one['arguments']}: remove them")
            continue
        try:
            found.append(Choice(name=cost) if cost else read(one))  # type: ignore[call-arg]
        except ValidationError as error:
            problems += sentences(error, [], [])
        except ValueError as error:
            close = difflib.get_close_matches(str(one).lower(), COSTS, n=1)
            problems.append(f"{error}{f'; did you mean {close[0]}?' if close else ''}")
    if problems:
        raise ValueError("; ".join(problems))
    try:
        _check(found)
    except ComponentError as error:
        raise error.of_arguments(()) from None
    return found[0] if len(found) == 1 else found


def _cost(one: Any) -> str:
    """The cost that an item of the list names, as `latency_ms` or as `{name: latency_ms}`; empty: none."""
    name = one["name"] if isinstance(one, dict) and set(one) in ({"name"}, {"name", "arguments"}) else one
    return name if isinstance(name, str) and name in COSTS else ""


def _check(found: list[Choice]) -> None:
    """Raise ValueError for a list that no search can be after."""
    labels = [label(one) for one in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"must name each metric once; got {', '.join(twice)} twice")
    if len(found) > MOST:
        raise ValueError(
            f"must name at most {MOST}: of more, nearly every trial is on the Pareto front; got {len(found)}. Move some"
            " to search.limits, which keep what is beyond them out, or to evaluate.metrics, which are logged"
        )
    if labels[0] in COSTS:
        trained = [label for label in labels if label not in COSTS]
        right = ", ".join([*(trained or ["accuracy"]), *(label for label in labels if label in COSTS)])
        raise ValueError(
            "must begin with a metric of the validation images, by which the evaluation and the promotion gate go on;"
            f" got {labels[0]}: write [{right}]"
        )


def values(aims: Sequence[Aim], figures: Mapping[str, float]) -> list[float] | str:
    """The values of `aims` in `figures`, costs and metrics as an epoch has them; where one is missing, its name."""
    for aim in aims:
        if math.isnan(figures.get(aim.key, math.nan)):
            return aim.name
    return [float(figures[aim.key]) for aim in aims]


def rule(value: Any) -> Any:
    """What stands in `select.rule`: first, knee, or the weights of the metrics. Raises ValueError."""
    if isinstance(value, dict) and set(value) == {"weights"} and isinstance(value["weights"], dict):
        weights = value["weights"]
        numbers = [w for w in weights.values() if isinstance(w, int | float) and not isinstance(w, bool)]
        if len(numbers) < len(weights) or not all(math.isfinite(w) and w >= 0 for w in numbers) or not sum(numbers):
            raise ValueError(f"weights must be numbers from 0 on, and not all of them 0; got {weights}")
        return {"weights": {str(name): float(weight) for name, weight in weights.items()}}
    if value in RULES:
        return value
    raise ValueError(f"must be first, knee, or {{weights: {{accuracy: 2, latency_ms: 1}}}}; got {value!r}")


def rule_problem(chosen: Any, aims: Sequence[str]) -> str:
    """Why select.rule does not go with a search for `aims`; empty: it does."""
    if len(aims) == 1:
        return (
            ""
            if chosen == "first"
            else f"must be first where search.metric names one metric; got {chosen}: name several, such as"
            f" search.metric: [{aims[0]}, latency_ms], or remove select.rule"
        )
    if not isinstance(chosen, dict):
        return ""
    weights = chosen["weights"]
    if sorted(weights) == sorted(aims):
        return ""
    return f"weights must name each of search.metric ({', '.join(aims)}), 0 for what is not to count; got {weights}"
