"""One way to ask a model, whatever holds the images and whichever form the model has."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import tiny
from podium.config.recipe import ModelParams
from podium.errors import InputError, RefusedError
from podium.models.build import build_model
from podium.training import prediction
from podium.training.prediction import predict_probabilities


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return build_model(ModelParams(width=4, hidden=8, dropout=0.5), tiny.spec((3, 8, 8), 4))


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8), dtype=np.uint8)


def test_predict_gives_the_softmax_of_the_logits(model: nn.Sequential, images: NDArray[np.uint8]) -> None:
    found = predict_probabilities(model, images)
    with torch.no_grad():
        expected = torch.softmax(model(torch.from_numpy(images)), 1).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_predict_model_in_training_mode_answers_in_eval_mode(model: nn.Sequential, images: NDArray[np.uint8]) -> None:
    model.train()
    first = predict_probabilities(model, images)  # dropout would make the second answer another one
    np.testing.assert_array_equal(predict_probabilities(model, images), first)
    assert not model.training


@pytest.mark.parametrize("batch_size", [1, 7, 22, 23, 24])
def test_predict_any_batch_size_gives_the_same_answers_in_order(
    model: nn.Sequential, images: NDArray[np.uint8], batch_size: int
) -> None:
    expected = predict_probabilities(model, images)
    np.testing.assert_allclose(predict_probabilities(model, images, batch_size=batch_size), expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_predict_memory_map_is_read_without_a_warning_and_left_as_it_is(
    tmp_path: Path, model: nn.Sequential, images: NDArray[np.uint8], mode: Literal["r", "c"]
) -> None:
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode=mode)
    np.testing.assert_array_equal(predict_probabilities(model, mapped), predict_probabilities(model, images))
    np.testing.assert_array_equal(mapped, images)


@pytest.mark.slow
def test_predict_exported_graph_answers_as_the_model(model: nn.Sequential, images: NDArray[np.uint8]) -> None:
    example = (torch.from_numpy(images[:2]),)
    graph = torch.export.export(model.eval(), example, dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    expected = predict_probabilities(model, images)
    np.testing.assert_allclose(predict_probabilities(graph, images, batch_size=10), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 3, 8, 8)), r"type uint8.*got \(2, 3, 8, 8\) of type float64"),
        (np.zeros((3, 8, 8), np.uint8), r"must be \(N, C, H, W\).*got \(3, 8, 8\)"),
        (np.zeros((0, 3, 8, 8), np.uint8), "at least one image"),
    ],
)
def test_predict_other_images_are_refused(model: nn.Sequential, wrong: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict_probabilities(model, wrong)


class _OnDevice:
    """`predict_probabilities` of a device that adds `off` to the first class, and the CPU's real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
        real = prediction.predict_probabilities
        self.asked: list[tuple[str, int]] = []

        def predicted(
            model: nn.Module, images: NDArray[np.uint8], *, batch_size: int = 512, device: str = "cpu", **into: Any
        ) -> NDArray[np.float32]:
            self.asked.append((device, len(images)))
            found = real(model, images, **into)
            found[:, 0] += 0.0 if device == "cpu" else off
            return found

        monkeypatch.setattr(prediction, "predict_probabilities", predicted)
        monkeypatch.setattr(prediction, "set_kernels", lambda where, deterministic: None)
        monkeypatch.setattr(prediction, "images_per_pass", lambda model, first, most, fast: most)
        monkeypatch.setattr(nn.Module, "to", lambda model, *where: model)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *where: tensor)
        monkeypatch.setattr(prediction, "describe", lambda where: "cuda NVIDIA L4")


@pytest.mark.parametrize(("count", "sample"), [(3, 3), (64, 64), (65, 65), (500, 128)])
def test_cpu_is_the_reference_of_a_device_on_a_sample(monkeypatch: pytest.MonkeyPatch, count: int, sample: int) -> None:
    images, _ = tiny.pixels(count, 0)
    model = build_model(tiny.recipe().model, tiny.IMAGES)
    expected = predict_probabilities(model, images)
    device = _OnDevice(monkeypatch, 5e-5)
    found, off = prediction.predict_on(model, images, torch.device("cuda"))
    assert device.asked == [("cuda", count), ("cpu", sample)]
    assert off == pytest.approx(5e-5, abs=1e-7)  # a float32
    np.testing.assert_allclose(found, expected, atol=6e-5)
    np.testing.assert_allclose(found[:64], expected[:64], atol=1e-6)  # what register compares with


@pytest.mark.parametrize("off", [2e-4, math.nan])
def test_device_that_predicts_otherwise_than_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    images, _ = tiny.pixels(20, 0)
    model = build_model(tiny.recipe().model, tiny.IMAGES)
    _OnDevice(monkeypatch, off)
    with pytest.raises(
        RefusedError, match=r"on cuda NVIDIA L4 a probability differs .* explains 0\.0001\. Set runtime"
    ):
        prediction.predict_on(model, images, torch.device("cuda"))
