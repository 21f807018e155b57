from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from podium.config.recipe import ModelParams
from podium.models.build import build_model
from podium.training.weight_roles import hidden_matrices, undecayed

SHAPE = (3, 32, 32)


def _names(model: nn.Module, ids: set[int]) -> set[str]:
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_what_does_not_decay_in_a_network_of_timm_is_what_timm_says(name: str) -> None:
    from timm.optim import param_groups_weight_decay

    model: Any = build_model(ModelParams(name=f"timm:{name}"), tiny.spec((3, 160, 160)))
    network = model[1].network
    listed = network.no_weight_decay() if hasattr(network, "no_weight_decay") else set()
    free, decayed = param_groups_weight_decay(network, 0.1, no_weight_decay_list=listed)
    assert free["weight_decay"] == 0.0
    assert undecayed(model) & {id(p) for p in network.parameters()} == {id(p) for p in free["params"]}
    assert len(decayed["params"]) > 3


class Odd(nn.Module):
    """A network that lists its parts in another order than it calls them, with all kinds of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.second = nn.Conv2d(4, 8, 3)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.norm = nn.LayerNorm([8, 28, 28])
        self.words = nn.Embedding(2, 8)
        self.mixing = nn.Parameter(torch.eye(8))
        self.third = nn.Linear(8, 8)
        self.first = nn.Conv2d(3, 4, 3)
        self.dropout = nn.Dropout(0.5)

    def no_weight_decay(self) -> list[str]:
        return ["mix*"]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.second(self.first(images.float()))) * self.scale
        vectors = self.dropout(maps.mean((2, 3))) @ self.mixing + self.words.weight[0]
        logits: Tensor = self.head(self.third(vectors))
        return logits


def test_what_does_not_decay_follows_from_the_module_and_its_own_list() -> None:
    model = Odd()
    biases = {f"{name}.bias" for name in ("head", "second", "norm", "third", "first")}
    assert _names(model, undecayed(model)) == biases | {"scale", "norm.weight", "words.weight", "mixing"}


def test_first_and_last_layer_are_those_that_are_called_first_and_last() -> None:
    model = Odd().train()
    torch.manual_seed(0)
    drawn, before = torch.get_rng_state(), {n: v.clone() for n, v in model.state_dict().items()}
    hidden = {id(p) for p in hidden_matrices(model, SHAPE)}
    assert _names(model, hidden) == {"second.weight", "third.weight"}
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("name", "side", "first", "last"),
    [
        ("cnn", 32, "1.", "10."),
        ("timm:test_vit", 160, "1.network.patch_embed.", "1.network.head."),
        ("torchvision:vit_b_16", 224, "1.network.conv_proj.", "1.network.heads.head."),
    ],
)
def test_hidden_matrices_of_a_network(name: str, side: int, first: str, last: str) -> None:
    with torch.device("meta"):
        model = build_model(ModelParams(name=name), tiny.spec((3, side, side)))
    hidden = _names(model, {id(p) for p in hidden_matrices(model, None)})
    every = {n for n, p in model.named_parameters() if p.dim() > 1 and not n.endswith("bias")}
    left = every - hidden
    ends = {n for n in left if n.startswith((first, last))}
    assert len(ends) == 2
    assert all(n.endswith(("pos_embed", "pos_embedding", "cls_token", "class_token")) for n in left - ends)
    assert len(hidden) >= 2


@pytest.mark.parametrize("shape", [SHAPE, None])
def test_each_member_has_a_first_and_a_last_layer(shape: tuple[int, int, int] | None) -> None:
    one, three = (build_model(ModelParams(name="resnet", width=4, members=n), tiny.spec(SHAPE)) for n in (1, 3))
    alone, all_three = (_names(m, {id(p) for p in hidden_matrices(m, shape)}) for m in (one, three))
    inside = {
        f"1.{member}.{int(name.split('.')[0]) - 1}.{name.partition('.')[2]}" for member in range(3) for name in alone
    }
    assert len(alone) > 4
    assert all_three == inside


def test_frozen_weights_are_no_matrices_to_learn() -> None:
    model = Odd()
    model.second.requires_grad_(False)
    assert _names(model, {id(p) for p in hidden_matrices(model, SHAPE)}) == {"third.weight"}
