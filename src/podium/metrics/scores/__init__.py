"""Metrics, a file each family: `search.metric` names the one to optimise, `evaluate.metrics` those to log as well.

A metric says which way is better, its range, how it is shown, when it is undefined, and whether it is a mean over
images or follows from the confusion matrix: from that the promotion gate knows how to test a difference.
"""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from podium import components, own_code
from podium.components import Choice, Component
from podium.config.limits import COSTS
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from podium.metrics.confusion import Confusion, Floats
    from podium.metrics.scored import Scored

DIRECTIONS = ("maximize", "minimize")
TAKEN = {
    *("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "nll", "loss", "count", "groups", "per_class"),
    *("coverage", "answered_error", "answered_error_high", "aurc"),
    *COSTS,
}
"""Names in a trial's or an evaluation's results, whatever the metrics are."""
SHOWN = 100
"""Characters of a value in a message."""


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
    RANGE: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Lowest and highest value that it can have."""
    PERCENT: ClassVar[bool] = False
    """Whether its values are fractions of images, shown as 99.63%."""
    EACH_EPOCH: ClassVar[bool] = False
    """Whether every epoch has it anyway."""
    OF_LABELS: ClassVar[bool] = False
    """Whether it looks at the predicted classes alone, and at no probability."""
    WEIGHTED: ClassVar[bool] = True
    """Whether it takes the images' weights."""
    PURE: ClassVar[bool] = True
    """Whether it depends on the predictions alone, and changes nothing: it may be computed at any time."""

    @property
    def label(self) -> str:
        """What `val_` is put before; with those arguments that make it another metric."""
        return self.NAME

    @property
    def direction(self) -> str:
        """maximize or minimize."""
        return self.DIRECTION

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1."""
        return -1 if self.direction == "minimize" else 1

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """The metric of logits (N, classes) float32 and labels (N,) int64, both on the CPU."""
        from podium.metrics.scored import Scored

        return self.measured(Scored(logits, labels))

    def measured(self, scored: "Scored") -> float:
        """As `value`; nan where the probabilities of an image are, which no ranking and no largest value shows."""
        return self.value(scored) if scored.finite else math.nan

    def value(self, scored: "Scored") -> float:
        """The metric of predictions; nan where it is undefined for these labels."""
        if (each := self.each(scored)) is not None:
            return float(scored.mean(each))
        if (found := self.of_confusion(scored.confusion)) is not None:
            return float(found)
        raise NotImplementedError

    def each(self, scored: "Scored") -> "Tensor | None":
        """(N,) the value of each image, where the metric is their mean; None: it is no mean."""
        return None

    def of_confusion(self, confusion: "Confusion") -> "Floats | None":
        """The metrics (...) of confusion matrices (..., K, K), rows the actual classes; None: it needs more."""
        return None

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor | None":
        """The metrics (R,) where the images count `weights` (R, N), one row at a time each; None: it has no quick way.

        A row may be 0 for some of the images. What is a mean or follows from the confusion matrix needs none.
        """
        return None

    def gains(self, new: "Scored", old: "Scored") -> "Tensor | None":
        """(N,) numbers whose sum is proportional to how much better `new` is than `old`, where exchanging the two
        predictions of an image turns the sign of its number and changes no other; None: there are none."""
        each = self.each(new), self.each(old)
        if each[0] is None or each[1] is None:
            return None
        return self.sign * new.each * (each[0].double() - each[1].double())

    def undefined(self, images: Mapping[str, int]) -> str:
        """Why the metric has no value for so many images of each class; empty: it has one."""
        return "" if any(images.values()) else "there are no images"

    def portable(self) -> "Metric":
        """The same metric without a file that another machine may not have."""
        return self


class _Foreign(Metric):
    """A metric of somebody else's: it takes no weights.

    Its errors begin with its name: search.metric, evaluate.metrics or gate.metric may have it (errors.of_parameter).
    """

    WEIGHTED: ClassVar[bool] = False
    PURE: ClassVar[bool] = False
    """It may draw random numbers, as the training does."""

    chosen: Choice

    @model_validator(mode="after")
    def _has_a_name_of_its_own(self) -> "_Foreign":
        if self.label in TAKEN | {*(find.NAME for find in components.declared("metric").values())}:
            raise ValueError(
                f"must have a name that no metric or cost of Podium has; got {self.label}: rename the function"
            )
        return self

    @property
    def label(self) -> str:
        """The object's name, with its arguments."""
        values = "_".join(f"{key}_{value}" for key, value in sorted(self.chosen.arguments.items()))
        return f"{self.chosen.label}_{plain(values)}" if values else self.chosen.label

    def load(self) -> Any:
        """The function or class. Raises InputError where there is none."""
        return components.load("metric", self.chosen.name, "")

    def number(self, value: Any) -> float:
        """`value` as a number; nan where it is not finite. Raises InputError where it is none."""
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            text = repr(value) if isinstance(value, str) else own_code.described(value)
            raise InputError(
                f"{self.chosen.name} must give a number; it gave {text[:SHOWN]}{own_code.at(self.chosen.name)}"
            ) from error
        return number if math.isfinite(number) else math.nan


class OwnMetric(_Foreign):
    """Somebody's own function of logits (N, classes) and labels (N,) to a number.

    The logits are log-probabilities, in training as on the test set, where a network's own are not known any more.

    It says which way is better by an attribute: `my_metric.direction = "minimize"`.
    """

    RANGE: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @property
    def direction(self) -> str:
        """The function's attribute. Raises InputError where it has none."""
        function = self.load()
        found = getattr(function, "direction", None)
        if found not in DIRECTIONS and not own_code.is_own(
            function if hasattr(function, "__module__") else type(function)
        ):
            raise InputError(
                f"{self.chosen.name} does not say which way is better, and is no function of logits and labels to a"
                " number that was written for Podium: write one in src/ that calls it, with"
                ' `its_name.direction = "maximize"` (or "minimize") below (docs/extend.md)'
            )
        if found not in DIRECTIONS:
            raise InputError(
                f"{self.chosen.name} must say which way is better, by an attribute: write"
                f' `{self.chosen.label}.direction = "maximize"` (or "minimize") below the function; got {found!r}'
                f"{own_code.at(self.chosen.name)}"
            )
        return str(found)

    def value(self, scored: "Scored") -> float:
        """What the function gives, called with tensors of its own, which it may change: each call has others.

        Raises InputError where it fails or gives no number.
        """
        name, given = self.chosen.name, dict(self.chosen.arguments)
        function = self.load()
        own_code.check_arguments(function, name, "", given, own_code.first_arguments(function, 2))
        try:
            found = function(scored.log_probabilities, scored.labels.clone(), **copy.deepcopy(given))
        except own_code.RAISED as error:
            raise InputError(f"{name} fails: {own_code.blame(error)}") from error
        return self.number(found)


class TorchMetric(_Foreign):
    """A class of torchmetrics.classification for several classes, by its name, such as MulticlassJaccardIndex.

    What is undefined there is 0 in many of them; each says so in its documentation.
    """

    RANGE: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """torchmetrics says 0 to 1 of every class, of MulticlassMatthewsCorrCoef and MulticlassHingeLoss too."""

    @property
    def direction(self) -> str:
        """By the class's `higher_is_better`. Raises InputError where it has none: then it is no single number."""
        better = getattr(self.load(), "higher_is_better", None)
        if better is None:
            raise InputError(f"{self.chosen.name} does not say which way is better: it is no one number")
        return "maximize" if better else "minimize"

    def value(self, scored: "Scored") -> float:
        """What the class gives. Raises InputError where that is no single number, or an argument is wrong."""
        made = own_code.call(
            self.load(),
            self.chosen.name,
            "",
            self.chosen.arguments,
            {"num_classes": scored.count},
        )
        made = made.to(scored.labels.device)
        for some in scored.parts():
            made.update(some.single, some.labels.clone())
        return self.number(made.compute())


def wrap(choice: Choice) -> Metric:
    """Somebody else's metric as one of ours."""
    return OwnMetric(chosen=choice) if own_code.is_name(choice.name) else TorchMetric(chosen=choice)


def of(choice: Choice) -> Metric:
    """The metric that `choice` names. Raises pydantic's ValidationError for wrong arguments."""
    found: Metric = components.make("metric", choice, {})
    return found


def carried(choice: Choice) -> Choice:
    """`choice` without files: what a worker on another machine, or a study's identity, can do with."""
    metric = of(choice)
    if isinstance(metric, _Foreign) or not choice.arguments:
        return choice
    return Choice(name=choice.name, arguments=metric.portable().model_dump(exclude_defaults=True))


def plain(text: str) -> str:
    """`text` as a part of a metric's name: letters, digits, dots and underscores."""
    return re.sub(r"[^\w.]+", "_", text).strip("_")


def missing(images: Mapping[str, int]) -> str:
    """Which classes have no image, as a sentence; empty: none."""
    without = [name for name, count in images.items() if not count]
    return f"there is no image of {', '.join(without[:5])}{' ...' if len(without) > 5 else ''}" if without else ""
