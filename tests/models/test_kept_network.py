"""The network that a process keeps as its file gives it: whether it is there changes no number."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from podium import paths
from podium.config.recipe import ModelParams
from podium.models import build
from podium.models.networks import ImageSpec

NAME = "torchvision:shufflenet_v2_x0_5"
IMAGES = tiny.spec((3, 32, 32), 5)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_kept", {})


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelParams:
    """A network that starts from a file of weights with a head for three classes."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    monkeypatch.setattr(build, "located", lambda name, weights: tmp_path / weights)
    _write(tmp_path / "w.pt", 1)
    return ModelParams(name=NAME, weights="w.pt")


def _write(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = ModelParams(name=NAME).network().build(tiny.spec((3, 32, 32), 3))
    torch.save(network.network.state_dict(), path)  # type: ignore[union-attr]


def _first(params: ModelParams, seed: int, images: ImageSpec = IMAGES) -> tuple[dict[str, Tensor], Tensor]:
    """The first weights of a training with `seed`, and the next number that it draws."""
    torch.manual_seed(seed)
    return build.initial_model(params, images).state_dict(), torch.rand(1)


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


HEAD = {"1.network.fc.weight", "1.network.fc.bias"}


def test_kept_network_gives_the_weights_and_the_numbers_of_one_that_is_built(params: ModelParams) -> None:
    built = _first(params, 7)
    kept = _first(params, 7)
    assert build._kept
    assert _differing(built[0], kept[0]) == set()
    assert torch.equal(built[1], kept[1])


def test_head_is_each_trainings_own(params: ModelParams) -> None:
    assert _differing(_first(params, 7)[0], _first(params, 8)[0]) == HEAD


def test_what_a_training_makes_of_its_network_stays_its_own(params: ModelParams) -> None:
    first = _first(params, 7)[0]
    torch.manual_seed(7)
    model = build.initial_model(params, IMAGES)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    assert _differing(first, _first(params, 7)[0]) == set()


@pytest.mark.parametrize("change", ["another file", "other classes", "another normalisation", "mirrored"])
def test_another_network_is_built(params: ModelParams, tmp_path: Path, change: str) -> None:
    before = _first(params, 7)[0]
    images = tiny.spec((3, 32, 32), 4 if change == "other classes" else 5)
    if change == "another file":
        _write(tmp_path / "w.pt", 2)
        os.utime(tmp_path / "w.pt", ns=(1, 1))
    elif change == "another normalisation":
        params = params.model_copy(update={"normalize": "none"})
    elif change == "mirrored":
        params = params.model_copy(update={"flip_average": True})
    after, layers = _first(params, 7, images)[0], repr(build.initial_model(params, images))
    build._kept.clear()
    again = _first(params, 7, images)[0]
    assert layers == repr(build.initial_model(params, images))
    assert after.keys() == again.keys()
    assert _differing(after, again) == set()
    same = before.keys() == after.keys() and all(before[name].shape == after[name].shape for name in before)
    assert change == "mirrored" or not same or _differing(before, after)


def test_large_network_is_not_kept(params: ModelParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEPT", 1000)
    assert _differing(_first(params, 7)[0], _first(params, 7)[0]) == set()
    assert build._kept == {}


def test_network_that_can_not_be_copied_is_built_for_each(params: ModelParams, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build.build_model

    def with_a_result(params: ModelParams, images: ImageSpec) -> nn.Sequential:
        model = made(params, images)
        vars(model)["result"] = torch.ones(1, requires_grad=True) * 2  # no leaf: torch copies none
        return model

    monkeypatch.setattr(build, "build_model", with_a_result)
    assert _differing(_first(params, 7)[0], _first(params, 7)[0]) == set()
    assert _differing(_first(params, 7)[0], _first(params, 8)[0]) == HEAD


def test_head_of_a_kind_that_only_its_network_starts_is_each_trainings_own(
    params: ModelParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubled(nn.Module):
        """A head that is no layer of torch's."""

        def __init__(self, width: int, classes: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(classes, width))
            self.bias = nn.Parameter(torch.randn(classes))

        def forward(self, features: Tensor) -> Tensor:
            return nn.functional.linear(features, self.weight, self.bias)

    made = build.build_model

    def with_such_a_head(params: ModelParams, images: ImageSpec) -> nn.Sequential:
        model = made(params, images)
        backbone = build.backbone_of(model)
        assert backbone is not None
        backbone.network.fc = Doubled(1024, images.classes)
        backbone.head_names = ("fc",)
        return model

    monkeypatch.setattr(build, "build_model", with_such_a_head)
    assert _differing(_first(params, 7)[0], _first(params, 8)[0]) == HEAD
    assert _differing(_first(params, 7)[0], _first(params, 7)[0]) == set()
