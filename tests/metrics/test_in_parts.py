"""Metrics of more predictions than are held at once: the same values as of all of them together."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from podium.components import Choice
from podium.metrics import resampling, scored, scores, standing
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric

COUNT, CLASSES = 240, 7
COUNTED = ("accuracy", "balanced_accuracy", "top_k", "worst_recall", "macro_f1", "mcc", "kappa")
"""Those of whole numbers of images: equal to the last bit."""
METRICS = [
    *(Choice(name=name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "loss", "brier")),
    Choice(name="top_k", arguments={"k": 2}),
    *(Choice(name=name) for name in ("calibration_error", "auroc", "average_precision")),
    Choice(name="recall_at_precision", arguments={"class_name": "c3", "precision": 0.3}),
    Choice(name="MulticlassJaccardIndex"),
    Choice(name="MulticlassAUROC"),
]


@pytest.fixture(params=["probabilities", "ties", "logits", "weights"])
def predictions(request: pytest.FixtureRequest) -> Scored:
    """Probabilities in float32, such with many equal ones, logits, and images that count differently."""
    draw = np.random.default_rng(0)
    labels = np.arange(COUNT) % CLASSES
    logits = torch.from_numpy(draw.normal(size=(COUNT, CLASSES)).astype(np.float32))
    logits[torch.arange(COUNT), torch.from_numpy(labels)] += 1
    given = logits if request.param == "logits" else logits.softmax(1)
    given = (given * 8).round() / 8 if request.param == "ties" else given
    weights = torch.from_numpy(draw.integers(1, 4, COUNT) / 3) if request.param == "weights" else None
    names = tuple(f"c{k}" for k in range(CLASSES))
    return Scored(given, torch.from_numpy(labels), names, weights, are_probabilities=request.param != "logits")


def _again(one: Scored) -> Scored:
    """The same predictions, of which nothing has been computed."""
    return Scored(one.given, one.labels, one.classes, one.weights, are_probabilities=one.are_probabilities)


@pytest.mark.parametrize("choice", METRICS, ids=lambda choice: choice.name)
@pytest.mark.parametrize("cells", [1, 500])
def test_metric_in_parts_is_that_of_all_predictions_at_once(
    choice: Choice, cells: int, predictions: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric: Metric = scores.of(choice)
    if predictions.weights is not None and not metric.WEIGHTED:
        pytest.skip("it takes no weights")
    whole = metric.value(predictions)
    for limit in ("CELLS", "PART"):  # an image and a class at a time; 71 images, two classes
        monkeypatch.setattr(scored, limit, cells)
    found = metric.value(_again(predictions))
    assert found == (whole if choice.name in COUNTED else pytest.approx(whole, abs=1e-12, rel=1e-7))


@pytest.mark.parametrize("name", ["auroc", "average_precision", "loss"])
def test_interval_in_parts_is_that_of_all_predictions_at_once(
    name: str, predictions: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 20)
    metric, groups = scores.of(Choice(name=name)), resampling.Groups.of(COUNT, None)
    whole = resampling.interval(metric, predictions, groups, 0.9)
    for limit in ("CELLS", "PART"):
        monkeypatch.setattr(scored, limit, 500)
    assert resampling.interval(metric, _again(predictions), groups, 0.9) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("choice", METRICS[7:10], ids=lambda choice: choice.name)
def test_ranking_of_few_images_is_that_of_sorted_columns(
    choice: Choice, predictions: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric: Metric = scores.of(choice)
    values = []
    for images in (0, COUNT):  # every column sorted; each image compared with each
        monkeypatch.setattr(standing, "AT_ONCE", images)
        monkeypatch.setattr(standing, "A_CLASS", COUNT**2)
        values.append(metric.value(_again(predictions)))
    assert values[0] == pytest.approx(values[1], rel=1e-12)


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts torch's operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_ten_metrics_of_an_epoch_share_what_they_need() -> None:
    """One look at finite values, one softmax, one confusion matrix, one ranking: a head takes 6 ms an epoch, and
    each of torch's operations 2 to 10 us of it."""
    names = (
        "balanced_accuracy macro_f1 weighted_f1 min_recall auroc average_precision brier calibration_error mcc kappa"
    )
    chosen = [scores.of(Choice(name=name)) for name in names.split()]
    few = Scored(torch.randn((70, 8), generator=torch.Generator().manual_seed(0)), torch.arange(70) % 8)
    with _Counted() as operations:  # type: ignore[no-untyped-call]
        values = [metric.measured(few) for metric in chosen]
    assert all(map(np.isfinite, values))
    assert operations.count <= 40
