import pytest
from pydantic import ValidationError

from podium.config.recipe import ModelParams
from podium.models.networks.torchvision_model import TORCHVISION


def test_names_are_those_of_the_installed_torchvision() -> None:
    import torchvision.models

    assert sorted(TORCHVISION) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", ["cnn", "resnet", "torchvision:resnet18", "torchvision:efficientnet_b0"])
def test_name_of_a_network_is_accepted(name: str) -> None:
    assert ModelParams(name=name).name == name


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("resnet18", "cnn, resnet, timm:<name>, torchvision:<name>", "; did you mean torchvision:resnet18"),
        ("torchvision:resnet81", "torchvision:<model>", "; did you mean torchvision:resnet18"),
        ("rsnet", "cnn, resnet, timm:<name>, torchvision:<name>", "; did you mean resnet"),
        ("§", "cnn, resnet, timm:<name>, torchvision:<name> or your own as module:object", " "),
    ],
)
def test_other_name_is_refused_with_the_nearest_one(name: str, choices: str, hint: str) -> None:
    with pytest.raises(ValidationError, match=f"must be {choices}.*; got '{name}'{hint}"):
        ModelParams(name=name)


@pytest.mark.parametrize("file", ["", "resnet18.safetensors", "a-b.pt", "x.pth"])
def test_name_of_a_file_of_weights_is_accepted(file: str) -> None:
    assert ModelParams(weights=file).weights == file


@pytest.mark.parametrize("file", ["../a.pt", "a/b.pt", "/a.pt", "a.bin", ".pt", "a.pkl"])
def test_other_file_of_weights_is_refused(file: str) -> None:
    with pytest.raises(ValidationError, match=r"must be imagenet, or the name of a \.pt, \.pth or \.safetensors file"):
        ModelParams(weights=file)
