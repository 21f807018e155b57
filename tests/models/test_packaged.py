"""The weights that come with the install, into the network that they are of."""

from pathlib import Path

import pytest
import torch

import tiny
from podium.config.recipe import ModelParams, Recipe
from podium.errors import InputError
from podium.models import weight_files
from podium.models.build import backbone_of, initial_model
from podium.models.networks import ImageSpec

LITE = {"name": "timm:tf_efficientnet_lite0", "weights": "imagenet"}
LOGITS = [-0.2977938950061798, 1.2950587272644043, 0.7572425603866577, -0.31071507930755615, 2.5095996856689453]
"""The first five of efficientnet_lite_pytorch 0.1.0 for `_image`, with the input (x - 127) / 128."""
NORM, BEST = 110.23780059814453, 542


def _image(channels: int = 3) -> torch.Tensor:
    rows, columns, shift = torch.arange(64).view(1, 1, 64, 1), torch.arange(64), torch.arange(channels)
    return ((rows * 3 + columns * 2 + shift.view(1, channels, 1, 1) * 40) % 256).to(torch.uint8)


def _model(channels: int, classes: int) -> torch.nn.Module:
    spec = ImageSpec((channels, 64, 64), classes, (0.9,) * channels, (0.1,) * channels)
    return initial_model(ModelParams.model_validate(LITE), spec).eval()


def test_logits_are_those_of_the_original_network() -> None:
    with torch.inference_mode():
        logits = _model(3, 1000)(_image())[0]
    assert logits[:5].tolist() == pytest.approx(LOGITS, abs=1e-5)
    assert float(logits.norm()) == pytest.approx(NORM, abs=1e-4)
    assert int(logits.argmax()) == BEST


def test_grey_images_are_three_equal_channels_and_the_head_of_other_classes_is_new() -> None:
    grey, colour = _model(1, 7), _model(3, 7)
    head = backbone_of(colour).heads[0]  # type: ignore[union-attr]
    head.load_state_dict(backbone_of(grey).heads[0].state_dict())  # type: ignore[union-attr]
    with torch.inference_mode():
        assert torch.allclose(grey(_image(1)), colour(_image(1).expand(-1, 3, -1, -1)), atol=1e-5)


def test_input_is_normalised_as_the_weights_say_and_without_them_as_the_images() -> None:
    images = torch.tensor([127, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    normalised = _model(3, 5)[0](images)[0, 0, 0]  # type: ignore[index]
    assert normalised.tolist() == pytest.approx([0, 1], abs=1e-6)
    random = ModelParams(name="cnn", normalize="weights", weights="imagenet")  # which reads no weights
    as_data = ModelParams(name="cnn", normalize="data")
    spec = tiny.spec((3, 8, 8), mean=0.3)
    assert torch.equal(initial_model(random, spec)[0].scale, initial_model(as_data, spec)[0].scale)  # type: ignore[index]


def test_weights_of_a_library_are_normalised_as_it_says() -> None:
    for name, mean in (("torchvision:resnet18", 0.485), ("timm:resnet18", 0.485), ("timm:vit_tiny_patch16_224", 0.5)):
        found = ModelParams(name=name).network().pretrained_statistics()
        assert found is not None
        assert found[0][0] == pytest.approx(mean)


def test_other_network_is_told_how_to_get_weights() -> None:
    base = Recipe().replace({"model.name": "timm:resnet10t", "model.weights": "imagenet"})
    with pytest.raises(InputError, match=r"imagenet comes with timm:tf_efficientnet_lite0 only.*`podium weights timm:"):
        weight_files.digests(base, {})


def test_changed_file_of_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, problem in (("changed", "is not the file that it was"), ("absent", "which is not installed")):
        package = tmp_path / f"pretend_{name}"
        if name == "changed":
            (package / "models").mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "models/w.pth").write_bytes(b"other")
        monkeypatch.syspath_prepend(tmp_path)
        one = weight_files.Packaged(package.name, "models/w.pth", "0" * 64, "MIT", weight_files.IMAGENET_STATISTICS)
        with pytest.raises(InputError, match=problem):
            one.path()
