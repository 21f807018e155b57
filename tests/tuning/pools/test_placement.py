import subprocess
from typing import Any

import pytest

from podium import resources
from podium.config.params import RuntimeParams
from podium.errors import InputError, PodiumError
from podium.tuning.pools import placement
from podium.tuning.pools.placement import Device, Place, find_devices, plan

GIB = 2**30
TWO = [Device("NVIDIA L4", 20 * GIB), Device("NVIDIA L4", 10 * GIB)]


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(resources, "cores", lambda: 6)


def _plan(at_most: int = 100, devices: list[Device] = TWO, **runtime: Any) -> tuple[list[Place], str]:
    return plan(RuntimeParams(**runtime), at_most, lambda: devices)


@pytest.mark.parametrize(
    ("devices", "runtime", "at_most", "expected"),
    [
        ([], {}, 100, [None] * 6),
        ([], {"workers": 2}, 100, [None] * 2),
        ([], {}, 3, [None] * 3),
        (TWO, {"device": "cpu"}, 100, [None] * 6),
        (TWO, {}, 100, ["0", "1"]),
        (TWO, {"workers_per_device": 2}, 100, ["0", "1", "0", "1"]),
        (TWO, {"workers_per_device": 3}, 3, ["0", "1", "0"]),
        (TWO, {"workers": 1}, 100, ["0"]),
        (TWO, {"workers": 5}, 100, ["0", "1", "0", "1", "0"]),
        (TWO * 4, {"workers_per_device": 1}, 100, [str(number) for number in range(8)]),
    ],
)
def test_workers_are_devices_times_workers_per_device(
    devices: list[Device], runtime: dict[str, Any], at_most: int, expected: list[str | None]
) -> None:
    places, sentence = _plan(at_most, devices, **runtime)
    assert [place.visible for place in places] == expected
    assert bool(sentence) == any(expected)


def test_memory_of_a_device_is_shared_out_equally_and_said() -> None:
    places, sentence = _plan(3)
    assert [place.memory for place in places] == [18 * GIB, 9 * GIB]
    assert sentence == "1 worker on NVIDIA L4 0 (18.0 GiB each); 1 worker on NVIDIA L4 1 (9.0 GiB each)"
    places, sentence = _plan(3, workers=3)
    assert [place.memory for place in places] == [9 * GIB, 9 * GIB, 9 * GIB]
    assert sentence.startswith("2 workers on NVIDIA L4 0 (9.0 GiB each); 1 worker")
    assert _plan(1)[1].endswith("; 1 device not used")


@pytest.mark.parametrize(
    ("given", "expected"), [("5,7", ["5", "7"]), ("GPU-aa,GPU-bb", ["GPU-aa", "GPU-bb"]), ("", ["0", "1"])]
)
def test_devices_are_those_of_the_driver(given: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert [place.visible for place in _plan()[0]] == expected


def test_device_that_was_asked_for_and_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="runtime.device: cuda was asked for and torch sees no CUDA device"):
        _plan(devices=[], device="cuda")


def test_without_device_files_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "NODES", ("/nowhere",))
    monkeypatch.setattr(subprocess, "run", lambda *a, **b: pytest.fail("torch was imported for nothing"))
    assert find_devices() == []


@pytest.mark.slow
def test_devices_are_found_by_a_process_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(placement, "NODES", ("/",))
    assert len(find_devices()) == torch.cuda.device_count()


def test_process_that_fails_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: CUDA error: busy")

    monkeypatch.setattr(placement, "NODES", ("/",))
    monkeypatch.setattr(subprocess, "run", failed)
    find_devices.cache_clear()
    with pytest.raises(PodiumError, match="CUDA error: busy; set runtime.device: cpu to train without one"):
        find_devices()
