from typing import Any

import pytest
import torch
from torch import nn

import tiny
from podium.models.build import build_model
from podium.training import device

SHAPE = tiny.IMAGES.shape


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(device, "_measured", {})
    return build_model(tiny.recipe(model__dropout=0.5).model, tiny.IMAGES)


@pytest.mark.parametrize(
    ("wanted", "half", "expected"),
    [
        ("float32", 0.001, False),
        ("auto", 0.001, False),  # on a CPU
        ("bfloat16", 0.001, True),
        ("bfloat16", 0.002, False),
        ("bfloat16", 0.003, False),
    ],
)
def test_bfloat16_on_a_cpu_is_asked_for_and_faster(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, wanted: Any, half: float, expected: bool
) -> None:
    monkeypatch.setattr(device, "_probe", lambda model, shape: (0.002, half))
    fast, note = device.choose_precision(wanted, model, SHAPE, 1000)
    assert fast is expected
    assert note.startswith("train.precision: bfloat16 is not faster") == (wanted == "bfloat16" and not expected)


def test_probe_takes_at_most_so_many_images_and_once_a_network(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def probe(model: nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
        asked.append(shape)
        return 2.0, 1.0

    monkeypatch.setattr(device, "_probe", probe)
    for batch_size in (1000, 1000, 16):
        assert device.choose_precision("bfloat16", model, SHAPE, batch_size) == (True, "")
    assert asked == [(device.PROBED, *SHAPE), (16, *SHAPE)]


def test_probe_leaves_network_and_random_numbers_as_they_were(model: nn.Module) -> None:
    drawn = torch.get_rng_state()
    before = [p.detach().clone() for p in model.parameters()]
    device.choose_precision("bfloat16", model, SHAPE, 4)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
