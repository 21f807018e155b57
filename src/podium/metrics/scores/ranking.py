"""How well the probabilities rank the images: no threshold is chosen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.errors import InputError
from podium.metrics.scores import Metric, missing, plain

if TYPE_CHECKING:
    from torch import Tensor

    from podium.metrics.scored import Scored

ROUNDING = 1e-9
"""Of a precision: 55 of 100 is 0.55, although 0.55 * 100 is more than 55 as floats."""


@dataclass(frozen=True, eq=False)
class _Thresholds:
    """Of the P images of one class, the most probable first, each with the threshold that it passes; (R, P) each."""

    own: "Tensor"
    """What each image counts."""
    above: "Tensor"
    """The sum of the class's images down to the end of the threshold."""
    others: "Tensor"
    """The same of the other images."""
    higher: "Tensor"
    """The sum of the other images above the threshold."""

    @staticmethod
    def of(scored: "Scored", column: int, weights: "Tensor") -> "_Thresholds":
        """Those of class `column`, where the images count `weights` (R, N): sorted once, whatever these are."""
        import torch
        from torch.nn.functional import pad

        order, ends = (one[column].long().contiguous() for one in scored.ranked)
        places = torch.nonzero(scored.labels[order] == column)[:, 0]
        end = ends[places]
        first = torch.searchsorted(ends, end)
        own, every = weights[:, order[places]], pad(weights[:, order].cumsum(1), (1, 0))
        to_place = pad(own.cumsum(1), (1, 0))
        above = to_place[:, torch.searchsorted(places, end, right=True)]
        before = to_place[:, torch.searchsorted(places, first)]
        return _Thresholds(own, above, every[:, end + 1] - above, every[:, first] - before)


def _below(values: "Tensor", others: "Tensor", weights: "Tensor") -> "Tensor":
    """(P,) the sum of `weights` of those of `others` that are below each of `values` (P,); equal ones count half."""
    import torch

    ordered, order = others.sort()
    sums = torch.nn.functional.pad(weights[order].cumsum(0), (1, 0))
    lower, up_to = (sums[torch.searchsorted(ordered, values, right=right)] for right in (False, True))
    return (lower + up_to) / 2


class Auroc(Metric):
    """The mean over the classes of the area under the ROC curve, one class against the rest.

    As scikit-learn's roc_auc_score(multi_class="ovr", average="macro"): ties count half. Undefined where a class has no
    images, or all of them.
    """

    NAME: ClassVar[str] = "auroc"

    def value(self, scored: "Scored") -> float:
        """0 to 1; 0.5 is chance."""
        one, labels, whole = scored.standing, scored.labels.cpu().numpy(), scored.confusion.actual[: scored.own]
        rest = whole.sum() - whole
        pairs = whole * rest
        if not pairs.all():
            return math.nan
        higher = (one.up_to - one.own_up_to + one.higher - one.own_higher) / 2  # of the rest; ties count half
        return float((one.weights * (rest[labels] - higher) / pairs[labels]).sum() / scored.own)

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor":
        """(R,) 0 to 1."""
        import torch

        found = []
        for column in range(scored.own):
            one = _Thresholds.of(scored, column, weights)
            whole = one.own.sum(1)
            rest = weights.sum(1) - whole
            beaten = rest[:, None] - (one.others + one.higher) / 2
            found.append((one.own * beaten).sum(1) / (whole * rest))
        return torch.stack(found).mean(0)

    def gains(self, new: "Scored", old: "Scored") -> "Tensor":
        """What each image gains against all predictions of both: comparisons of one side's with the other's cancel."""
        import torch

        found = torch.zeros(len(new.labels), dtype=torch.float64, device=new.labels.device)
        weights = new.each.repeat(2)
        for column in range(new.own):
            is_own = (new.labels == column).repeat(2)
            values = torch.cat([new.column(column), old.column(column)])
            scores = torch.empty_like(values)
            scores[is_own] = _below(values[is_own], values[~is_own], weights[~is_own])
            scores[~is_own] = -_below(values[~is_own], values[is_own], weights[is_own])
            whole, rest = weights[is_own].sum() / 2, weights[~is_own].sum() / 2
            of_new, of_old = (weights * scores / (whole * rest)).chunk(2)
            found += of_new - of_old
        return found / (2 * new.own)

    def undefined(self, images: Mapping[str, int]) -> str:
        """Every class needs images, and so does its rest."""
        return missing(images) or ("" if len(images) > 1 else "there is one class")


class AveragePrecision(Metric):
    """The mean over the classes of the average precision, one class against the rest.

    As scikit-learn's average_precision_score(average="macro"). Undefined where a class has no images; there it is 0,
    with a warning.
    """

    NAME: ClassVar[str] = "average_precision"

    def value(self, scored: "Scored") -> float:
        """0 to 1; a class's share is chance."""
        one, labels, whole = scored.standing, scored.labels.cpu().numpy(), scored.confusion.actual[: scored.own]
        if not whole.all():
            return math.nan
        precision = scored.confusion.ratio(one.own_up_to, one.up_to, 0.0)
        return float((one.weights * precision / whole[labels]).sum() / scored.own)

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor":
        """(R,) 0 to 1."""
        import torch

        found = []
        for column in range(scored.own):
            one = _Thresholds.of(scored, column, weights)
            precision = (one.above / (one.above + one.others)).nan_to_num()  # 0 of 0 where all above count nothing
            found.append((one.own * precision).sum(1) / one.own.sum(1))
        return torch.stack(found).mean(0)

    def undefined(self, images: Mapping[str, int]) -> str:
        """Every class needs images."""
        return missing(images)


class RecallAtPrecision(Metric):
    """The highest recall of one class among the thresholds that reach a precision.

    By the points of scikit-learn's precision_recall_curve. 0 where none reaches it: then nothing may be predicted.
    """

    NAME: ClassVar[str] = "recall_at_precision"
    PERCENT: ClassVar[bool] = True

    class_name: str
    """The class."""
    precision: Annotated[float, Field(gt=0, le=1)] = 0.9
    """What its predictions must be right by."""

    @property
    def label(self) -> str:
        """Such as recall_cat_at_precision_0.9."""
        return f"recall_{plain(self.class_name)}_at_precision_{self.precision:g}"

    def value(self, scored: "Scored") -> float:
        """0 to 1. Raises InputError where there is no such class."""
        column = self._column(scored.classes)
        one = scored.standing_of(column)
        reached = one.own_up_to >= (self.precision - ROUNDING) * one.up_to
        whole = float(one.weights.sum())
        return float((one.own_up_to * reached).max() / whole) if whole else math.nan

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor":
        """(R,) 0 to 1: the recall is highest at an image of the class."""
        one = _Thresholds.of(scored, self._column(scored.classes), weights)
        reached = one.above >= (self.precision - ROUNDING) * (one.above + one.others)
        return (one.above * reached).amax(1) / one.own.sum(1)

    def _column(self, classes: tuple[str, ...]) -> int:
        if self.class_name not in classes:
            raise InputError(
                f"recall_at_precision: class_name must be a class; got {self.class_name!r},"
                f" there are {', '.join(classes[:20])}"
            )
        return classes.index(self.class_name)

    def undefined(self, images: Mapping[str, int]) -> str:
        """The class needs images. Raises InputError where there is no such class."""
        self._column(tuple(images))
        return "" if images[self.class_name] else f"there is no image of {self.class_name}"
