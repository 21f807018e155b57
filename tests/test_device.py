from typing import Any

import pytest
import torch

from podium.errors import InputError
from podium.training.device import describe, memory, pick


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [
        ("cpu", False, "cpu"),
        ("cpu", True, "cpu"),
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cuda", True, "cuda"),
    ],
)
def test_device_is_the_one_asked_for(
    wanted: Any, present: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert pick(wanted).type == expected


def test_cuda_asked_for_and_absent_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"runtime.device: cuda was asked for .* set runtime.device: auto") as error:
        pick("cuda")
    assert error.value.exit_code == 2


def test_cpu_is_called_cpu() -> None:
    assert describe(torch.device("cpu")) == "cpu"


def test_gpu_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert describe(torch.device("cuda")) == "cuda NVIDIA L4"


def test_memory_of_a_gpu_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 8))
    assert memory(torch.device("cuda")) == 3
