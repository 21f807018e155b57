"""Each metric equals scikit-learn's: on random predictions, with weights, and where there is hardly anything to see."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning

from podium.components import Choice
from podium.metrics import scores
from podium.metrics.scored import Scored

Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]
COSTS = {"a": {"b": 5, "c": 1}, "b": {"a": 2}, "c": {"a": -1}}


def draw(count: int, classes: int, seed: int = 0) -> tuple[Labels, Matrix]:
    """Labels and probabilities that know something of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def constant(labels: list[int], classes: int = 3) -> tuple[Labels, Matrix]:
    """The same probabilities for every image."""
    row = np.arange(1.0, classes + 1) / np.arange(1.0, classes + 1).sum()
    return np.array(labels), np.tile(row, (len(labels), 1))


def coarse(count: int) -> tuple[Labels, Matrix]:
    """Probabilities with many ties."""
    labels, probabilities = draw(count, 3, 5)
    rounded = np.round(probabilities * 4) + 0.25
    return labels, rounded / rounded.sum(1, keepdims=True)


ALL_RIGHT = np.array([0, 1, 2, 1]), np.eye(3)[[0, 1, 2, 1]] * 0.97 + 0.01
CASES: dict[str, tuple[Labels, Matrix]] = {
    "random": draw(300, 3),
    "ten classes": draw(200, 10, 1),
    "two classes": draw(60, 2, 2),
    "few": draw(7, 3, 7),
    "ties": coarse(150),
    "constant scores": constant([0, 1, 2, 1]),
    "all right": ALL_RIGHT,
    "one class": constant([1, 1, 1]),
    "one class, other predictions": (np.array([1, 1, 1, 1]), draw(4, 3, 3)[1]),
    "class without images": (np.array([0, 1, 1, 0, 1, 0]), draw(6, 3, 4)[1]),
    "one image": (np.array([2]), draw(1, 3, 6)[1]),
}


def one_hot(y: Labels, p: Matrix) -> Any:
    return np.eye(p.shape[1])[y]


def auroc(y: Labels, p: Matrix, w: Matrix) -> float:
    each = [sk.roc_auc_score(y == k, p[:, k], sample_weight=w) for k in range(p.shape[1])]
    return float(np.mean(each))


def recall_at_precision(y: Labels, p: Matrix, w: Matrix) -> float:
    precision, recall, _ = sk.precision_recall_curve(y == 1, p[:, 1], sample_weight=w)
    return float(recall[precision >= 0.6].max())


def cost(y: Labels, p: Matrix, w: Matrix) -> float:
    names = "abc"
    each = [COSTS.get(names[a], {}).get(names[b], 0) for a, b in zip(y, p.argmax(1), strict=True)]
    return float(np.average(each, weights=w))


def top_k(y: Labels, p: Matrix, w: Matrix) -> float:
    if p.shape[1] == 2:
        return math.nan  # there it is 1, with a warning
    return float(sk.top_k_accuracy_score(y, p, k=2, labels=range(p.shape[1]), sample_weight=w))


def brier(y: Labels, p: Matrix, w: Matrix) -> float:
    if p.shape[1] == 2:
        return float(sk.brier_score_loss(y, p[:, 1], sample_weight=w))
    return float(sk.brier_score_loss(y, p, labels=range(p.shape[1]), sample_weight=w))


def calibration(y: Labels, p: Matrix, w: Matrix) -> float:
    """The bins of a curve that takes no weights: these are quarters, so four times as many images."""
    times = np.round(4 * w).astype(np.int64)
    confidence, right = np.repeat(p.max(1), times), np.repeat(p.argmax(1) == y, times)
    true, predicted = calibration_curve(right.astype(np.int64), confidence, n_bins=15)
    count = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence))
    return float((np.abs(true - predicted) * count[count > 0]).sum() / count.sum())


Sklearn = Callable[[Labels, Matrix, Matrix], float]
METRICS: dict[str, tuple[Choice, Sklearn]] = {
    "accuracy": (Choice(name="accuracy"), lambda y, p, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w)),
    "top_2": (Choice(name="top_k", arguments={"k": 2}), top_k),
    "balanced_accuracy": (
        Choice(name="balanced_accuracy"),
        lambda y, p, w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    ),
    "min_recall": (
        Choice(name="min_recall"),
        lambda y, p, w: sk.recall_score(y, p.argmax(1), labels=np.unique(y), average=None, sample_weight=w).min(),
    ),
    "macro_f1": (
        Choice(name="macro_f1"),
        lambda y, p, w: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=w),
    ),
    "weighted_f1": (
        Choice(name="weighted_f1"),
        lambda y, p, w: sk.f1_score(y, p.argmax(1), average="weighted", sample_weight=w),
    ),
    "auroc": (Choice(name="auroc"), auroc),
    "average_precision": (
        Choice(name="average_precision"),
        lambda y, p, w: sk.average_precision_score(one_hot(y, p), p, average="macro", sample_weight=w),
    ),
    "recall_b_at_precision_0.6": (
        Choice(name="recall_at_precision", arguments={"class_name": "b", "precision": 0.6}),
        recall_at_precision,
    ),
    "loss": (Choice(name="loss"), lambda y, p, w: sk.log_loss(y, p, labels=range(p.shape[1]), sample_weight=w)),
    "brier": (Choice(name="brier"), brier),
    "calibration_error": (Choice(name="calibration_error"), calibration),
    "mcc": (Choice(name="mcc"), lambda y, p, w: sk.matthews_corrcoef(y, p.argmax(1), sample_weight=w)),
    "kappa": (
        Choice(name="kappa"),
        lambda y, p, w: sk.cohen_kappa_score(
            y, p.argmax(1), weights="quadratic", sample_weight=w, labels=range(p.shape[1])
        ),
    ),
    "linear_kappa": (
        Choice(name="kappa", arguments={"penalty": "linear"}),
        lambda y, p, w: sk.cohen_kappa_score(
            y, p.argmax(1), weights="linear", sample_weight=w, labels=range(p.shape[1])
        ),
    ),
    "unweighted_kappa": (
        Choice(name="kappa", arguments={"penalty": "none"}),
        lambda y, p, w: sk.cohen_kappa_score(y, p.argmax(1), sample_weight=w, labels=range(p.shape[1])),
    ),
    "cost": (Choice(name="cost", arguments={"costs": COSTS}), cost),
}


def by_sklearn(function: Sklearn, labels: Labels, probabilities: Matrix, weights: Matrix) -> float:
    """Its value; nan where it warns that there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = float(function(labels, probabilities, weights))
    undefined = any(
        issubclass(one.category, UndefinedMetricWarning) or "No positive class" in str(one.message) for one in caught
    )
    return math.nan if undefined else value


PAIRS = [(name, case) for name in METRICS for case in CASES if name != "cost" or CASES[case][1].shape[1] == len(COSTS)]


@pytest.mark.parametrize(("name", "case"), PAIRS)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_metric_equals_sklearns(name: str, case: str, weighted: bool) -> None:
    choice, function = METRICS[name]
    labels, probabilities = CASES[case]
    classes = tuple("abcdefghij"[: probabilities.shape[1]])
    weights = np.random.default_rng(9).integers(1, 5, len(labels)) / 4 if weighted else np.ones(len(labels))
    metric = scores.of(choice)
    own = torch.from_numpy(weights) if weighted else None
    scored = Scored(torch.from_numpy(probabilities), torch.from_numpy(labels), classes, own, are_probabilities=True)
    found = metric.value(scored)
    assert found == pytest.approx(by_sklearn(function, labels, probabilities, weights), abs=1e-9, nan_ok=True)
    assert metric.label == name
    low, high = metric.RANGE
    assert math.isnan(found) or low <= found <= high + 1e-12
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    if "kappa" not in name and name != "mcc":  # undefined by its predictions, too; and 0 of 0, as scikit-learn has it
        assert math.isnan(found) == bool(metric.undefined(counts))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "broken",
    [[0.0, math.nan, 0.0], [math.inf, 0.0, 0.0], [math.inf, -math.inf, math.inf], [-math.inf] * 3],
    ids=["nan", "infinite", "two infinite", "nothing"],
)
def test_metric_of_predictions_whose_probabilities_are_nan_is_nan(name: str, broken: list[float]) -> None:
    logits, labels = torch.randn((9, 3)), torch.arange(9) % 3
    metric, classes = scores.of(METRICS[name][0]), tuple("abc")
    assert not math.isnan(metric.measured(Scored(logits, labels, classes)))
    logits[4] = torch.tensor(broken)
    assert math.isnan(metric.measured(Scored(logits, labels, classes)))


@pytest.mark.parametrize("name", ["auroc", "average_precision", "recall_b_at_precision_0.6", "mcc"])
def test_undefined_metric_says_which_images_are_missing(name: str) -> None:
    metric = scores.of(METRICS[name][0])
    assert metric.undefined({"a": 3, "b": 0, "c": 0}) in (
        "there is no image of b, c",
        "there is no image of b",
        "all images are of one class",
    )
    assert metric.undefined({"a": 3, "b": 2, "c": 1}) == ""


def test_samples_drawn_with_weights_are_those_images_repeated() -> None:
    labels, probabilities = draw(80, 3, 11)
    times = np.random.default_rng(0).integers(0, 4, 80)
    once = Scored(torch.from_numpy(probabilities), torch.from_numpy(labels), tuple("abc"), are_probabilities=True)
    rows = torch.from_numpy(np.repeat(np.arange(80), times))
    for choice, _ in METRICS.values():
        metric = scores.of(choice)
        expected = metric.value(once.taken(rows))
        assert metric.value(once) is not None  # what is shared is there already
        assert metric.value(once.weighted(torch.from_numpy(times).double())) == pytest.approx(expected, abs=1e-9)
