import pytest
import torch
from torch import nn

import tiny
from podium.config.recipe import ModelParams, TrainParams
from podium.errors import InputError
from podium.models.build import build_model
from podium.training.optimization import Average, build_optimizer, class_weights, set_rate


def test_rate_of_every_group_is_set_in_its_proportion() -> None:
    model = build_model(ModelParams(name="torchvision:shufflenet_v2_x0_5"), tiny.spec((3, 32, 32)))
    for name in ("sgd", "adamw", "muon"):
        optimizer = build_optimizer(model, TrainParams.model_validate({"optimizer": name, "backbone_rate": 0.1}))
        set_rate(optimizer, 0.5)
        assert {(group["scale"], group["lr"]) for group in optimizer.param_groups} == {(0.1, 0.05), (1.0, 0.5)}
        count = sum(len(group["params"]) for group in optimizer.param_groups if group["scale"] == 1.0)
        assert count == 2  # the head's weight and bias


def test_layers_of_a_network_of_timm_learn_more_slowly_the_further_they_are_from_the_head() -> None:
    model = build_model(ModelParams(name="timm:test_resnet"), tiny.spec((3, 32, 32)))
    params = TrainParams.model_validate({"backbone_rate": 0.5, "layer_decay": 0.1})
    scale = {id(p): group["scale"] for group in build_optimizer(model, params).param_groups for p in group["params"]}
    scales = {name.removeprefix("1.network."): scale[id(p)] for name, p in model.named_parameters()}
    assert scales["fc.weight"] == scales["fc.bias"] == 1.0
    assert scales["layer4.0.conv1.weight"] == scales["layer4.0.bn1.bias"] == 0.5
    assert [scales[f"layer{n}.0.conv1.weight"] for n in (3, 2, 1)] == pytest.approx([0.05, 0.005, 0.0005])
    assert scales["conv1.0.weight"] == pytest.approx(0.00005)


def test_layer_decay_of_a_network_that_does_not_say_its_layers_is_refused() -> None:
    model = build_model(ModelParams(name="torchvision:shufflenet_v2_x0_5"), tiny.spec((3, 32, 32)))
    with pytest.raises(InputError, match=r"train\.layer_decay: must be 1 where .*got 0\.9 for ShuffleNetV2.*timm"):
        build_optimizer(model, TrainParams(layer_decay=0.9))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_matrices_are_decayed_and_vectors_are_not(optimizer: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    params = TrainParams.model_validate({"optimizer": optimizer, "weight_decay": 0.5})
    decayed, free = build_optimizer(model, params).param_groups
    assert decayed["weight_decay"] == 0.5
    assert free["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3), (3, 2)]
    assert [tuple(p.shape) for p in free["params"]] == [(2,), (2,), (2,), (3,)]


def _set(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (10, 0.55), (89, 90 / 99), (890, 0.99), (10**6, 0.99)])
def test_average_keeps_the_decays_share_of_itself_and_less_at_the_start(step: int, decay: float) -> None:
    model = nn.BatchNorm2d(2)
    _set(model, 1.0)
    average = Average(model, 0.99)
    _set(model, 3.0)
    average.update(step)
    for name in ("weight", "bias", "running_mean", "running_var"):
        kept = getattr(average.model, name)
        assert kept.tolist() == pytest.approx([decay * 1.0 + (1 - decay) * 3.0] * 2), name
    assert model.weight.tolist() == [3.0, 3.0]


def test_average_follows_weights_that_were_loaded_into_the_model() -> None:
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    average = Average(model, 0.5)
    model.load_state_dict(other.state_dict())
    for step in range(100):
        average.update(step)
    torch.testing.assert_close(average.model.state_dict(), other.state_dict())


def test_average_without_torchs_private_call_is_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, other = nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(7)), nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(7))
    one, two = Average(model, 0.9), Average(model, 0.9)
    model.load_state_dict(other.state_dict())
    for step in range(5):
        one.update(step)
    monkeypatch.delattr(torch, "_foreach_lerp_")
    for step in range(5):
        two.update(step)
    for name, value in one.model.state_dict().items():
        assert torch.equal(two.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([10, 10], [1.0, 1.0]), ([30, 10], [2 / 3, 2.0]), ([50, 10, 0], [60 / 150, 60 / 30, 60 / 3])],
)
def test_weight_of_a_class_is_inverse_to_its_images(counts: list[int], expected: list[float]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert class_weights(labels, len(counts)).tolist() == pytest.approx(expected)


def test_weights_are_1_on_average_over_the_images() -> None:
    labels = torch.randint(0, 5, (200,))
    assert float(class_weights(labels, 5)[labels].mean()) == pytest.approx(1.0)


def test_weight_that_two_layers_share_is_averaged_once_a_step() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    nn.init.zeros_(first.weight)
    average = Average(nn.Sequential(first, second), 0.5)
    nn.init.ones_(first.weight)
    average.update(1000)
    shared = dict(average.model.named_parameters(remove_duplicate=False))
    assert shared["0.weight"] is shared["1.weight"]
    assert set(shared["0.weight"].flatten().tolist()) == {0.5}
