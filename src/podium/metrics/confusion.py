"""Confusion matrices with the sums that several metrics share: each is computed once."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Confusion:
    """One confusion matrix, or many; numpy's, whose operations on so few numbers take half as long as torch's."""

    table: Floats
    """(..., K, K): row the actual class, column the predicted one."""

    @cached_property
    def right(self) -> Floats:
        """(..., K) the images of each class that are predicted right."""
        return np.asarray(np.diagonal(self.table, axis1=-2, axis2=-1))

    @cached_property
    def actual(self) -> Floats:
        """(..., K) the images of each class."""
        return np.asarray(self.table.sum(-1))

    @cached_property
    def predicted(self) -> Floats:
        """(..., K) the images that each class is predicted for."""
        return np.asarray(self.table.sum(-2))

    @cached_property
    def whole(self) -> Floats:
        """(...) all images."""
        return np.asarray(self.actual.sum(-1))

    @cached_property
    def agreed(self) -> Floats:
        """(...) all images that are predicted right."""
        return np.asarray(self.right.sum(-1))

    @cached_property
    def recalls(self) -> Floats:
        """(..., K) of each class; nan for one without images."""
        return self.ratio(self.right, self.actual)

    @cached_property
    def f1(self) -> Floats:
        """(..., K) of each class; nan for one that is neither a label nor a prediction."""
        return self.ratio(2 * self.right, self.actual + self.predicted)

    @staticmethod
    def ratio(part: Floats, whole: Floats, otherwise: float = math.nan) -> Floats:
        """`part / whole`; `otherwise` where `whole` is 0."""
        some = whole != 0
        if some.all():
            return np.asarray(part / whole)
        out = np.full(np.broadcast(part, whole).shape, otherwise)
        return np.asarray(np.divide(part, whole, out=out, where=some))

    @staticmethod
    def mean(values: Floats) -> Floats:
        """(...) the mean of `values` (..., K) without those that are nan; nan where all are."""
        some = values == values
        if some.all():
            return np.asarray(values.sum(-1) / values.shape[-1])
        return Confusion.ratio(np.where(some, values, 0.0).sum(-1), some.sum(-1).astype(np.float64))

    @staticmethod
    def lowest(values: Floats) -> Floats:
        """(...) the lowest of `values` (..., K) without those that are nan; nan where all are."""
        return np.asarray(np.fmin.reduce(values, -1))
