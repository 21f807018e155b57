import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from podium.errors import InputError
from podium.training import device
from podium.training.device import describe, memory, own_kind, pick


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [
        ("cpu", "", "cpu"),
        ("cpu", "cuda mps", "cpu"),
        ("auto", "", "cpu"),
        ("auto", "cuda", "cuda"),
        ("auto", "mps", "mps"),
        ("auto", "cuda mps", "cuda"),
        ("cuda", "cuda", "cuda"),
        ("mps", "cuda mps", "mps"),
    ],
)
def test_device_is_the_one_asked_for(wanted: Any, present: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)
    assert pick(wanted).type == expected


def test_cuda_asked_for_and_absent_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"runtime.device: cuda was asked for .* set runtime.device: auto") as error:
        pick("cuda")
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("wanted", "devices", "own"),
    [("cuda", 2, "auto"), ("cuda", 1, "cuda"), ("cpu", 2, "cpu"), ("auto", 2, "auto"), ("mps", 2, "mps")],
)
def test_process_beside_a_retraining_on_a_cluster_takes_the_device_that_it_has(
    wanted: Any, devices: int, own: str
) -> None:
    assert own_kind(wanted, devices) == own


def test_cpu_is_called_cpu() -> None:
    assert describe(torch.device("cpu")) == "cpu"


def test_gpu_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert describe(torch.device("cuda")) == "cuda NVIDIA L4"


def test_memory_of_a_gpu_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 8))
    assert memory(torch.device("cuda")) == 3


def test_metal_device_asked_for_and_absent_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"runtime.device: mps was asked for .* set runtime.device: auto"):
        pick("mps")


@pytest.fixture
def _settings() -> Iterator[None]:
    """torch's settings of CUDA kernels are as before; they can be set where there is no GPU."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    precisions = torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision
    yield
    cudnn.benchmark, cudnn.deterministic = before[:2]
    torch.use_deterministic_algorithms(before[2])
    torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision = precisions


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("tf32", [False, True])
def test_kernels_of_a_gpu_are_timed_unless_they_have_to_be_deterministic(
    deterministic: bool, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    device.set_kernels(torch.device("cuda"), tf32=tf32, deterministic=deterministic)
    cudnn: Any = torch.backends.cudnn
    assert (cudnn.benchmark, cudnn.deterministic) == (not deterministic, deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    expected = "tf32" if tf32 else "ieee"
    assert (torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision) == (expected, expected)
    assert device.is_tf32(torch.device("cuda")) == tf32


@pytest.mark.usefixtures("_settings")
def test_kernels_of_a_cpu_stay_as_they_are() -> None:
    before = torch.backends.cudnn.benchmark
    device.set_kernels(torch.device("cpu"), deterministic=True)
    assert torch.backends.cudnn.benchmark == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_same_bits_are_refused_on_mps_which_does_not_promise_them() -> None:
    with pytest.raises(InputError, match=r"train\.deterministic: must be false on MPS, .* Set `runtime\.device: cpu`"):
        device.set_kernels(torch.device("mps"), deterministic=True)
