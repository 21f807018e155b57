"""Several predictions for the same images, such as those of several epochs, whose metrics are computed together.

For few images an operation costs what calling it does: one for all predictions costs little more than one for each.
The values are those that each metric has of each alone, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from podium.metrics.confusion import Confusion
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.metrics.standing import Standing

CELLS = 200_000
"""Numbers that one array of several predictions may have: more are in no cache, and calling costs little then."""
LEAST = 3
"""Predictions that have to fit into it: of two so large ones each took up to 1.2 times as long as alone."""


@dataclass(frozen=True, eq=False)
class Several:
    """E predictions for the same N images of K classes, each counted once; all of them are finite."""

    each: "Sequence[OneOfSeveral]"
    whole: Scored
    """All of them, one after the other: (E N, K)."""

    @staticmethod
    def of(each: Sequence[Scored]) -> "Several | None":
        """Nothing of them is computed yet but that they are finite. None: each is better computed alone."""
        first, count = each[0], len(each)
        if count == 1:
            return None
        whole = Scored(torch.cat([one.given for one in each]), first.labels.repeat(count), first.classes)
        if not whole.finite:
            return None
        found = Several([OneOfSeveral(one.given, one.labels, one.classes) for one in each], whole)
        for place, one in enumerate(found.each):
            one.__dict__.update(finite=True, several=found, place=place)
        return found

    @cached_property
    def confusion(self) -> Confusion:
        """E matrices."""
        cells = (self.whole.labels * self.whole.count + self.whole.predicted).cpu().numpy()
        size, count = self.whole.count, len(self.each)
        cells += np.arange(count).repeat(len(cells) // count) * size**2
        table = np.bincount(cells, minlength=count * size**2).astype(np.float64)
        return Confusion(table.reshape(count, size, size))

    @cached_property
    def standings(self) -> list[Standing]:
        """Of each; empty: nothing is gained by computing them together."""
        return Standing.of_several(self.whole, len(self.each))

    def measured(self, metric: Metric) -> list[float]:
        """`metric` of each."""
        if type(metric).measured is Metric.measured and type(metric).value is Metric.value:
            if (values := metric.each(self.whole)) is not None:
                parts = values.chunk(len(self.each))
                return [float(one.mean(part)) for one, part in zip(self.each, parts, strict=True)]
            if (found := metric.of_confusion(self.confusion)) is not None:
                return [float(value) for value in found]
        return [metric.measured(one) for one in self.each]


class OneOfSeveral(Scored):
    """A prediction that has what all of `several` have got at once, as soon as a metric first asks any of them for it.

    Another one made of it, of some of its images for example, is on its own.
    """

    @cached_property
    def probabilities(self) -> Tensor:
        """As in Scored."""
        return super().probabilities if self._several is None else self._rows(self._several.whole.probabilities)

    @cached_property
    def predicted(self) -> Tensor:
        """As in Scored."""
        return super().predicted if self._several is None else self._rows(self._several.whole.predicted)

    @cached_property
    def confidence(self) -> Tensor:
        """As in Scored."""
        return super().confidence if self._several is None else self._rows(self._several.whole.confidence)

    @cached_property
    def confusion(self) -> Confusion:
        """As in Scored."""
        if self._several is None:
            return super().confusion
        return Confusion(self._several.confusion.table[self.__dict__["place"]])

    @cached_property
    def standing(self) -> Standing:
        """As in Scored."""
        several = self._several
        standings = [] if several is None else several.standings
        return standings[self.__dict__["place"]] if standings else super().standing

    @property
    def _several(self) -> Several | None:
        return self.__dict__.get("several")

    def _rows(self, values: Tensor) -> Tensor:
        """This one's of `values` (E N, ...)."""
        start = self.__dict__["place"] * len(self.labels)
        return values[start : start + len(self.labels)]


def measured(each: Sequence[Scored], metrics: Sequence[Metric]) -> list[list[float]]:
    """The values of `metrics` for each of the predictions `each`; nan as `Metric.measured` has it."""
    if not metrics:
        return [[] for _ in each]
    found: list[list[float]] = []
    for some in _together(each):
        several = Several.of(some)
        columns = [
            several.measured(metric) if several else [metric.measured(one) for one in some] for metric in metrics
        ]
        found += [[column[place] for column in columns] for place in range(len(some))]
    return found


def _together(each: Sequence[Scored]) -> Iterator[list[Scored]]:
    """`each` in order, those together that may be."""
    some: list[Scored] = []
    for one in each:
        count, classes = one.given.shape
        if some and (max(LEAST, len(some) + 1) * count * max(count, classes) > CELLS or not _are_alike(some[0], one)):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _are_alike(first: Scored, other: Scored) -> bool:
    """Whether both are logits for the same images, each counted once."""
    return (
        all(one.weights is None and one.known is None and not one.are_probabilities for one in (first, other))
        and (first.given.shape, first.given.dtype, first.classes)
        == (other.given.shape, other.given.dtype, other.classes)
        and (first.labels is other.labels or torch.equal(first.labels, other.labels))
    )
