"""The metrics of classification: plain numbers from labels and predicted probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from podium.errors import InputError

SUMMARY = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "nll", "count", "groups")
"""What every summary has, the most important first."""
COUNTS = ("count", "groups")
"""Of the summary; the rest is logged to MLflow."""


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest; a ratio with an empty denominator is 0."""

    name: str
    support: int
    """Images of this class, duplicates too."""
    precision: float
    """Share of the images predicted as this class that are of it."""
    recall: float
    """Share of the images of this class that are predicted as it."""
    recall_low: float
    recall_high: float
    f1: float


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions whose confidence lies in (lower, upper]."""

    lower: float
    upper: float
    count: int
    """Predictions, those for duplicates too."""
    weight: float
    """What they count together."""
    confidence: float
    """Mean confidence of the predictions; nan if there are none."""
    accuracy: float
    """Share of right predictions; nan if there are none."""


@dataclass(frozen=True, eq=False)
class Metrics:
    """Everything measured on one set of images."""

    count: int
    """Images."""
    groups: int
    """Groups of near-duplicates, each of which counts once; `count` where there are no duplicates."""
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    """Mean F1 of the classes that occur among labels or predictions, as scikit-learn's f1_score has it."""
    ece: float
    """Expected calibration error."""
    nll: float
    """Mean negative log likelihood of the right class, in nats."""
    per_class: tuple[ClassMetrics, ...]
    """In label order."""
    calibration: tuple[CalibrationBin, ...]
    """In order of confidence, empty bins included."""
    confusion: NDArray[np.int64]
    """(K, K) counts: row the actual class, column the predicted one."""
    others: dict[str, float] = field(default_factory=dict)
    """search.metric with the ends of its interval, and evaluate.metrics."""

    def summary(self) -> dict[str, float]:
        """The numbers of metrics.json, the most important first."""
        return {name: getattr(self, name) for name in SUMMARY} | {
            name: value for name, value in self.others.items() if name not in SUMMARY
        }

    def flat(self) -> dict[str, float]:
        """The same numbers as MLflow has them, with `test_` before each name."""
        return {f"test_{name}": float(value) for name, value in self.summary().items() if name not in COUNTS}

    def weakest(self, count: int = 3) -> list[ClassMetrics]:
        """The `count` classes of lowest recall among those that have images, lowest first."""
        return sorted((c for c in self.per_class if c.support), key=lambda c: c.recall)[:count]


def measure(
    labels: NDArray[np.int64],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    *,
    confidence: float = 0.95,
    bins: int = 15,
    weights: NDArray[np.float64] | None = None,
) -> Metrics:
    """Every metric of predictions for images of the classes `labels` (N,), 0 to K - 1.

    `probabilities` (N, K) may be of any float type. The prediction for an image is its most probable class, the first
    of equals. `confidence` is the level of the intervals, `bins` the number of bins of the calibration error. `weights`
    (N,): what each image counts, so that a group of near-duplicates counts once (Split.weights); None: each image
    counts once. Supports and the confusion matrix count images. Raises InputError if the arrays don't fit together or
    a probability is not a finite number.
    """
    _check(labels, probabilities, len(classes))
    predicted = probabilities.argmax(1)
    right = predicted == labels
    weights = np.ones(len(labels)) if weights is None else weights
    whole = float(weights.sum())
    low, high = interval(float(weights @ right), whole, confidence)
    calibration = _calibration(probabilities.max(1).astype(np.float64), right, bins, weights)
    return Metrics(
        count=len(labels),
        groups=round(whole),
        accuracy=float(weights @ right / whole),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0, sample_weight=weights)),
        ece=_expected_error(calibration),
        nll=_negative_log_likelihood(labels, probabilities, weights),
        per_class=_per_class(labels, predicted, classes, confidence, weights),
        calibration=calibration,
        confusion=confusion_matrix(labels, predicted, labels=np.arange(len(classes))).astype(np.int64),
    )


def interval(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 1927); 0 to 1 for no trials.

    It keeps its level for small counts and proportions near 1, where the normal approximation does not (Brown, Cai and
    DasGupta, Statistical Science 2001). Where groups of duplicates count once each, `successes` is the sum of the
    fractions of each group that are right: what lies between 0 and 1 varies less than a coin, so the interval is not
    too narrow.
    """
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = successes / trials, z * z / trials
    middle = share + spread / 2
    half = z * math.sqrt(max(share * (1 - share), 0.0) / trials + spread / (4 * trials))
    low = (middle - half) / (1 + spread) if successes > 0 else 0.0
    high = (middle + half) / (1 + spread) if successes < trials else 1.0
    return max(0.0, low), min(1.0, high)


def calibration_error(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    bins: int,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Expected calibration error of predictions with `confidence` (N,), of which `right` (N,) are right.

    `weights` (N,): what each counts; None: once.
    """
    return _expected_error(_calibration(confidence, right, bins, np.ones(len(right)) if weights is None else weights))


def _expected_error(calibration: tuple[CalibrationBin, ...]) -> float:
    whole = sum(b.weight for b in calibration)
    return sum(b.weight * abs(b.confidence - b.accuracy) for b in calibration if b.count) / whole


def _check(labels: NDArray[np.int64], probabilities: NDArray[Any], classes: int) -> None:
    if probabilities.shape != (len(labels), classes) or labels.ndim != 1 or not len(labels):
        raise InputError(
            "probabilities: must have one row for each of at least one label and one column for each class;"
            f" got {probabilities.shape} for labels {labels.shape} and {classes} classes"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels: must be 0 to {classes - 1}; got {labels.min()} to {labels.max()}")
    broken = ~np.isfinite(probabilities.sum(1))
    if broken.any():
        raise InputError(
            f"probabilities: must be finite; {broken.sum()} of {len(labels)} images have none, the first is image"
            f" {broken.argmax()}: train again with a lower train.learning_rate"
        )


def _per_class(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    confidence: float,
    weights: NDArray[np.float64],
) -> tuple[ClassMetrics, ...]:
    precision, recall, f1, whole = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0, sample_weight=weights
    )
    support = np.bincount(labels, minlength=len(classes))
    hit = labels == predicted
    right = np.bincount(labels[hit], weights[hit], minlength=len(classes))
    rows = []
    for label, name in enumerate(classes):
        low, high = interval(float(right[label]), float(whole[label]), confidence)
        scores = float(precision[label]), float(recall[label]), low, high, float(f1[label])
        rows.append(ClassMetrics(name, int(support[label]), *scores))
    return tuple(rows)


def _calibration(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int, weights: NDArray[np.float64]
) -> tuple[CalibrationBin, ...]:
    """Bins of equal width, as C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2."""
    edges = np.linspace(0, 1, bins + 1)
    which = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(which, minlength=bins)
    weight = np.bincount(which, weights, bins)
    with np.errstate(invalid="ignore"):  # an empty bin's mean is nan
        mean = np.bincount(which, weights * confidence, bins) / weight
        accuracy = np.bincount(which, weights * right, bins) / weight
    return tuple(
        CalibrationBin(
            float(edges[b]), float(edges[b + 1]), int(count[b]), float(weight[b]), float(mean[b]), float(accuracy[b])
        )
        for b in range(bins)
    )


def _negative_log_likelihood(
    labels: NDArray[np.int64], probabilities: NDArray[Any], weights: NDArray[np.float64]
) -> float:
    """Bounded below by the float64 epsilon as scikit-learn's log_loss, so that one certain error is not infinite."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(np.average(-np.log(np.clip(of_label, np.finfo(np.float64).eps, 1)), weights=weights))
