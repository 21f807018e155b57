"""Metrics of several predictions, computed together, are those of each alone, bit for bit."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from podium.components import Choice
from podium.metrics import scores, several
from podium.metrics.confusion import Confusion
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.metrics.scores.agreement import Mcc
from podium.metrics.standing import Standing

PLAIN = ["accuracy", "balanced_accuracy", "min_recall", "macro_f1", "weighted_f1", "auroc", "average_precision"]
PLAIN += ["loss", "brier", "calibration_error", "mcc", "kappa"]
SOME = [
    *(scores.of(Choice(name=name)) for name in PLAIN),
    scores.of(Choice(name="top_k", arguments={"k": 2})),
    scores.of(Choice(name="kappa", arguments={"penalty": "linear"})),
    scores.of(Choice(name="recall_at_precision", arguments={"class_name": "b", "precision": 0.6})),
]
COST = scores.of(Choice(name="cost", arguments={"costs": {"a": {"b": 5, "c": 1}, "b": {"a": 2}}}))


def logits(count: int, classes: int, seed: int, *, coarse: bool = False) -> Tensor:
    found = torch.randn((count, classes), generator=torch.Generator().manual_seed(seed))
    return found.round() if coarse else found


def scored(given: Tensor, labels: Tensor) -> Scored:
    return Scored(given, labels, tuple("abcdefghij"[: given.shape[1]]))


def assert_as_alone(each: list[tuple[Tensor, Tensor]]) -> None:
    metrics = [*SOME, COST] if each[0][0].shape[1] == 3 else SOME
    together = several.measured([scored(*one) for one in each], metrics)
    alone = [[metric.measured(scored(*one)) for metric in metrics] for one in each]
    # as text, in which nan equals nan
    assert [list(map(str, row)) for row in together] == [list(map(str, row)) for row in alone]


@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
@pytest.mark.parametrize(("count", "classes"), [(1, 3), (7, 2), (70, 8), (150, 12), (267, 3), (400, 10)])
def test_metrics_of_predictions_for_the_same_images_are_those_of_each_alone(
    count: int, classes: int, coarse: bool
) -> None:
    labels = torch.arange(count) * 7 % classes
    assert_as_alone([(logits(count, classes, seed, coarse=coarse), labels) for seed in range(6)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often what costs time is called."""
    found: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        function = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            found[name] += 1
            return function(*given, **named)

        monkeypatch.setattr(owner, name, staticmethod(counted) if owner is Standing else counted)

    for owner, name in ((Tensor, "softmax"), (Metric, "measured"), (Standing, "of"), (Standing, "of_several")):
        count(owner, name)
    return found


@pytest.mark.parametrize(
    ("names", "computed"),
    [
        (["macro_f1", "accuracy", "kappa"], {}),
        (["brier"], {"softmax": 1}),
        (["calibration_error"], {"softmax": 1, "measured": 6}),
        (["auroc", "average_precision", "mcc"], {"softmax": 1, "measured": 12, "of_several": 1}),
        ([], {}),
    ],
)
def test_what_metrics_need_is_computed_once_for_all_predictions_and_nothing_else_is(
    calls: Counter[str], names: list[str], computed: dict[str, int]
) -> None:
    labels = torch.arange(70) * 7 % 8
    metrics = [scores.of(Choice(name=name)) for name in names]
    found = several.measured([scored(logits(70, 8, seed), labels) for seed in range(6)], metrics)
    assert [len(row) for row in found] == [len(names)] * 6
    assert calls == computed


def test_predictions_too_large_to_gain_are_computed_alone(calls: Counter[str]) -> None:
    labels = torch.arange(300) % 10
    several.measured([scored(logits(300, 10, seed), labels) for seed in range(3)], [SOME[0], SOME[5]])
    assert calls == {"softmax": 3, "measured": 6, "of": 3}


def test_part_of_one_of_several_predictions_has_its_own_probabilities() -> None:
    labels = torch.arange(70) * 7 % 8
    each = [scored(logits(70, 8, seed), labels) for seed in range(4)]
    together = several.Several.of(each)
    assert together is not None
    rows = torch.tensor([3, 60, 9])
    for one, alone in zip(together.each, each, strict=True):
        assert torch.equal(one.confidence, alone.confidence)
        assert torch.equal(one.taken(rows).probabilities, alone.taken(rows).probabilities)
        assert torch.equal(one.taken(rows).predicted, alone.taken(rows).predicted)


def test_class_without_images_leaves_the_same_metrics_undefined() -> None:
    assert_as_alone([(logits(20, 3, seed), torch.arange(20) % 2) for seed in range(3)])
    assert_as_alone([(logits(20, 3, seed), torch.ones(20, dtype=torch.int64)) for seed in range(3)])


def test_predictions_for_other_images_and_broken_ones_are_computed_alone() -> None:
    labels = torch.arange(12) % 3
    broken = logits(12, 3, 8)
    broken[2, 1] = math.nan
    each = [(logits(12, 3, 0), labels), (logits(12, 3, 1), labels.clone()), (logits(12, 3, 2), labels.flip(0))]
    assert_as_alone([*each, (logits(6, 3, 3), labels[:6]), (broken, labels), (logits(12, 3, 4), labels)])


def test_matthews_coefficient_of_many_matrices_is_that_of_each() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5000, 4, 4)).astype(np.float64)
    of_many = Mcc().of_confusion(Confusion(tables))
    assert of_many.tolist() == [float(Mcc().of_confusion(Confusion(table))) for table in tables]
