"""Files of weights, whole and broken, into a small network of torchvision's."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny
from podium.config.recipe import ModelParams, Recipe
from podium.errors import InputError
from podium.models.backbone import Backbone, load_weights
from podium.models.networks import ImageSpec
from podium.training.loop import TrainingRun

NAME = "torchvision:shufflenet_v2_x0_5"


def _backbone(classes: int = 3, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    backbone = ModelParams(name=NAME).network().build(tiny.spec((3, 32, 32), classes))
    assert isinstance(backbone, Backbone)
    return backbone


def _weights(classes: int) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in _backbone(classes, seed=1).network.state_dict().items()}


def _write(path: Path, state: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("file", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("classes", [3, 5])
def test_weights_of_a_file_are_taken_but_a_head_for_other_classes(tmp_path: Path, file: str, classes: int) -> None:
    backbone, weights = _backbone(), _weights(classes)
    load_weights(backbone, _write(tmp_path / file, weights))
    for name, value in backbone.network.state_dict().items():
        fresh = classes != 3 and name.startswith("fc.")
        assert fresh or torch.equal(value, weights[name]), name
    bound = backbone.network.fc.in_features**-0.5  # type: ignore[operator, union-attr]
    assert classes == 3 or float(backbone.heads[0].weight.detach().abs().max()) <= bound  # type: ignore[operator]


def test_file_of_torch_under_another_name_is_taken_by_what_it_holds(tmp_path: Path) -> None:
    torch.save(_weights(3), tmp_path / "w.safetensors")
    assert load_weights(_backbone(), tmp_path / "w.safetensors") == []


def test_what_training_scripts_save_beside_the_weights_is_no_danger(tmp_path: Path) -> None:
    state = {"state_dict": _weights(3), "args": argparse.Namespace(lr=0.1), "best": np.float64(0.9)}
    state |= {"single": np.float32(0.5), "count": np.int64(3)}
    (note,) = load_weights(_backbone(), _write(tmp_path / "w.pt", state))
    assert "its state_dict was taken" in note


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (bytes(5000), "it is zero bytes, as where a copy broke off"),
        (b"/annex/objects/SHA256E-s1--0", "it is a pointer of git-annex, not the file: `git annex get`"),
        (b"../.git/annex/objects/x/SHA256E-s1--0", "it is a pointer of git-annex"),
    ],
)
def test_file_that_is_not_there_as_a_whole_is_told_from_a_broken_one(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_weights(_backbone(), tmp_path / "w.pt")
    assert sentence in str(caught.value)


def test_side_classifiers_in_a_file_are_left_out(tmp_path: Path) -> None:
    load_weights(_backbone(), _write(tmp_path / "w.pt", _weights(3) | {"aux1.fc.weight": torch.zeros(2)}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"conv1.0.weight": None}, "conv1.0.weight is missing"),
        ({"more.weight": torch.zeros(1)}, "more.weight is unknown"),
        ({"conv1.0.weight": torch.zeros(1, 2)}, r"conv1.0.weight is \(1, 2\) instead of \(24, 3, 3, 3\)"),
        (
            {f"x{number}": torch.zeros(1) for number in range(5)},
            "x0 is unknown, x1 is unknown, x2 is unknown and 2 more",
        ),
    ],
    ids=["missing", "unknown", "shape", "many"],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: dict[str, Tensor | None], problem: str) -> None:
    state = {name: value for name, value in (_weights(3) | change).items() if value is not None}
    with pytest.raises(InputError, match=rf"model\.weights: .*w\.pt is not of this network: {problem}"):
        load_weights(_backbone(), _write(tmp_path / "w.pt", state))


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("w.pt", None, "is missing: put the file there"),
        ("w.pt", b"no weights", "can't be read"),
        ("w.safetensors", b"no weights", "can't be read"),
    ],
)
def test_file_that_can_not_be_read_is_refused(tmp_path: Path, file: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        load_weights(_backbone(), tmp_path / file)


@pytest.mark.parametrize("state", [[torch.zeros(1)], {"a": 1}], ids=["a list", "a number"])
def test_file_without_a_state_dict_is_refused(tmp_path: Path, state: Any) -> None:
    with pytest.raises(InputError, match="must hold a state dict, tensors by name; got"):
        load_weights(_backbone(), _write(tmp_path / "w.pt", state))


def test_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(_backbone(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="can't be read"):
        load_weights(_backbone(), tmp_path / "w.pt")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_what_a_training_script_puts_around_the_weights_is_taken_off(tmp_path: Path, key: str) -> None:
    backbone, weights = _backbone(), _weights(3)
    around = {key: {f"module.{name}": value for name, value in weights.items()}, "epoch": 7}
    load_weights(backbone, _write(tmp_path / "w.pth", around))
    assert all(torch.equal(value, weights[name]) for name, value in backbone.network.state_dict().items())


def test_pointer_of_git_lfs_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match=r"w\.pt can't be read: it is a pointer of Git LFS.*`git lfs pull`"):
        load_weights(_backbone(), tmp_path / "w.pt")


@pytest.mark.parametrize("content", ["a network", "broken"])
def test_refusal_never_recommends_to_read_it_unsafely(tmp_path: Path, content: str) -> None:
    if content == "broken":
        (tmp_path / "w.pt").write_bytes(_write(tmp_path / "whole.pt", _weights(3)).read_bytes()[:1000])
    else:
        torch.save(_backbone(), tmp_path / "w.pt")
    with pytest.raises(InputError) as caught:
        load_weights(_backbone(), tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)
    assert ("holds Python objects" in str(caught.value)) == (content == "a network")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "timm:resnet10t",
            {"drop_rat": 0.5},
            r"model\.arguments\.drop_rat: .* no such argument; did you mean drop_rate",
        ),
        ("timm:resnet10t", {"num_classes": 5}, r"arguments\.num_classes: .* gets it from the classes of the images"),
        ("timm:resnet10t", {"pretrained": True}, r"model\.arguments\.pretrained: .* gets it from model\.weights"),
        ("timm:resnet10t", {"checkpoint_path": "w.pth"}, r"arguments\.checkpoint_path: .* gets it from model\.weights"),
        ("timm:resnet10t", {"layers": 3}, r"model\.arguments: .* can't be built with \{'layers': 3\}: 'int' object"),
        (
            "timm:resnet10t",
            {"drop_rate": "x"},
            r"resnet10t with \{'drop_rate': 'x'\} can't take images .*could not convert",
        ),
        ("torchvision:resnet18", {"zero_init": True}, r"did you mean zero_init_residual\?"),
        ("torchvision:resnet18", {"weights": "x"}, r"model\.arguments\.weights: .* gets it from model\.weights"),
        ("torchvision:alexnet", {}, r"model\.name: .* can't take images of 1x8x8 .*need 32 to 224 pixels a side"),
        ("timm:crossvit_tiny_240", {}, r"it was made for 240 pixels a side: prepare\.size: 240, or take cnn"),
    ],
)
def test_argument_that_a_librarys_network_does_not_take_is_named(name: str, given: dict[str, Any], words: str) -> None:
    network = ModelParams.model_validate({"name": name, "arguments": given}).network()
    with pytest.raises(InputError, match=words):
        network.build(ImageSpec((1, 8, 8), 10, (0.0,), (1.0,)))


DISTILLED = {
    "model.name": "timm:deit_tiny_distilled_patch16_224",
    "model.arguments": {"embed_dim": 48, "depth": 1},
}


def _distilled(classes: int) -> Backbone:
    backbone = Recipe().replace(DISTILLED).model.network().build(tiny.spec((3, 32, 32), classes))
    assert isinstance(backbone, Backbone)
    return backbone


def test_every_head_of_a_distilled_network_learns_where_its_backbone_is_frozen() -> None:
    backbone = _distilled(3)
    backbone.freeze()
    learning = {name for name, value in backbone.network.named_parameters() if value.requires_grad}
    assert learning == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    recipe = Recipe().replace(DISTILLED | {"train.backbone_rate": 0.0})
    run = TrainingRun(recipe, tiny.spec((3, 32, 32), 3), 0, torch.device("cpu"))
    assert {name.rpartition("network.")[2] for name in run.state()["model"]} == learning


def test_heads_of_a_distilled_network_for_other_classes_start_afresh_and_the_others_stay(tmp_path: Path) -> None:
    of_file = _distilled(5).network.state_dict()
    (note,) = load_weights(_distilled(3), _write(tmp_path / "w.pt", of_file))
    assert "head, a head, is for other classes" in note
    assert "head_dist, a head, is for other classes" in note
    same = _distilled(5)
    some = {name: value for name, value in of_file.items() if not name.startswith("head_dist.")}
    (note,) = load_weights(same, _write(tmp_path / "w.pt", some))
    assert "head_dist, a head, is missing there and is initialised anew" in note
    assert torch.equal(same.network.head.weight, of_file["head.weight"])  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("name", "side"), [("levit_128s", 224), ("repvit_m0_9", 32), ("swiftformer_xs", 32), ("crossvit_tiny_240", 240)]
)
def test_heads_are_all_that_depends_on_the_number_of_classes(name: str, side: int) -> None:
    three, five = (ModelParams(name=f"timm:{name}").network().build(tiny.spec((3, side, side), n)) for n in (3, 5))
    assert isinstance(three, Backbone)
    assert isinstance(five, Backbone)
    shapes = {key: value.shape for key, value in five.network.named_parameters()}
    differing = {id(value) for key, value in three.network.named_parameters() if value.shape != shapes[key]}
    assert differing == {id(value) for value in three.heads.parameters()}
