import pytest
import torch
from torch import nn

from podium.errors import InputError
from podium.model import build_model
from podium.recipe import ModelParams

SMALL = ModelParams(width=4, hidden=8)


def _build(shape: tuple[int, int, int], params: ModelParams = SMALL, classes: int = 10) -> nn.Sequential:
    return build_model(params, shape, classes, [0.5] * shape[0], [0.25] * shape[0])


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


@pytest.mark.parametrize("shape", [(3, 4, 8), (3, 8, 4), (1, 1, 1)])
def test_model_of_too_small_images_is_refused_with_their_size(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=rf"model\.name: cnn takes images of at least 5x5.*got {shape[1]}x{shape[2]}"):
        _build(shape)


def test_first_layer_gives_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    scaled = images.double() / 255
    mean, std = (getattr(scaled, name)(dim=(0, 2, 3)).tolist() for name in ("mean", "std"))

    normal = build_model(SMALL, (3, 8, 8), 10, mean, std)[0](images)

    assert normal.mean(dim=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert normal.std(dim=(0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-5)


def test_model_of_images_with_a_constant_channel_stays_finite() -> None:
    model = build_model(SMALL, (3, 8, 8), 10, [0.0, 0.5, 1.0], [0.0, 0.25, 0.0])
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)

    assert torch.isfinite(model(images)).all()


def test_dropout_is_there_only_where_it_was_asked_for() -> None:
    assert not any(isinstance(m, nn.Dropout) for m in _build((3, 8, 8)))
    assert any(isinstance(m, nn.Dropout) for m in _build((3, 8, 8), ModelParams(width=4, hidden=8, dropout=0.5)))
