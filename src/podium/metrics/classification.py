"""The metrics of classification: plain numbers from labels and predicted probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from podium.errors import InputError


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest; a ratio with an empty denominator is 0."""

    name: str
    support: int
    """Images of this class."""
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
    confidence: float
    """Mean confidence of the predictions; nan if there are none."""
    accuracy: float
    """Share of right predictions; nan if there are none."""


@dataclass(frozen=True, eq=False)
class Metrics:
    """Everything measured on one set of images."""

    count: int
    """Images."""
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

    def summary(self) -> dict[str, float]:
        """The numbers of metrics.json, the most important first."""
        names = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "nll", "count")
        return {name: getattr(self, name) for name in names}

    def flat(self) -> dict[str, float]:
        """The same numbers as MLflow has them, with `test_` before each name."""
        return {f"test_{name}": float(value) for name, value in self.summary().items() if name != "count"}

    def weakest(self, count: int = 3) -> list[ClassMetrics]:
        """The `count` classes of lowest recall among those that have images, lowest first."""
        return sorted((c for c in self.per_class if c.support), key=lambda c: c.recall)[:count]


def measure(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    *,
    confidence: float = 0.95,
    bins: int = 15,
    pictures: Sequence[str] | None = None,
) -> Metrics:
    """Every metric of the predictions `probabilities` (N, K) for images of the classes `labels` (N,), 0 to K - 1.

    The prediction for an image is its most probable class, the first of equals. `confidence` is the level of the
    intervals, `bins` the number of bins of the calibration error. `pictures` (N,): images that show the same have the
    same one, and count once for the intervals, since a second copy is no further evidence; None: all differ. Raises
    InputError if the arrays don't fit together or a probability is not a finite number.
    """
    _check(labels, probabilities, len(classes))
    predicted = probabilities.argmax(1)
    right = predicted == labels
    shown = np.arange(len(labels)) if pictures is None else np.unique(pictures, return_inverse=True)[1]
    low, high = interval_of(right, shown, confidence)
    calibration = _calibration(probabilities.max(1), right, bins)
    return Metrics(
        count=len(labels),
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0)),
        ece=_expected_error(calibration),
        nll=_negative_log_likelihood(labels, probabilities),
        per_class=_per_class(labels, predicted, classes, confidence, shown),
        calibration=calibration,
        confusion=confusion_matrix(labels, predicted, labels=np.arange(len(classes))).astype(np.int64),
    )


def interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 1927); 0 to 1 for no trials.

    It keeps its level for small counts and proportions near 1, where the normal approximation does not (Brown, Cai and
    DasGupta, Statistical Science 2001).
    """
    if not trials:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def interval_of(right: NDArray[np.bool_], pictures: NDArray[np.int64], confidence: float) -> tuple[float, float]:
    """Wilson's score interval of the share of `right` (N,), where images of one number in `pictures` (N,) count once.

    The share is that of all images, the number of trials that of the pictures, so the interval holds the share.
    """
    distinct = len(np.unique(pictures))
    if distinct == len(right):
        return interval(int(right.sum()), len(right), confidence)
    share, quantile = float(right.mean()), float(norm.ppf((1 + confidence) / 2))
    scale = 1 + quantile**2 / distinct
    middle = (share + quantile**2 / (2 * distinct)) / scale
    half = quantile / scale * (share * (1 - share) / distinct + quantile**2 / (4 * distinct**2)) ** 0.5
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    """Expected calibration error of predictions with `confidence` (N,), of which `right` (N,) are right."""
    return _expected_error(_calibration(confidence, right, bins))


def _expected_error(calibration: tuple[CalibrationBin, ...]) -> float:
    count = sum(b.count for b in calibration)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in calibration if b.count) / count


def _check(labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: int) -> None:
    if probabilities.shape != (len(labels), classes) or labels.ndim != 1 or not len(labels):
        raise InputError(
            "probabilities: must have one row for each of at least one label and one column for each class;"
            f" got {probabilities.shape} for labels {labels.shape} and {classes} classes"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels: must be 0 to {classes - 1}; got {labels.min()} to {labels.max()}")
    broken = ~np.isfinite(probabilities).all(1)
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
    pictures: NDArray[np.int64],
) -> tuple[ClassMetrics, ...]:
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    rows = []
    for label, name in enumerate(classes):
        own = labels == label
        low, high = interval_of((predicted == labels)[own], pictures[own], confidence)
        scores = float(precision[label]), float(recall[label]), low, high, float(f1[label])
        rows.append(ClassMetrics(name, int(support[label]), *scores))
    return tuple(rows)


def _calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> tuple[CalibrationBin, ...]:
    """Bins of equal width, as C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2."""
    edges = np.linspace(0, 1, bins + 1)
    which = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin's mean is nan
        mean = np.bincount(which, confidence, bins) / count
        accuracy = np.bincount(which, right, bins) / count
    return tuple(
        CalibrationBin(float(edges[b]), float(edges[b + 1]), int(count[b]), float(mean[b]), float(accuracy[b]))
        for b in range(bins)
    )


def _negative_log_likelihood(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Bounded below by the float64 epsilon as scikit-learn's log_loss, so that one certain error is not infinite."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_label, np.finfo(np.float64).eps, 1)).mean())
