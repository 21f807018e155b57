"""Predictions beside the labels they should be, with what several metrics share of them: each is computed once.

What is computed here takes weights, so a group of near-duplicates counts once, and so does a bootstrap sample: it is
the same images with other weights. Tensors stay on the device of the logits; `confusion` and `standing` are NumPy's.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from podium.metrics.confusion import Confusion
from podium.metrics.standing import Standing

SMALLEST = 2.220446049250313e-16
"""Lower bound of a probability in a logarithm: the float64 epsilon, as in scikit-learn's log_loss."""


CELLS = 4_000_000
"""Probabilities above which a metric that can looks at some images or classes at a time."""
PART = 1_000_000
"""Probabilities of such a part: the allocator does not give arrays of just below 32 MB back."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Predictions for some images, and their labels."""

    given: Tensor
    """(N, K) of any float type: logits, or probabilities."""
    labels: Tensor
    """(N,) int64, 0 to K - 1."""
    classes: tuple[str, ...] = ()
    """Names in the order of the labels; empty: not known."""
    weights: Tensor | None = None
    """(N,) float64: what each image counts; None: each counts once."""
    known: int | None = None
    """Classes of the images, the first ones; the others are only predicted, by a model of other classes. None: all."""
    are_probabilities: bool = False
    """Whether probabilities are given: they stay as they are, since rounding would separate ties."""

    def weighted(self, weights: Tensor) -> "Scored":
        """The same predictions with other weights; what does not depend on these is not computed again."""
        other = replace(self, weights=weights)
        for name in ("finite", "logits", "probabilities", "predicted", "confidence", "ranked"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def taken(self, rows: Tensor) -> "Scored":
        """Some of the images, each counted once."""
        return replace(self, given=self.given[rows], labels=self.labels[rows], weights=None)

    def exchanged(self, other: "Scored", rows: Tensor) -> "Scored":
        """With the predictions of `other` for the images where `rows` (N,) is true."""
        chosen = torch.where(rows[:, None], other.probabilities, self.probabilities)
        return replace(self, given=chosen, are_probabilities=True)

    @property
    def count(self) -> int:
        """Classes, those without images too."""
        return self.given.shape[1]

    @property
    def own(self) -> int:
        """Classes that images may be of."""
        return self.count if self.known is None else self.known

    @property
    def log_probabilities(self) -> Tensor:
        """(N, K) float64, computed at each call: nothing else holds so much."""
        given = self.given.double() if self.are_probabilities else self.probabilities
        return given.clamp(min=SMALLEST).log_()

    @cached_property
    def finite(self) -> bool:
        """Whether every image has probabilities: of logits those are nan where one is, or the largest is infinite."""
        return math.isfinite(self.given.amax(1).sum(dtype=torch.float64))

    @cached_property
    def logits(self) -> Tensor:
        """(N, K); of probabilities their logarithms."""
        return self.given.double().clamp(min=SMALLEST).log() if self.are_probabilities else self.given

    @cached_property
    def probabilities(self) -> Tensor:
        """(N, K) float64."""
        return self.given.double() if self.are_probabilities else self.given.softmax(1, dtype=torch.float64)

    def column(self, number: int) -> Tensor:
        """(N,) float64: the probability of one class."""
        return self.given[:, number].double() if self.are_probabilities else self.probabilities[:, number]

    @cached_property
    def predicted(self) -> Tensor:
        """(N,) the most probable class of each image, the first of equals."""
        return self.given.argmax(1)

    @cached_property
    def each(self) -> Tensor:
        """(N,) float64: what each image counts."""
        ones = torch.ones(len(self.labels), dtype=torch.float64, device=self.labels.device)
        return ones if self.weights is None else self.weights

    @cached_property
    def confusion(self) -> Confusion:
        """That of all images."""
        cells = (self.labels * self.count + self.predicted).cpu().numpy()
        weights = None if self.weights is None else self.weights.cpu().numpy()
        table = np.bincount(cells, weights, self.count**2).astype(np.float64)
        return Confusion(table.reshape(self.count, self.count))

    @cached_property
    def confidence(self) -> Tensor:
        """(N,) float64: the probability of the class that is predicted."""
        return (self.given if self.are_probabilities else self.probabilities).amax(1).double()

    def for_each(self, function: "Callable[[Scored], Tensor]") -> Tensor:
        """What `function` gives for each image (N,), computed for those of a part at a time where there are many."""
        found: Tensor | None = None
        start = 0
        for some in self.parts():
            part = function(some)
            # Into one array: small ones that stay between large ones that go keep the memory of these.
            found = part.new_empty(len(self.labels)) if found is None else found
            found[start : start + len(part)] = part
            start += len(part)
        return torch.empty(0) if found is None else found

    def parts(self) -> Iterator["Scored"]:
        """The images, each counted once, PART probabilities at a time where there are more than CELLS."""
        step = max(1, PART // self.count)
        if self.given.numel() <= CELLS:
            yield self
            return
        for start in range(0, len(self.labels), step):
            rows = slice(start, start + step)
            yield replace(self, given=self.given[rows], labels=self.labels[rows], weights=None)

    @property
    def single(self) -> Tensor:
        """(N, K) float32: the probabilities, as they are where they are given so."""
        return (self.given if self.are_probabilities else self.probabilities).float()

    def blocks(self) -> list[slice]:
        """All classes that images may be of, PART probabilities at a time where there are more than CELLS."""
        step = max(1, PART // max(1, len(self.labels))) if self.given.numel() > CELLS else max(1, self.own)
        return [slice(start, min(start + step, self.own)) for start in range(0, self.own, step)]

    @cached_property
    def ranked(self) -> tuple[Tensor, Tensor]:
        """(K, N) `ranked_of` all classes, as int32 where there are many: for what asks for them again and again."""
        blocks = self.blocks()
        if len(blocks) == 1:
            return self.ranked_of(blocks[0])
        order = torch.empty((self.own, len(self.labels)), dtype=torch.int32, device=self.labels.device)
        ends = torch.empty_like(order)
        for block in blocks:
            order[block], ends[block] = self.ranked_of(block)
        return order, ends

    def ranked_of(self, classes: slice) -> tuple[Tensor, Tensor]:
        """(k, N) for each of `classes` the images by its probability, highest first; then (k, N) the last place that
        has the same probability as each place: ties are one threshold."""
        if (known := self.__dict__.get("ranked")) is not None:
            return known[0][classes].long(), known[1][classes].long()
        given = self.given[:, classes].double() if self.are_probabilities else self.probabilities[:, classes]
        values, order = given.T.sort(1, descending=True)
        is_end = torch.ones_like(values, dtype=torch.bool)
        is_end[:, :-1] = values[:, 1:] != values[:, :-1]
        if bool(is_end.all()):
            return order, torch.arange(len(self.labels), device=order.device).expand_as(order)
        places = torch.arange(len(self.labels), device=order.device).masked_fill(~is_end, len(self.labels))
        return order, places.flip(1).cummin(1).values.flip(1)

    @property
    def small(self) -> bool:
        """Whether all probabilities may be held in float64."""
        return self.given.numel() <= PART

    @cached_property
    def standing(self) -> Standing:
        """How high each image ranks in its own class."""
        return Standing.of(self)

    def standing_of(self, column: int) -> Standing:
        """The same of the images of one class: of few predictions that of all, which another metric may ask for too."""
        if not self.small and "standing" not in self.__dict__:
            return Standing.of_class(self, column)
        rows = np.flatnonzero(self.labels.cpu().numpy() == column)
        found = self.standing
        return Standing(*(getattr(found, one.name)[rows] for one in fields(Standing)))

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` (N,) by weight."""
        if self.weights is None:
            return values.mean(dtype=torch.float64)
        return (values.double() @ self.weights) / self.weights.sum()
