"""Registered models that predict on a device: a graph of the CPU stands for one, moved nowhere."""

import base64
import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from podium.errors import RefusedError
from podium.registry import device_predictions
from podium.registry.loading import LoadedModel

GPU = torch.device("cuda")
FILES = [b"one", b"three"]


class Graph(nn.Module):
    """The probability of an image is its number, less what the device gets wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong = nn.Buffer(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images / 10 - self.wrong


class Inside:
    """The served model."""

    def __init__(self) -> None:
        self.graph: Any = Graph()

    def predict(self, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        numbers = torch.tensor([float(len(data)) for data in frame["image"]])
        return pd.DataFrame({"label": "a", "probability": self.graph(numbers).numpy()})

    def unwrap_python_model(self) -> "Inside":
        return self


@pytest.fixture
def model() -> LoadedModel:
    stored = [{"image": base64.b64encode(data).decode()} for data in FILES]
    inside: Any = Inside()
    return LoadedModel("digits/3", inside, stored, 1, ["a"])


def _device(monkeypatch: pytest.MonkeyPatch, wrong: float, error: str = "") -> None:
    """A GPU whose answers are off by `wrong`, or that does not take a graph."""

    def moved(graph: Any, where: torch.device) -> Any:
        if error:
            return lambda images: (_ for _ in ()).throw(RuntimeError(error))
        there = Graph()
        there.wrong.add_(wrong)
        return there

    monkeypatch.setattr(device_predictions, "_moved", moved)
    monkeypatch.setattr(device_predictions, "set_kernels", lambda where: None)
    monkeypatch.setattr(device_predictions, "describe", lambda where: "cuda NVIDIA L4")


def test_model_predicts_on_the_device_within_the_block_and_on_the_cpu_after_it(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _device(monkeypatch, 5e-5)
    on_cpu = model.predict(FILES)["probability"]
    with device_predictions.all_on([model, SimpleNamespace()], GPU) as told:
        assert (on_cpu - model.predict(FILES)["probability"]).tolist() == pytest.approx([5e-5] * 2, rel=0.1)
    assert told() == ("digits/3 predicts on cuda NVIDIA L4: within 5e-05 of the CPU on 2 stored images",)
    assert model.predict(FILES)["probability"].tolist() == on_cpu.tolist()


@pytest.mark.parametrize("wrong", [2e-4, math.nan])
def test_device_that_differs_from_the_cpu_is_refused(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    _device(monkeypatch, wrong)
    with (
        pytest.raises(RefusedError, match=r"a probability of digits/3 differs .* `runtime\.device: cpu`"),
        device_predictions.predicting_on(model, GPU),
    ):
        pytest.fail("it is refused before anything is judged")
    assert isinstance(model.model.unwrap_python_model().graph, Graph)  # type: ignore[no-untyped-call]


def test_graph_that_cannot_be_moved_predicts_on_the_cpu_and_says_so(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _device(monkeypatch, 0.0, "Expected all tensors to be on the same device")
    with device_predictions.predicting_on(model, GPU) as told:
        assert model.predict(FILES)["probability"].tolist() == pytest.approx([0.3, 0.5])
    assert told().startswith("digits/3 predicts on the CPU: its exported graph can't be moved to cuda NVIDIA L4 (Exp")


def test_moved_graph_takes_and_gives_tensors_of_the_cpu() -> None:
    graph = Graph()
    run = device_predictions._moved(graph, torch.device("cpu"))
    graph.wrong.add_(1)  # it is a copy
    assert run(torch.tensor([1.0])).tolist() == pytest.approx([0.1])


def _small(monkeypatch: pytest.MonkeyPatch, room: int, error: RuntimeError) -> list[int]:
    """A device with room for so many images; gives how many were tried, each time."""
    _device(monkeypatch, 0.0)
    sizes: list[int] = []

    def moved(graph: Any, where: torch.device) -> Any:
        if not room:
            raise error

        def run(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > room:
                raise error
            found: torch.Tensor = graph(images)
            return found

        return run

    monkeypatch.setattr(device_predictions, "_moved", moved)
    monkeypatch.setattr(device_predictions, "release", lambda where: None)
    return sizes


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("MPS backend out of memory (used: 9 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps", "cublas"])
def test_device_with_little_memory_predicts_fewer_images_at_once(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    sizes = _small(monkeypatch, 3, error)
    files = [b"x" * n for n in range(1, 10)]
    expected = model.predict(files)["probability"].tolist()
    with device_predictions.predicting_on(model, GPU) as told:
        assert model.predict(files)["probability"].tolist() == pytest.approx(expected)
        assert model.predict(files[:4])["probability"].tolist() == pytest.approx(expected[:4])
    assert told().startswith("digits/3 predicts on cuda NVIDIA L4: within")
    assert sizes == [2, 9, 4, 2, 2, 2, 2, 1, 2, 2]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps", "cublas"])
def test_device_without_memory_for_the_model_leaves_it_to_the_cpu_and_says_so(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    _small(monkeypatch, 0, error)
    with device_predictions.predicting_on(model, GPU) as told:
        assert model.predict(FILES)["probability"].tolist() == pytest.approx([0.3, 0.5])
    assert told() == (
        "digits/3 predicts on the CPU: runtime.device: cuda NVIDIA L4 has no memory left for the model; end what"
        " else uses the device, or set `runtime.device: cpu`"
    )


def test_device_whose_memory_is_taken_meanwhile_leaves_the_rest_to_the_cpu(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [True]
    _device(monkeypatch, 0.0)

    def moved(graph: Any, where: torch.device) -> Any:
        def run(images: torch.Tensor) -> torch.Tensor:
            if not free[0]:
                raise torch.OutOfMemoryError("CUDA out of memory")
            found: torch.Tensor = graph(images)
            return found

        return run

    monkeypatch.setattr(device_predictions, "_moved", moved)
    monkeypatch.setattr(device_predictions, "release", lambda where: None)
    with device_predictions.all_on([model], GPU) as told:
        (before,) = told()
        free[0] = False
        assert model.predict(FILES)["probability"].tolist() == pytest.approx([0.3, 0.5])
    short = "runtime.device: cuda NVIDIA L4 has no memory left for one image"
    assert f"digits/3 predicts on the CPU from here on: {short}" in capsys.readouterr().err
    assert before.startswith("digits/3 predicts on cuda NVIDIA L4: within")
    (after,) = told()
    assert after.startswith(f"{before}; on the CPU from some image on: {short}")
