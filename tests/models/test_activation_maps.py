"""Where a network looked."""

import pytest
import torch
from torch import Tensor, nn

from podium.models.activation_maps import maps
from podium.models.layers import FlipAverage, Normalize


class Brightest(nn.Module):
    """Class 1 where the left half of an image is bright: a linear layer without any space in it."""

    def forward(self, images: Tensor) -> Tensor:
        left = images[..., : images.shape[3] // 2].flatten(1).mean(1)
        return torch.stack([torch.zeros_like(left), 4 * left - 2], 1)


def _convolutional() -> list[nn.Module]:
    convolution = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        convolution.weight.fill_(0)
        convolution.weight[:, :, 1, 1] = torch.tensor([[1.0], [0.0]])
        head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    return [convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]


@pytest.mark.parametrize("whole", [nn.Sequential, FlipAverage])
@pytest.mark.parametrize(("layers", "kind"), [(_convolutional(), "activation"), ([Brightest()], "occlusion")])
def test_map_is_high_where_the_evidence_is(whole: type[nn.Sequential], layers: list[nn.Module], kind: str) -> None:
    model = whole(Normalize((0.0,), (1.0,)), *layers)
    images = torch.zeros((2, 1, 14, 14), dtype=torch.uint8)
    images[:, :, 2:6, 2:6] = 255
    heat, how = maps(model, images, torch.tensor([1, 1]))
    assert how == kind
    assert heat.shape == (2, 14, 14)
    assert float(heat.min()) >= 0
    assert float(heat.max()) <= 1
    if kind == "activation":
        assert float(heat[0, 2:6, 2:6].mean()) > 0.9
        assert float(heat[0, 8:, 8:].max()) < 0.1
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_map_of_a_frozen_network_is_there_too() -> None:
    model = nn.Sequential(Normalize((0.0,), (1.0,)), *_convolutional()).requires_grad_(False)
    images = torch.randint(0, 255, (1, 1, 8, 8), dtype=torch.uint8)
    assert maps(model, images, torch.tensor([1]))[1] == "activation"


def test_layer_with_other_dimensions_than_the_image_is_no_map() -> None:
    """Patches in the first layer, and features as the last dimension afterwards: as vision transformers have it."""
    layers = [nn.Conv2d(1, 6, 4, 4), nn.Flatten(2), nn.Linear(4, 4), nn.Flatten(), nn.ReLU(), nn.Linear(24, 2)]
    model = nn.Sequential(Normalize((0.0,), (1.0,)), *layers)
    assert maps(model, torch.zeros((1, 1, 8, 8), dtype=torch.uint8), torch.tensor([0]))[1] == "occlusion"
