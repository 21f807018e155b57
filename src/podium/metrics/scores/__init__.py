"""Metrics that a search follows, a file each: `search.metric` names them."""

from typing import TYPE_CHECKING, Any, ClassVar

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = ("maximize", "minimize")


class Metric(Component):
    """A metric of the validation images that `search.metric` names; every epoch has it as `val_<name>`."""

    DIRECTION: ClassVar[str] = "maximize"
    """maximize or minimize."""
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
        """What the function's attribute says. Raises InputError where it says nothing."""
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
