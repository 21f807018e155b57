"""What chance explains: the quick ways against the plain ones, and groups of near-duplicates."""

from itertools import product

import numpy as np
import pytest
import torch

from podium.components import Choice
from podium.metrics import scores
from podium.metrics.confusion import Confusion, Floats
from podium.metrics.resampling import Groups, Paired, interval, measured
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.metrics.scores.recalls import BalancedAccuracy

CLASSES = ("a", "b", "c")


def metric(name: str) -> Metric:
    return scores.of(Choice(name=name))


def predictions(labels: torch.Tensor, skill: float, seed: int) -> Scored:
    """Logits that know the labels by `skill`."""
    logits = torch.randn(
        (len(labels), len(CLASSES)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    logits[torch.arange(len(labels)), labels] += skill
    return Scored(logits, labels, CLASSES)


def pair(name: str, count: int, skills: tuple[float, float], seed: int = 0) -> Paired:
    labels = torch.from_numpy(np.random.default_rng(seed).choice(3, count, p=[0.6, 0.3, 0.1]))
    sides = [predictions(labels, skill, 2 * seed + n) for n, skill in enumerate(skills)]
    return Paired(metric(name), sides[0], sides[1], Groups.of(count, None))


class Plain(BalancedAccuracy):
    """The same metric without the way that takes many samples at once."""

    OF_LABELS = False

    def of_confusion(self, confusion: Confusion) -> Floats:
        assert confusion.table.ndim == 2
        return super().of_confusion(confusion)


def test_many_samples_at_once_are_the_same_as_one_by_one() -> None:
    quick = pair("balanced_accuracy", 60, (0.6, 0.5))
    plain = Paired(Plain(), quick.new, quick.old, quick.groups)
    assert plain.better(0.025) == quick.better(0.025)
    assert plain.interval(0.9) == pytest.approx(quick.interval(0.9))
    assert plain.not_worse(0.05, 0.025) == quick.not_worse(0.05, 0.025)


@pytest.mark.parametrize("name", ["brier", "balanced_accuracy", "auroc", "average_precision", "calibration_error"])
def test_permutation_test_of_a_few_images_counts_every_swap(name: str) -> None:
    found = pair(name, 8, (1.0, 0.2), seed=4)
    assert torch.bincount(found.new.labels, minlength=3).min() > 0
    assert not np.isnan(found.improvement())
    sides = torch.stack([found.new.probabilities, found.old.probabilities])
    every = []
    for swap in product([0, 1], repeat=8):
        rows = torch.tensor(swap), torch.arange(8)
        new, old = sides[rows[0], rows[1]], sides[1 - rows[0], rows[1]]
        values = [
            found.metric.value(Scored(one, found.new.labels, CLASSES, are_probabilities=True)) for one in (new, old)
        ]
        every.append(found.metric.sign * (values[0] - values[1]))
    observed = found.improvement()
    expected = np.mean([value >= observed - 1e-12 for value in every])
    assert found.better(0.025) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "loss", "macro_f1"])
def test_clear_difference_is_found_and_none_is_not(name: str) -> None:
    clear, none = pair(name, 400, (2.5, 1.0)), pair(name, 400, (1.5, 1.5))
    assert clear.better(0.025) <= 0.025
    assert none.better(0.025) > 0.025
    assert none.not_worse(0.3, 0.025) <= 0.025
    low, high = none.interval(0.95)
    assert low < none.improvement() < high


@pytest.mark.parametrize("name", ["balanced_accuracy", "brier"])
def test_group_of_duplicates_counts_once_whatever_its_size(name: str) -> None:
    once = pair(name, 90, (1.2, 0.8), seed=5)
    times = torch.from_numpy(np.random.default_rng(0).integers(1, 5, 90))
    rows = torch.arange(90).repeat_interleave(times)
    groups = Groups.of(len(rows), rows.numpy())
    repeated = Paired(once.metric, once.new.taken(rows), once.old.taken(rows), groups)
    assert measured(once.metric, repeated.new, groups) == pytest.approx(measured(once.metric, once.new, once.groups))
    assert repeated.improvement() == pytest.approx(once.improvement())
    assert repeated.better(0.025) == pytest.approx(once.better(0.025), abs=0.01)
    assert repeated.interval(0.9) == pytest.approx(once.interval(0.9), abs=0.01)


def test_metric_that_takes_no_weights_counts_the_first_of_each_group() -> None:
    rare = scores.of(Choice(name="MulticlassJaccardIndex"))
    assert (rare.direction, rare.label) == ("maximize", "MulticlassJaccardIndex")
    once = predictions(torch.tensor([0, 1, 2, 0, 1, 2]), 1.0, 0)
    rows = torch.tensor([0, 0, 0, 1, 2, 3, 4, 4, 5])
    groups = Groups.of(9, rows.numpy())
    assert measured(rare, once.taken(rows), groups) == pytest.approx(rare.value(once))


def test_interval_of_a_metric_holds_its_value_and_narrows_with_more_images() -> None:
    few, many = pair("balanced_accuracy", 60, (1.0, 1.0)), pair("balanced_accuracy", 1500, (1.0, 1.0))
    widths = []
    for one in (few, many):
        low, high = interval(one.metric, one.new, one.groups, 0.95)
        assert low < one.metric.value(one.new) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


@pytest.mark.parametrize(
    "choice",
    [
        Choice(name="auroc"),
        Choice(name="average_precision"),
        Choice(name="calibration_error"),
        Choice(name="recall_at_precision", arguments={"class_name": "b", "precision": 0.5}),
    ],
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("digits", [16, 1], ids=["distinct", "ties"])
def test_many_weights_at_once_give_the_value_of_each(choice: Choice, digits: int) -> None:
    one = scores.of(choice)
    found = pair("accuracy", 50, (1.0, 0.5)).new
    found = Scored(found.probabilities.round(decimals=digits), found.labels, CLASSES, are_probabilities=True)
    weights = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (6, 50)).astype(float))
    quick = one.of_weights(found, weights)
    assert quick is not None
    assert quick.tolist() == pytest.approx([one.value(found.weighted(row)) for row in weights])


def test_calibration_error_of_many_weights_is_on_their_device() -> None:
    found = pair("accuracy", 50, (1.0, 0.5)).new
    weights = torch.ones((6, 50), dtype=torch.float64, device="meta")  # as a GPU's: nothing of the CPU may meet it
    of_weights = scores.of(Choice(name="calibration_error")).of_weights(found, weights)
    assert of_weights is not None
    assert (of_weights.device.type, of_weights.shape) == ("meta", (6,))


@pytest.mark.parametrize("name", ["auroc", "brier", "accuracy", "top_k"])
def test_gains_of_the_images_turn_their_sign_with_their_predictions(name: str) -> None:
    one = scores.of(Choice(name=name, arguments={"k": 2} if name == "top_k" else {}))
    found = pair("accuracy", 40, (1.0, 0.2))
    new, old = (side.weighted(torch.rand(40, dtype=torch.float64).round(decimals=1)) for side in (found.new, found.old))
    old = old.weighted(new.each)
    gains = one.gains(new, old)
    assert gains is not None
    scale = 1.0 if name == "auroc" else float(new.each.sum())
    swap = torch.arange(40) % 3 == 0
    for rows, expected in ((torch.zeros(40, dtype=torch.bool), gains), (swap, torch.where(swap, -gains, gains))):
        both = new.exchanged(old, rows), old.exchanged(new, rows)
        improvement = one.sign * (one.value(both[0]) - one.value(both[1]))
        assert float(expected.sum()) / scale == pytest.approx(improvement, abs=1e-12)


def test_bootstrap_samples_are_drawn_once_for_interval_and_test() -> None:
    first, alone = pair("balanced_accuracy", 60, (0.6, 0.5)), pair("balanced_accuracy", 60, (0.6, 0.5))
    before = first.interval(0.9)
    assert first.not_worse(0.05, 0.025) == alone.not_worse(0.05, 0.025)
    assert first.not_worse(0.05, 0.001) == pytest.approx(alone.not_worse(0.05, 0.001))
    assert first.interval(0.9) == before


class Sometimes(Metric):
    """The precision of class b, undefined where it is never predicted."""

    def of_confusion(self, confusion: Confusion) -> Floats:
        return confusion.ratio(confusion.right[..., 1], confusion.predicted[..., 1])


class SometimesOfLabels(Sometimes):
    OF_LABELS = True


@pytest.mark.parametrize("metric_of", [Sometimes, SometimesOfLabels])
def test_draws_without_a_value_are_no_evidence(metric_of: type[Metric]) -> None:
    labels = torch.tensor([0] * 30 + [1] * 30)
    sides = []
    for right in (30, 31):  # each model predicts b once
        given = torch.zeros((60, 2))
        given[:, 0] = 1
        given[right] = torch.tensor([0.0, 2.0])
        sides.append(Scored(given, labels, ("a", "b")))
    found = Paired(metric_of(), sides[0], sides[1], Groups.of(60, None))
    assert found.improvement() == 0
    assert found.not_worse(0.01, 0.025) > 0.3
    assert found.better(0.025) >= 0.5
    assert np.isnan(found.interval(0.95)).all()


def test_pair_without_a_value_is_no_evidence() -> None:
    found = pair("auroc", 8, (1.0, 0.2), seed=3)
    assert np.isnan(found.improvement())
    assert found.better(0.025) == 1.0
    assert found.not_worse(0.01, 0.025) == 1.0
