"""Metrics that a search optimises, a file each: `search.metric` names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Objective:
    """What a search has optimised, as its results have it."""

    name: str
    maximize: bool
    percent: bool
    """Whether its values are fractions of images."""

    @staticmethod
    def of(best: Mapping[str, Any]) -> "Objective":
        """That of best.json."""
        return Objective(best["metric"], best["direction"] == "maximize", bool(best["percent"]))

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1: of `sign * value` the largest is the best."""
        return 1 if self.maximize else -1

    def format(self, value: float) -> str:
        """A value as people read it."""
        return as_percent(value) if self.percent else f"{value:.4f}"


def as_percent(fraction: float) -> str:
    """`fraction` as 99.63%."""
    return f"{100 * fraction:.2f}%"


class Metric(Component):
    """A metric of the validation images that `search.metric` names; every epoch has it as `val_<name>`."""

    DIRECTION: ClassVar[str] = "maximize"
    """maximize or minimize."""
    PERCENT: ClassVar[bool] = False
    """Whether its values are fractions of images, shown as 99.63%."""
    EACH_EPOCH: ClassVar[bool] = False
    """Whether every epoch has it anyway."""

    @property
    def label(self) -> str:
        """What `val_` is put before."""
        return self.NAME

    @property
    def direction(self) -> str:
        """maximize or minimize."""
        return self.DIRECTION

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """The metric of logits (N, classes) float32 and labels (N,) int64, both on the training's device."""
        raise NotImplementedError


class OwnMetric(Metric):
    """Somebody's own function of logits and labels to a number.

    It says which way is better by an attribute: `my_metric.direction = "minimize"`.
    """

    chosen: Choice

    @property
    def label(self) -> str:
        """The function's name."""
        return self.chosen.label

    @property
    def direction(self) -> str:
        """The function's attribute. Raises InputError where it has none."""
        found = getattr(components.load("metric", self.chosen.name), "direction", None)
        if found not in DIRECTIONS:
            raise InputError(
                f"search.metric: {self.chosen.name} must say which way is better, by an attribute: write"
                f' `{self.chosen.label}.direction = "maximize"` (or "minimize") below the function; got {found!r}'
            )
        return str(found)

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """What the function gives. Raises InputError where that is no number."""
        name, given = self.chosen.name, dict(self.chosen.arguments)
        function = components.load("metric", name)
        known, _ = own_code.arguments_of(function)
        own_code.check_arguments(function, name, "search.metric", given, set(list(known)[:2]))
        value: Any = function(logits, labels, **given)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"search.metric: {name} must give a number; it gave {value!r}") from error


def wrap(choice: Choice) -> Metric:
    """Somebody's own metric as one of ours."""
    return OwnMetric(chosen=choice)
