"""Losses: each is torch's or its formula, weights of classes included; own ones are called as they are written."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from own import OwnCode
from podium.config.recipe import TrainParams
from podium.errors import InputError

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-2.0, 3.0, 0.0], [0.0, 0.0, 5.0]])
TARGETS = torch.tensor([0, 2, 0, 2])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def _loss(weights: Tensor | None = None, **fields: Any) -> float:
    loss = TrainParams.model_validate(fields).component("loss").build(weights)
    return float(loss(LOGITS, TARGETS))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float, weights: Tensor | None) -> None:
    expected = F.cross_entropy(LOGITS, TARGETS, weight=weights, label_smoothing=smoothing)
    assert _loss(weights, label_smoothing=smoothing) == float(expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_focal_loss_of_gamma_0_is_cross_entropy(weights: Tensor | None) -> None:
    expected = F.cross_entropy(LOGITS, TARGETS, weight=weights)
    assert _loss(weights, loss="focal", focal_gamma=0.0) == pytest.approx(float(expected))


def test_focal_loss_counts_images_less_the_more_right_they_are() -> None:
    probability = LOGITS.softmax(1).gather(1, TARGETS[:, None]).squeeze(1)
    expected = ((1 - probability) ** 2 * -probability.log()).mean()
    assert _loss(loss="focal", focal_gamma=2.0) == pytest.approx(float(expected))


def test_bce_is_the_sum_over_the_classes_of_each_ones_own() -> None:
    expected = 3 * F.binary_cross_entropy_with_logits(LOGITS, F.one_hot(TARGETS, 3).float())
    assert _loss(loss="bce", label_smoothing=0.0) == pytest.approx(float(expected))


def test_bce_smooths_its_targets() -> None:
    wanted = F.one_hot(TARGETS, 3) * 0.7 + 0.1
    expected = 3 * F.binary_cross_entropy_with_logits(LOGITS, wanted)
    assert _loss(loss="bce", label_smoothing=0.3) == pytest.approx(float(expected))


def test_bce_with_weights_is_the_weighted_mean_of_the_images() -> None:
    wanted = F.one_hot(TARGETS, 3).float()
    each = F.binary_cross_entropy_with_logits(LOGITS, wanted, reduction="none").sum(1)
    expected = (each * WEIGHTS[TARGETS]).sum() / WEIGHTS[TARGETS].sum()
    assert _loss(WEIGHTS, loss="bce", label_smoothing=0.0) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "bce"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_loss_of_large_logits_and_its_gradient_are_finite(name: str, weights: Tensor | None) -> None:
    logits = (LOGITS * 1e4).requires_grad_()
    loss = TrainParams.model_validate({"loss": name}).component("loss").build(weights)(logits, TARGETS)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


OWN = """
import torch
import torch.nn.functional as F


def scaled(logits, targets, factor: float = 1.0, weight=None):
    return factor * F.cross_entropy(logits, targets, weight=weight)


def plain(logits, targets):
    return F.cross_entropy(logits, targets)


class Scaled(torch.nn.Module):
    MADE = []

    def __init__(self, factor: float = 1.0, weight=None):
        super().__init__()
        self.factor, self.weight = factor, weight
        self.MADE.append(self)

    def forward(self, logits, targets):
        return self.factor * F.cross_entropy(logits, targets, weight=self.weight)
"""


@pytest.mark.parametrize("form", ["scaled", "Scaled"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_own_loss_gets_its_arguments_and_the_classes_weights(own: OwnCode, form: str, weights: Tensor | None) -> None:
    choice = {"name": f"{own.write(OWN)}:{form}", "arguments": {"factor": 3.0}}
    expected = 3 * F.cross_entropy(LOGITS, TARGETS, weight=weights)
    assert _loss(weights, loss=choice) == pytest.approx(float(expected))


def test_loss_of_torch_is_taken_by_its_full_name() -> None:
    choice = {"name": "torch.nn:MultiMarginLoss", "arguments": {"margin": 0.5}}
    assert _loss(loss=choice) == float(F.multi_margin_loss(LOGITS, TARGETS, margin=0.5))


def test_class_of_an_own_loss_is_made_once(own: OwnCode) -> None:
    module = own.write(OWN)
    loss = TrainParams.model_validate({"loss": f"{module}:Scaled"}).component("loss").build(None)
    for _ in range(3):
        loss(LOGITS, TARGETS)
    assert len(__import__(module).Scaled.MADE) == 1


def test_own_loss_without_weights_is_refused_where_classes_are_weighted(own: OwnCode) -> None:
    name = f"{own.write(OWN)}:plain"
    assert _loss(loss=name) == float(F.cross_entropy(LOGITS, TARGETS))
    with pytest.raises(InputError, match=r"^train\.balance: .* has no argument `weight`: give it one, or take balance"):
        _loss(WEIGHTS, loss=name)


def test_own_loss_with_an_argument_that_it_does_not_have_is_refused(own: OwnCode) -> None:
    choice = {"name": f"{own.write(OWN)}:scaled", "arguments": {"faktor": 3.0}}
    with pytest.raises(
        InputError, match=r"^train\.loss\.arguments\.faktor: .* has no such argument; did you mean fact"
    ):
        _loss(loss=choice)
