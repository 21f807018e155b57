import pytest
from podium.config.zoo import TORCHVISION, check_name, check_weights


def test_names_are_those_of_the_installed_torchvision() -> None:
    import torchvision.models

    assert sorted(TORCHVISION) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", ["cnn", "resnet", "torchvision:resnet18", "torchvision:efficientnet_b0"])
def test_name_of_a_network_is_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet18", "did you mean torchvision:resnet18"),
        ("torchvision:resnet81", "did you mean torchvision:resnet18"),
        ("rsnet", "did you mean resnet"),
        ("§", "as torchvision.models.list_models"),
    ],
)
def test_other_name_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"must be cnn, resnet or torchvision:<model>; got '{name}'.*{hint}"):
        check_name(name)


@pytest.mark.parametrize("file", ["", "resnet18.safetensors", "a-b.pt", "x.pth"])
def test_name_of_a_file_of_weights_is_accepted(file: str) -> None:
    assert check_weights(file) == file


@pytest.mark.parametrize("file", ["../a.pt", "a/b.pt", "/a.pt", "a.bin", ".pt", "a.pkl"])
def test_other_file_of_weights_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match=r"must be the name of a \.pt, \.pth or \.safetensors file"):
        check_weights(file)
