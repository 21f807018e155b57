from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from own import OwnCode
from podium.config.recipe import ModelParams
from podium.errors import InputError
from podium.models.build import backbone_of, build_model, model_on
from podium.models.layers import FlipAverage, ResidualBlock
from podium.models.networks import ImageSpec
from podium.registry.exported import PARITY_LIMIT, export_graph, load_graph
from podium.training.prediction import predict_probabilities

SMALL = ModelParams(width=4, hidden=8)


def _build(shape: tuple[int, int, int], params: ModelParams = SMALL, classes: int = 10) -> nn.Sequential:
    return build_model(params, tiny.spec(shape, classes, std=0.25))


def test_cnn_for_digits_is_the_classic_one_with_1024_features() -> None:
    model = _build((3, 8, 8), ModelParams())

    convolutions = [(m.in_channels, m.out_channels) for m in model if isinstance(m, nn.Conv2d)]
    linear = [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)]
    assert convolutions == [(3, 32), (32, 64)]
    assert linear == [(1024, 512), (512, 10)]


@pytest.mark.parametrize(
    "shape", [(1, 5, 5), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 96, 96), (1, 8, 40), (3, 33, 17), (3, 224, 224)]
)
def test_model_of_any_shape_turns_bytes_into_logits(shape: tuple[int, int, int]) -> None:
    model = _build(shape).eval()
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)

    logits = model(images)

    assert logits.shape == (3, 10)
    assert logits.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) < 20_000  # large images do not make a large head


SCRIPTED = """
import torch
from torch import nn


def network(num_classes):
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
    return nn.Sequential(nn.Identity(), torch.jit.script(body))
"""


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_own_network_whose_last_layer_is_scripted_is_built(own: OwnCode) -> None:
    model = _build((3, 8, 8), ModelParams(name=f"{own.write(SCRIPTED)}:network"))

    assert model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(3, 4, 8), (3, 8, 4), (1, 1, 1)])
def test_model_of_too_small_images_is_refused_with_their_size(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=rf"model\.name: cnn takes images of at least 5x5.*got {shape[1]}x{shape[2]}"):
        _build(shape)


def test_first_layer_gives_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    scaled = images.double() / 255
    mean, std = (tuple(getattr(scaled, name)(dim=(0, 2, 3)).tolist()) for name in ("mean", "std"))

    normal = build_model(SMALL, ImageSpec((3, 8, 8), 10, mean, std))[0](images)

    assert normal.mean(dim=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert normal.std(dim=(0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-5)


def test_model_of_images_with_a_constant_channel_stays_finite() -> None:
    model = build_model(SMALL, ImageSpec((3, 8, 8), 10, (0.0, 0.5, 1.0), (0.0, 0.25, 0.0)))
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)

    assert torch.isfinite(model(images)).all()


def test_dropout_is_there_only_where_it_was_asked_for() -> None:
    assert not any(isinstance(m, nn.Dropout) for m in _build((3, 8, 8)))
    assert any(isinstance(m, nn.Dropout) for m in _build((3, 8, 8), ModelParams(width=4, hidden=8, dropout=0.5)))


RESNET = ModelParams(name="resnet", width=4)


def _blocks(model: nn.Sequential) -> list[ResidualBlock]:
    return [block for block in model if isinstance(block, ResidualBlock)]


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (3, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 40), (3, 33, 17), (4, 5, 3)],
)
def test_resnet_of_any_shape_turns_bytes_into_logits(shape: tuple[int, int, int]) -> None:
    model = _build(shape, RESNET).eval()
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)

    assert model(images).shape == (3, 10)


@pytest.mark.parametrize(
    ("side", "expected"), [(8, [8, 4, 2]), (16, [16, 8, 4]), (28, [14, 7, 4]), (32, [16, 8, 4]), (64, [16, 8, 4])]
)
def test_stages_of_a_resnet_work_on_maps_of_at_most_16_pixels(side: int, expected: list[int]) -> None:
    model = _build((1, side, side), RESNET).eval()
    sides: list[int] = []
    for block in _blocks(model):
        block.register_forward_hook(lambda block, inputs, output: sides.append(output.shape[-1]))

    model(torch.zeros(1, 1, side, side, dtype=torch.uint8))

    assert sides == expected


@pytest.mark.parametrize(("depth", "width"), [(1, 4), (2, 4), (3, 6)])
def test_width_and_depth_of_a_resnet_are_its_blocks_and_channels(depth: int, width: int) -> None:
    model = _build((1, 28, 28), ModelParams(name="resnet", depth=depth, width=width))

    blocks = _blocks(model)
    assert len(blocks) == 3 * depth
    assert [block.second.out_channels for block in blocks[::depth]] == [width, 2 * width, 4 * width]


def test_residual_branches_begin_at_zero() -> None:
    model = _build((1, 8, 8), RESNET)

    assert all(not block.second_norm.weight.any() for block in _blocks(model))


def test_flip_average_is_the_mean_over_image_and_mirror_when_it_is_evaluated() -> None:
    torch.manual_seed(0)
    plain = _build((1, 28, 28), RESNET)
    both = _build((1, 28, 28), RESNET.model_copy(update={"flip_average": True}))
    both.load_state_dict(plain.state_dict())
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)

    assert isinstance(both, FlipAverage)
    mean = (plain.eval()(images) + plain(images.flip(3))) / 2
    torch.testing.assert_close(both.eval()(images), mean)
    torch.testing.assert_close(both(images), both(images.flip(3)))
    plain.load_state_dict(both.state_dict())
    torch.testing.assert_close(both.train()(images), plain.train()(images))


def test_crop_average_is_the_mean_over_image_and_enlarged_parts_when_it_is_evaluated() -> None:
    torch.manual_seed(0)
    plain = _build((1, 32, 28), RESNET)
    both = _build((1, 32, 28), RESNET.model_copy(update={"crop_average": 0.5, "flip_average": True}))
    both.load_state_dict(plain.state_dict())
    images = torch.randint(0, 256, (5, 1, 32, 28), dtype=torch.uint8)
    corners = [(0, 0), (0, 14), (16, 0), (16, 14), (8, 7)]
    parts = [images[:, :, top : top + 16, left : left + 14].float() for top, left in corners]
    views = [
        images.float(),
        *(torch.nn.functional.interpolate(part, scale_factor=2, mode="bilinear") for part in parts),
    ]

    plain.eval()
    mean = torch.stack([plain(view) for one in views for view in (one, one.flip(3))]).mean(0)
    torch.testing.assert_close(both.eval()(images), mean)
    torch.testing.assert_close(both.train()(images), plain.train()(images))


EXPORTED = {
    "cnn, flip average": (ModelParams(width=4, hidden=8, flip_average=True), (1, 28, 28)),
    "resnet, crop average": (ModelParams(name="resnet", width=2, crop_average=0.8), (3, 27, 32)),
    "resnet, members": (ModelParams(name="resnet", width=4, dropout=0.5, members=2), (1, 28, 28)),
    "resnet, descriptors, flip average": (
        ModelParams(name="resnet", width=4, descriptors=True, flip_average=True),
        (3, 24, 40),
    ),
    "resnet, large, flip average": (ModelParams(name="resnet", width=2, depth=2, flip_average=True), (3, 45, 64)),
    "torchvision, grey": (ModelParams(name="torchvision:squeezenet1_1"), (1, 32, 32)),
    "torchvision, flip average": (ModelParams(name="torchvision:shufflenet_v2_x0_5", flip_average=True), (3, 32, 32)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("params", "shape"), EXPORTED.values(), ids=EXPORTED)
def test_exported_network_answers_like_the_network_for_any_batch(
    params: ModelParams, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = _build(shape, params)
    images = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    export_graph(model, images[:2], tmp_path / "graph.pt2")
    run = load_graph(tmp_path / "graph.pt2")

    expected = predict_probabilities(model, images.numpy())
    for count in (1, 2, 5):
        assert abs(run(images[:count].numpy()) - expected[:count]).max() <= PARITY_LIMIT


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32"])
def test_torchvision_network_has_a_head_for_our_classes(name: str) -> None:
    backbone = backbone_of(_build((3, 32, 32), ModelParams(name=f"torchvision:{name}"), classes=7))

    assert backbone is not None
    assert backbone.heads[0].get_parameter("weight").shape[0] == 7
    assert not any(key.startswith("head") for key in backbone.state_dict())


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [("vgg11", (3, 28, 28), "Output size is too small"), ("vit_b_16", (3, 40, 40), "Input shape indivisible by patch")],
)
def test_torchvision_network_that_can_not_take_the_images_is_refused(
    name: str, shape: tuple[int, int, int], why: str
) -> None:
    with pytest.raises(
        InputError, match=rf"torchvision:{name} can't take images of {'x'.join(map(str, shape))} .*{why}"
    ):
        _build(shape, ModelParams(name=f"torchvision:{name}"))


FLATTENED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body, self.head = nn.Conv2d(in_channels, 4, 3), nn.Linear(144, num_classes)
        self.drop = nn.Dropout(0.5)

    def forward(self, images):
        images = torch.relu(self.body(images))
        return self.head(self.drop(FLAT))
"""


@pytest.mark.parametrize(
    ("flat", "fast"),
    [
        ("images.view(images.size(0), -1)", False),
        ("images.view(-1, 144)", False),
        ("images.view(len(images), -1) if self.training else images.flatten(1)", False),
        ("images.flatten(1)", True),
        ("images.reshape(len(images), -1)", True),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_own_network_is_trained_in_the_layout_that_it_can_be_called_in(
    own: OwnCode, flat: str, fast: bool, channels: int
) -> None:
    params = ModelParams.model_validate({"name": f"{own.write(FLATTENED.replace('FLAT', flat))}:Net"})
    spec = tiny.spec((channels, 8, 8))
    torch.manual_seed(0)
    build_model(params, spec)
    expected = torch.rand(1)
    torch.manual_seed(0)

    model = model_on(torch.device("cpu"), params, spec)

    assert torch.equal(torch.rand(1), expected)
    assert model.training
    model(torch.randint(0, 256, (5, channels, 8, 8), dtype=torch.uint8)).sum().backward()
    stride = next(one for one in model.parameters() if one.dim() == 4).stride()
    assert (stride[1] == 1 and stride[3] == channels) == fast or channels == 1
