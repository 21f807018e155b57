"""Whether metrics can be computed for the classes of a test set, found out before that set is opened."""

from collections.abc import Iterable, Mapping

import torch

from podium.errors import InputError, of_parameter
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric

EACH = 2
"""Made-up images of each class."""


def check(chosen: Iterable[tuple[str, Metric]], counts: Mapping[str, int]) -> None:
    """Compute each of `chosen` (the parameter, the metric that it asks for) once, on made-up predictions.

    `counts`: images of each class. What is undefined for these is no error. Raises InputError for a metric that does
    not fit the classes, or is no number.
    """
    classes = tuple(counts)
    labels = torch.arange(EACH * len(classes)) % len(classes)
    drawn = torch.randn((len(labels), len(classes)), generator=torch.Generator().manual_seed(0))
    scored = Scored(drawn.softmax(1), labels, classes, are_probabilities=True)
    for parameter, metric in chosen:
        try:
            if not metric.undefined(counts):
                metric.value(scored)
        except InputError as error:
            text = of_parameter(parameter, str(error))
            raise InputError(f"{text}. The held-out test set was not accessed") from None
