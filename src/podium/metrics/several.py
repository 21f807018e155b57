"""Several predictions for the same images, such as those of several epochs, whose metrics are computed together.

For few images an operation costs what calling it does: one for all predictions costs little more than one for each.
The values are those that each metric has of each alone, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from podium.metrics.confusion import Confusion
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.metrics.standing import Standing

CELLS = 200_000
"""Numbers that one array of several predictions may have: more are in no cache, and calling costs little then."""


@dataclass(frozen=True, eq=False)
class Several:
    """E predictions for the same N images of K classes, each counted once; all of them are finite."""

    each: Sequence[Scored]
    whole: Scored
    """All of them, one after the other: (E N, K)."""

    @staticmethod
    def of(each: Sequence[Scored]) -> "Several | None":
        """They have then got what is computed for all of them at once. None: each is better computed alone."""
        first, count = each[0], len(each)
        if count == 1:
            return None
        whole = Scored(torch.cat([one.given for one in each]), first.labels.repeat(count), first.classes)
        if not whole.finite:
            return None
        found = Several(each, whole)
        images = {name: getattr(whole, name).chunk(count) for name in ("probabilities", "predicted", "confidence")}
        standings = Standing.of_several(whole, count)
        for place, one in enumerate(each):
            shared = {name: values[place] for name, values in images.items()}
            shared |= {"finite": True, "confusion": Confusion(found.confusion.table[place])}
            one.__dict__.update(shared | ({"standing": standings[place]} if standings else {}))
        return found

    @cached_property
    def confusion(self) -> Confusion:
        """E matrices."""
        cells = (self.whole.labels * self.whole.count + self.whole.predicted).cpu().numpy()
        size, count = self.whole.count, len(self.each)
        cells += np.arange(count).repeat(len(cells) // count) * size**2
        table = np.bincount(cells, minlength=count * size**2).astype(np.float64)
        return Confusion(table.reshape(count, size, size))

    def measured(self, metric: Metric) -> list[float]:
        """`metric` of each."""
        if type(metric).measured is Metric.measured and type(metric).value is Metric.value:
            if (values := metric.each(self.whole)) is not None:
                parts = values.chunk(len(self.each))
                return [float(one.mean(part)) for one, part in zip(self.each, parts, strict=True)]
            if (found := metric.of_confusion(self.confusion)) is not None:
                return [float(value) for value in found]
        return [metric.measured(one) for one in self.each]


def measured(each: Sequence[Scored], metrics: Sequence[Metric]) -> list[list[float]]:
    """The values of `metrics` for each of the predictions `each`; nan as `Metric.measured` has it."""
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
        if some and ((len(some) + 1) * count * max(count, classes) > CELLS or not _are_alike(some[0], one)):
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
