import subprocess
import sys
from typing import Any

import pytest

from podium import resources
from podium.config.params import RuntimeParams
from podium.errors import InputError, PodiumError
from podium.tuning.pools import placement, processes
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


@pytest.mark.parametrize(
    ("wanted", "there", "named"), [("cuda", [], "CUDA"), ("cuda", ["mps"], "CUDA"), ("mps", ["cuda"], "Metal")]
)
def test_device_that_was_asked_for_and_is_not_there_is_an_error(wanted: str, there: list[str], named: str) -> None:
    devices = [Device("some", GIB, kind) for kind in there]
    with pytest.raises(InputError, match=f"runtime.device: {wanted} was asked for and torch sees no {named} device"):
        _plan(devices=devices, device=wanted)


def test_workers_of_a_mac_share_its_one_device() -> None:
    mac = [Device("Metal", 10 * GIB, "mps", "float32")]
    places, sentence = _plan(devices=mac, workers_per_device=3)
    assert places == [Place("mps", None, 3 * GIB)] * 3
    assert sentence == "3 workers on Metal 0 (3.0 GiB each)"
    assert [place.device for place in _plan(2, mac, device="cpu")[0]] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("devices", "wanted", "expected"),
    [
        ([], "auto", ("cpu", "float32")),
        (TWO, "auto", ("cuda", "bfloat16")),
        (TWO, "cpu", ("cpu", "float32")),
        ([Device("NVIDIA T4", GIB, "cuda", "float16")], "auto", ("cuda", "float16")),
        ([Device("NVIDIA T4", GIB, "cuda", "float16"), *TWO], "auto", ("cuda", "bfloat16+float16")),
        ([Device("Metal", GIB, "mps", "float32")], "auto", ("mps", "float32")),
    ],
)
def test_identity_of_a_study_has_the_kind_of_device_and_what_it_computes_in(
    devices: list[Device], wanted: Any, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "find_devices", lambda: devices)
    found = placement.environment(RuntimeParams(device=wanted), {"torch": "2"})
    assert found == {"device": expected[0], "auto_precision": expected[1], "torch": "2"}


def test_worker_is_forked_from_the_server_on_a_cpu_but_on_no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [processes._is_forked(Place(kind)) for kind in ("cpu", "cuda", "mps")] == [True, False, False]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert [processes._is_forked(Place(kind)) for kind in ("cpu", "mps")] == [False, False]


@pytest.mark.parametrize("fields", [{"engine": "ray"}, {"devices": 2}], ids=str)
def test_metal_device_of_several_processes_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="device: mps goes with engine: processes or inline and with devices: 1"):
        RuntimeParams(device="mps", **fields)


def test_without_device_files_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "NODES", ("/nowhere",))
    monkeypatch.setattr(placement, "METAL", ("no", "where"))
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
