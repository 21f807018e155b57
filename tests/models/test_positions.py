"""Weights of transformers for images of another size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from podium.config.recipe import ModelParams
from podium.errors import InputError
from podium.models.backbone import Backbone, load_weights
from podium.models.build import backbone_of, build_model
from podium.models.networks import ImageSpec

SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 1]}
BEIT = {"embed_dim": 48, "depth": 1, "num_heads": 3}


def _network(name: str, height: int, width: int, given: dict[str, Any]) -> Backbone:
    images = ImageSpec((3, height, width), 3, (0.5,) * 3, (0.3,) * 3)
    found = backbone_of(build_model(ModelParams(name=name, arguments=given), images))
    assert found is not None
    return found


def _state(network: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.network.state_dict().items()}


def _saved(path: Path, state: dict[str, Tensor]) -> Path:
    save_file(state, path)
    return path


def test_embedding_of_places_is_resampled_and_that_of_the_class_token_kept(tmp_path: Path) -> None:
    state = _state(_network("timm:test_vit", 64, 64, {}))
    down = torch.arange(4.0).repeat_interleave(4)  # the row of each of 4x4 places
    state["pos_embed"][0, 1:] = down[:, None]
    other = _network("timm:test_vit", 128, 64, {})
    notes = load_weights(other, _saved(tmp_path / "w.safetensors", state))
    assert "pos_embed was resampled from 4x4 to 8x4 positions" in notes[0]
    found = other.network.state_dict()["pos_embed"]
    assert torch.equal(found[0, 0], state["pos_embed"][0, 0])
    grid = found[0, 1:].view(8, 4, -1)
    assert (grid.diff(dim=0) > 0).all()
    assert torch.allclose(grid, grid[:, :1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "sizes"),
    [
        ("timm:test_vit", {}, (64, 96)),
        ("timm:test_vit", {}, (160, 32)),
        ("timm:swin_tiny_patch4_window7_224", SWIN, (112, 32)),
        ("timm:beit_base_patch16_224", BEIT, (64, 96)),
        ("timm:deit_tiny_distilled_patch16_224", {"embed_dim": 48, "depth": 1}, (224, 64)),
    ],
)
def test_weights_for_one_size_serve_another_and_come_back(
    tmp_path: Path, name: str, given: dict[str, Any], sizes: tuple[int, int]
) -> None:
    first = _network(name, sizes[0], sizes[0], given)
    path = _saved(tmp_path / "w.safetensors", _state(first))
    other = _network(name, sizes[1], sizes[1], given)
    assert "resampled" in load_weights(other, path)[0]
    assert other(torch.zeros(2, 3, sizes[1], sizes[1])).isfinite().all()
    assert load_weights(_network(name, sizes[0], sizes[0], given), path) == []


@pytest.mark.parametrize(
    ("name", "given", "first", "second"),
    [
        ("timm:beit_base_patch16_224", BEIT, (64, 96), (64, 64)),
        ("timm:swin_tiny_patch4_window7_224", SWIN, (28, 56), (56, 56)),
        ("timm:swin_tiny_patch4_window7_224", SWIN, (20, 28), (56, 56)),
    ],
)
def test_relative_places_that_are_no_square_are_refused(
    tmp_path: Path, name: str, given: dict[str, Any], first: tuple[int, int], second: tuple[int, int]
) -> None:
    path = _saved(tmp_path / "w.safetensors", _state(_network(name, *first, given)))
    with pytest.raises(InputError, match="not of this network: .*relative_position_bias_table is "):
        load_weights(_network(name, *second, given), path)


def test_places_that_can_be_a_square_are_said_to_be_taken_as_one(tmp_path: Path) -> None:
    path = _saved(tmp_path / "w.safetensors", _state(_network("timm:test_vit", 64, 144, {})))
    notes = load_weights(_network("timm:test_vit", 128, 128, {}), path)
    assert "from 6x6 to 8x8 positions (its 36 positions are taken as square: the file does not say)" in notes[0]


def test_embedding_of_another_width_is_refused(tmp_path: Path) -> None:
    state = _state(_network("timm:test_vit", 64, 64, {}))
    state["pos_embed"] = state["pos_embed"][..., :32].contiguous()
    with pytest.raises(InputError, match="not of this network: pos_embed is .1, 17, 32. instead"):
        load_weights(_network("timm:test_vit", 96, 96, {}), _saved(tmp_path / "w.safetensors", state))
