"""Heads on cached features beside the same heads through their frozen backbone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from podium.config.recipe import Recipe
from podium.models.build import backbone_of, initial_model
from podium.models.networks import ImageSpec
from podium.training import features
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.ranks import SharedRun
from podium.training.trained import digest_of

CPU = torch.device("cpu")
SHAPE = (3, 64, 64)
IMAGES = ImageSpec(SHAPE, 3, (0.5,) * 3, (0.3,) * 3)
LITE = {
    "model.name": "timm:tf_efficientnet_lite0",
    "model.weights": "imagenet",
    "train.backbone_rate": 0.0,
    "train.epochs": 3,
    "train.batch_size": 16,
}
DISTILLED = {
    "model__name": "timm:deit_tiny_distilled_patch16_224",
    "model__arguments": {"embed_dim": 48, "depth": 1},
    "model__weights": "",
}


class ThroughTheBackbone(TrainingRun):
    ON_FEATURES = False


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features.forget()


def _data(count: int, digest: str = "") -> Batches:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=draw)
    return Batches(images, torch.arange(count) % 3, digest)


def _recipe(**changes: Any) -> Recipe:
    return Recipe().replace(LITE | {name.replace("__", "."): value for name, value in changes.items()})


def _trained(kind: type[TrainingRun], recipe: Recipe, digest: str = "", count: int = 48) -> TrainingRun:
    run = kind(recipe, IMAGES, 0, CPU)
    run.train(_data(count, digest), _data(16, digest and f"{digest} val"))
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train__ema": 0.9, "model__flip_average": True},
        {"model__name": "torchvision:resnet18", "model__weights": ""},
        {**DISTILLED, "train__ema": 0.9, "model__flip_average": True},
        {"model__name": "timm:dla46_c", "model__weights": ""},
    ],
    ids=["plain", "average and mirror", "torchvision", "two heads, average and mirror", "a convolution as head"],
)
def test_head_on_features_is_bit_for_bit_that_through_the_backbone(changes: dict[str, Any]) -> None:
    cached, whole = (_trained(kind, _recipe(**changes)) for kind in (TrainingRun, ThroughTheBackbone))
    assert features.held() == 2
    assert digest_of(cached.result.state_dict()) == digest_of(whole.result.state_dict())
    assert [epoch["val_loss"] for epoch in cached.history] == [epoch["val_loss"] for epoch in whole.history]


@pytest.mark.slow
def test_small_last_batch_changes_no_more_than_rounding() -> None:
    cached, whole = (_trained(kind, _recipe(), count=41) for kind in (TrainingRun, ThroughTheBackbone))
    assert [e["val_loss"] for e in cached.history] == pytest.approx([e["val_loss"] for e in whole.history], abs=1e-3)


@pytest.mark.parametrize(("count", "forwards"), [(5, [16]), (31, [31]), (32, [32]), (41, [41]), (70, [32, 38])])
def test_features_of_few_images_are_those_in_a_larger_set_without_images_passed_twice(
    count: int, forwards: list[int]
) -> None:
    run = TrainingRun(_recipe(), IMAGES, 0, CPU)
    data = _data(80)
    network, sizes = backbone_of(run.model), []
    assert network is not None
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    some = features.of_images(run.model, Batches(data.images[:count], data.labels[:count]), None, mirrored=False)
    assert sizes[1:] == forwards  # the first one tells whether the network suits
    every = features.of_images(run.model, data, None, mirrored=False)
    assert some is not None
    assert every is not None
    assert torch.equal(some.images[torch.arange(count)], every.images[torch.arange(count)])


@pytest.mark.slow
def test_features_are_computed_once_and_a_damaged_file_again() -> None:
    first = _trained(TrainingRun, _recipe(), "images")
    files = sorted(Path("mlruns/features").glob("*.safetensors"))
    assert len(files) == 2
    before = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(before[path][:-8] + b"damaged!")
    again = _trained(TrainingRun, _recipe(train__learning_rate=0.001), "images")  # from memory
    assert again.history[-1]["val_loss"] != first.history[-1]["val_loss"]
    assert all(path.read_bytes() != before[path] for path in files)
    features.forget()
    third = _trained(TrainingRun, _recipe(), "images")
    assert digest_of(third.result.state_dict()) == digest_of(first.result.state_dict())
    for path in files:  # the order of what the header holds is not fixed
        whole = load(before[path])
        assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(path).items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"train__flip": True}, {"train__backbone_rate": 0.1}, {"model__name": "cnn", "train__epochs": 1}]
)
def test_nothing_is_cached_where_pixels_or_the_backbone_change(changes: dict[str, Any]) -> None:
    _trained(TrainingRun, _recipe(**changes), "images")
    assert not Path("mlruns").exists()


@pytest.mark.slow
def test_network_with_more_after_its_head_is_trained_through_the_backbone() -> None:
    name = "torchvision:squeezenet1_1"  # its last convolution is followed by a pooling
    run = _trained(TrainingRun, _recipe(model__name=name, model__weights="", train__epochs=1), "images")
    assert len(run.history) == 1
    assert not Path("mlruns").exists()


def test_a_rank_trains_through_the_backbone() -> None:
    assert TrainingRun.ON_FEATURES
    assert not SharedRun.ON_FEATURES


def _features_of_vit(pooling: str, digest: str, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    changes = {"model__name": "timm:test_vit", "model__weights": "", "model__arguments": {"global_pool": pooling}}
    network = initial_model(_recipe(**changes).model, IMAGES, frozen=True)
    found = features.of_images(network, _data(4, digest), None, mirrored=False)
    assert found is not None
    return found.images[torch.arange(4)]


def test_networks_that_differ_in_an_argument_alone_have_their_own_features() -> None:
    _features_of_vit("avg", "images")
    assert torch.equal(_features_of_vit("max", "images"), _features_of_vit("max", ""))


def test_what_a_killed_writer_left_goes_with_the_next_writing() -> None:
    _features_of_vit("avg", "images")
    (whole,) = Path("mlruns/features").glob("*.safetensors")
    left = whole.with_suffix(".4711.tmp")
    left.write_bytes(whole.read_bytes()[:100])
    others = left.with_name(f"other{left.name}")
    others.write_bytes(b"of a writer that may be at work")
    whole.unlink()
    features.forget()
    _features_of_vit("avg", "images")
    assert whole.is_file()
    assert not left.exists()
    assert others.exists()


def test_file_of_other_features_under_the_name_is_not_taken() -> None:
    _features_of_vit("avg", "images")
    (other,) = Path("mlruns/features").glob("*.safetensors")
    _features_of_vit("avg", "images", seed=1)
    (own,) = set(Path("mlruns/features").glob("*.safetensors")) - {other}
    own.write_bytes(other.read_bytes())
    features.forget()
    assert torch.equal(_features_of_vit("avg", "images", seed=1), _features_of_vit("avg", "", seed=1))
