"""Numbers that a reader can check by hand, and scikit-learn's compared with them."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score

from podium.errors import InputError
from podium.metrics.classification import interval, measure

LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.70, 0.20, 0.10],
        [0.10, 0.60, 0.30],
        [0.20, 0.80, 0.00],
        [0.10, 0.90, 0.00],
        [0.30, 0.30, 0.40],
        [0.50, 0.25, 0.25],
    ]
)
CLASSES = ("ant", "bee", "cat")


def one_hot(predicted: list[int], classes: int) -> NDArray[np.float64]:
    return np.eye(classes)[predicted]


def test_measure_six_images_gives_the_values_computed_by_hand() -> None:
    found = measure(LABELS, PROBABILITIES, CLASSES, bins=2)
    assert found.count == 6
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_f1 == pytest.approx((0.5 + 0.8 + 2 / 3) / 3)
    assert found.nll == pytest.approx(-sum(math.log(p) for p in (0.7, 0.1, 0.8, 0.9, 0.4, 0.25)) / 6)
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("label", "precision", "recall", "f1"), [(0, 1 / 2, 1 / 2, 1 / 2), (1, 2 / 3, 1, 0.8), (2, 1, 1 / 2, 2 / 3)]
)
def test_per_class_six_images_gives_the_values_computed_by_hand(
    label: int, precision: float, recall: float, f1: float
) -> None:
    found = measure(LABELS, PROBABILITIES, CLASSES).per_class[label]
    assert (found.name, found.support) == (CLASSES[label], 2)
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert (found.recall_low, found.recall_high) == interval(round(2 * recall), 2, 0.95)


def test_calibration_two_bins_takes_the_edge_below_and_weighs_by_count() -> None:
    found = measure(LABELS, PROBABILITIES, CLASSES, bins=2)
    low, high = found.calibration
    assert (low.lower, low.upper, low.count) == (0, 0.5, 2)  # the confidences 0.4 and 0.5
    assert (low.confidence, low.accuracy) == pytest.approx((0.45, 0.5))
    assert (high.lower, high.upper, high.count) == (0.5, 1, 4)
    assert (high.confidence, high.accuracy) == pytest.approx((0.75, 0.75))
    assert found.ece == pytest.approx(2 / 6 * 0.05)


@pytest.mark.parametrize(
    ("answers", "sure", "ece"),
    [
        ([0, 1, 0, 1], 1.0, 0.0),  # sure and right
        ([1, 0, 1, 0], 1.0, 1.0),  # sure and wrong
        ([0, 1, 1, 0], 1.0, 0.5),  # sure, and right half of the time
        ([0, 1, 0, 1], 0.6, 0.4),  # right, and less sure than it could be
    ],
)
def test_ece_known_confidence_gives_its_distance_from_the_accuracy(answers: list[int], sure: float, ece: float) -> None:
    probabilities = np.where(one_hot(answers, 2) == 1, sure, 1 - sure)
    assert measure(np.array([0, 1, 0, 1]), probabilities, ("a", "b")).ece == pytest.approx(ece)


def test_calibration_empty_bins_are_listed_without_a_mean() -> None:
    found = measure(np.array([0]), np.array([[0.95, 0.05]]), ("a", "b"), bins=10).calibration
    assert [b.count for b in found] == [0] * 9 + [1]
    assert math.isnan(found[0].confidence)
    assert math.isnan(found[0].accuracy)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 1998, table I, method 3; the last two by the formula
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
    ],
)
def test_interval_published_examples_gives_the_published_limits(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert interval(successes, trials, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_interval_nothing_tried_says_nothing() -> None:
    assert interval(0, 0, 0.95) == (0.0, 1.0)


def test_interval_higher_confidence_is_wider() -> None:
    (low, high), (lower, higher) = interval(9, 10, 0.9), interval(9, 10, 0.99)
    assert lower < low < high < higher


def test_measure_random_answers_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 7, 300), rng.normal(size=(300, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    found = measure(labels, probabilities, [str(k) for k in range(7)])
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found.nll == pytest.approx(log_loss(labels, probabilities))
    assert [c.precision for c in found.per_class] == pytest.approx(precision_score(labels, predicted, average=None))


def test_measure_class_without_images_or_answers_is_left_out_of_macro_f1() -> None:
    found = measure(np.array([0, 0, 1]), one_hot([0, 0, 1], 3), CLASSES)
    absent = found.per_class[2]
    assert found.macro_f1 == 1
    assert (absent.support, absent.precision, absent.recall, absent.f1) == (0, 0, 0, 0)
    assert (absent.recall_low, absent.recall_high) == (0, 1)
    assert found.confusion.shape == (3, 3)
    assert [c.name for c in found.weakest()] == ["ant", "bee"]


def test_nll_certain_and_wrong_is_large_and_finite() -> None:
    assert measure(np.array([0]), np.array([[0.0, 1.0]]), ("a", "b")).nll == pytest.approx(36.04, abs=0.01)


def test_measure_equal_probabilities_answers_the_first_class() -> None:
    assert measure(np.array([0, 1]), np.full((2, 2), 0.5), ("a", "b")).confusion.tolist() == [[1, 0], [1, 0]]


def test_weakest_orders_by_recall() -> None:
    found = measure(LABELS, PROBABILITIES, CLASSES)
    assert [c.name for c in found.weakest(2)] == ["ant", "cat"]


def test_summary_has_accuracy_at_its_top_and_flat_the_same_values() -> None:
    found = measure(LABELS, PROBABILITIES, CLASSES)
    summary, flat = found.summary(), found.flat()
    assert next(iter(summary)) == "accuracy"
    names = ["test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_macro_f1", "test_ece", "test_nll"]
    assert list(flat) == names
    assert all(flat[name] == summary[name.removeprefix("test_")] for name in names)
    assert all(type(value) is float for value in flat.values())


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], np.ones((3, 2)), r"one row for each of at least one label.*got \(3, 2\) for labels \(2,\)"),
        ([0, 1], np.ones((2, 3)), r"one column for each class; got \(2, 3\).* and 2 classes"),
        ([], np.ones((0, 2)), "at least one label"),
        ([0, 2], np.ones((2, 2)), "labels: must be 0 to 1; got 0 to 2"),
        ([-1, 1], np.ones((2, 2)), "labels: must be 0 to 1; got -1 to 1"),
        ([0, 1], np.array([[1, 0], [math.nan, 0]]), "must be finite; 1 of 2 images have none, the first is image 1"),
    ],
)
def test_measure_arrays_that_do_not_fit_are_refused(
    labels: list[int], probabilities: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measure(np.array(labels, dtype=np.int64), probabilities, ("a", "b"))


@pytest.mark.parametrize(("right", "copies"), [(30, 1), (30, 3), (40, 4), (0, 2)])
def test_intervals_count_a_picture_once_however_many_copies_there_are(right: int, copies: int) -> None:
    """40 pictures and their copies: the interval is that of 40 images, around the accuracy of all."""
    labels = np.zeros(40 * copies, np.int64)
    predicted = np.where(np.arange(40) < right, 0, 1).repeat(copies)
    pictures = [str(n) for n in np.arange(40).repeat(copies)]
    found = measure(labels, one_hot(predicted.tolist(), 2), ("a", "b"), pictures=pictures)
    single = measure(labels[:40], one_hot(predicted[::copies].tolist(), 2), ("a", "b"))
    assert (found.accuracy, found.count) == (single.accuracy, 40 * copies)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((single.accuracy_low, single.accuracy_high))
    assert found.per_class[0].recall_low == pytest.approx(single.per_class[0].recall_low)
