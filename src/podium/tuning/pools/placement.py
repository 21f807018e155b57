"""Which worker trains on which device, with how much of its memory: a plan that is made and logged before any starts.

The driver never imports torch, so a process of its own looks for devices (`python -m
podium.tuning.pools.placement`), and only where the kernel shows some.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from podium import resources
from podium.config.run_sections import RuntimeParams
from podium.errors import InputError, PodiumError
from podium.text import counted

VISIBLE = "CUDA_VISIBLE_DEVICES"
NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files without which no CUDA device works: NVIDIA's driver, AMD's, and that of the Windows subsystem."""
METAL = ("darwin", "arm64")
"""System and processor of the Macs whose GPU torch can use."""
PATIENCE = 120.0
"""Seconds in which the devices have to be found: torch is imported, each device is opened once."""
RESERVE = 0.1
"""Of a device's free memory that no worker gets: contexts and libraries of the workers, and fragmentation."""


@dataclass(frozen=True)
class Device:
    """A device that is no CPU, as torch counts them."""

    name: str
    free: int
    """Bytes of memory that are free."""
    kind: str = "cuda"
    """cuda or mps."""
    precision: str = "bfloat16"
    """What `train.precision: auto` is on it."""


@dataclass(frozen=True)
class Place:
    """Where one worker trains."""

    device: str = "cpu"
    """cpu, cuda or mps."""
    visible: str | None = None
    """The worker's CUDA_VISIBLE_DEVICES; None: left as it is."""
    memory: int | None = None
    """Bytes of the device's memory, on the CPU of the machine's, that it may use; None: nothing is planned."""

    @property
    def words(self) -> str:
        """The place, as people find it."""
        return self.device if self.visible is None else f"{self.device} {self.visible}"


@cache
def find_devices() -> list[Device]:
    """The devices that torch sees in a new process. Raises PodiumError where that process fails."""
    if not any(Path(node).exists() for node in NODES) and (sys.platform, platform.machine()) != METAL:
        return []
    command = [sys.executable, "-m", "podium.tuning.pools.placement"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise PodiumError(
            f"the devices did not answer within {PATIENCE:g} s; set runtime.device: cpu to train without them"
        ) from None
    if done.returncode:
        why = " ".join(done.stderr.strip().splitlines()[-1:])
        raise PodiumError(f"torch can't open a device: {why}; set runtime.device: cpu to train without one")
    return [Device(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def environment(runtime: RuntimeParams, versions: dict[str, str]) -> dict[str, str]:
    """What decides the results of trainings besides code and data: kind of device, what `train.precision: auto` is on
    it, and the `versions` of libraries. On a Ray cluster whose nodes are not known yet the kind is `auto`.
    """
    if runtime.device == "cpu" or (runtime.engine == "ray" and runtime.trial_gpus == 0):
        kind = "cpu"
    elif runtime.engine == "ray":
        kind = "cuda" if runtime.trial_gpus or runtime.device == "cuda" else "auto"
    else:
        devices = _wanted(runtime, find_devices())
        kind = devices[0].kind if devices else "cpu"
        precision = "+".join(sorted({device.precision for device in devices})) or "float32"
        return {"device": kind, "auto_precision": precision} | versions
    # On a cluster the drivers of the nodes' GPUs say what they have: usually bfloat16.
    precision = {"cpu": "float32", "cuda": "bfloat16", "auto": "auto"}[kind]
    return {"device": kind, "auto_precision": precision} | versions


def _wanted(runtime: RuntimeParams, devices: Sequence[Device]) -> list[Device]:
    """Those of `devices` that `runtime.device` means; all are of one kind."""
    kinds = ("cuda", "mps") if runtime.device == "auto" else (runtime.device,)
    by_kind = [[device for device in devices if device.kind == kind] for kind in kinds]
    return next((found for found in by_kind if found), [])


def plan(
    runtime: RuntimeParams, at_most: int, find: Callable[[], Sequence[Device]] = find_devices
) -> tuple[list[Place], str]:
    """The places of up to `at_most` workers, and a sentence about devices and memory; empty where there are none.

    `runtime.workers_per_device` on each device, spread evenly where `runtime.workers` or `at_most` allow fewer. On the
    CPU one per core. The memory of each does not depend on `at_most`: how a batch is divided would follow from how many
    trials are left. Raises InputError where runtime.device is cuda or mps and there is none.
    """
    devices = [] if runtime.device == "cpu" else _wanted(runtime, find())
    if not devices:
        if runtime.device in ("cuda", "mps"):
            name = {"cuda": "CUDA", "mps": "Metal"}[runtime.device]
            raise InputError(
                f"runtime.device: {runtime.device} was asked for and torch sees no {name} device; set"
                " `runtime.device: auto` to train on the CPU"
            )
        planned = runtime.workers or resources.cores()
        memory = int(resources.memory() * (1 - 2 * RESERVE)) // planned
        return [Place(memory=memory)] * min(planned, at_most), ""
    planned = runtime.workers or len(devices) * runtime.workers_per_device
    used = [number % len(devices) for number in range(planned)]
    names = _names(len(devices), os.environ)
    shares = [int(device.free * (1 - RESERVE)) // max(1, used.count(n)) for n, device in enumerate(devices)]
    used = used[:at_most]
    kind = devices[0].kind
    seen = names if kind == "cuda" else [None] * len(devices)
    return [Place(kind, seen[n], shares[n]) for n in used], _sentence(devices, used, shares)


def _names(count: int, environment: Mapping[str, str]) -> list[str]:
    """What makes each device alone visible: among those that are visible to us, where not all are."""
    given = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return given[:count] if len(given) >= count else [str(number) for number in range(count)]


def _sentence(devices: Sequence[Device], used: Sequence[int], shares: Sequence[int]) -> str:
    each = [
        f"{counted(used.count(n), 'worker')} on {device.name} {n} ({shares[n] / 2**30:.1f} GiB each)"
        for n, device in enumerate(devices)
        if n in used
    ]
    idle = len(devices) - len(set(used))
    return "; ".join(each) + (f"; {counted(idle, 'device')} not used" if idle else "")


@contextmanager
def visible(place: Place) -> Iterator[None]:
    """A process that is started within the block sees the device of `place` alone."""
    before = os.environ.get(VISIBLE)
    if place.visible is None:
        yield
        return
    os.environ[VISIBLE] = place.visible
    try:
        yield
    finally:
        os.environ.pop(VISIBLE)
        os.environ.update({} if before is None else {VISIBLE: before})


def main() -> None:
    """Print the devices of this process as JSON."""
    import torch

    from podium.training.device import memory
    from podium.training.precision import auto

    found = []
    for number in range(torch.cuda.device_count()):
        where = torch.device("cuda", number)
        with torch.cuda.device(number):
            found.append(Device(torch.cuda.get_device_name(number), memory(where), "cuda", auto(where)))
    if torch.backends.mps.is_available():
        where = torch.device("mps")
        found.append(Device("Metal", memory(where), "mps", auto(where)))
    print(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main()
