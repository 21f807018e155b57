"""Which worker trains on which device, with how much of its memory: a plan that is made and logged before any starts.

The driver never imports torch, so a process of its own looks for devices (`python -m
podium.tuning.pools.placement`), and only where the kernel shows some.
"""

import json
import os
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
PATIENCE = 120.0
"""Seconds in which the devices have to be found: torch is imported, each device is opened once."""
RESERVE = 0.1
"""Of a device's free memory that no worker gets: contexts and libraries of the workers, and fragmentation."""


@dataclass(frozen=True)
class Device:
    """A CUDA device, as torch counts them."""

    name: str
    free: int
    """Bytes of memory that are free."""


@dataclass(frozen=True)
class Place:
    """Where one worker trains."""

    device: str = "cpu"
    """cpu or cuda."""
    visible: str | None = None
    """The worker's CUDA_VISIBLE_DEVICES; None: left as it is."""
    memory: int | None = None
    """Bytes of the device's memory, on the CPU of the machine's, that it may use; None: nothing is planned."""


@cache
def find_devices() -> list[Device]:
    """The CUDA devices that torch sees in a new process. Raises PodiumError where that process fails."""
    if not any(Path(node).exists() for node in NODES):
        return []
    command = [sys.executable, "-m", "podium.tuning.pools.placement"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise PodiumError(
            f"the CUDA devices did not answer within {PATIENCE:g} s; set runtime.device: cpu to train without them"
        ) from None
    if done.returncode:
        why = " ".join(done.stderr.strip().splitlines()[-1:])
        raise PodiumError(f"torch can't open a CUDA device: {why}; set runtime.device: cpu to train without one")
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
        kind = "cuda" if find_devices() else "cpu"
    precision = {"cpu": "float32", "cuda": "bfloat16", "auto": "auto"}[kind]
    return {"device": kind, "auto_precision": precision} | versions


def plan(
    runtime: RuntimeParams, at_most: int, find: Callable[[], Sequence[Device]] = find_devices
) -> tuple[list[Place], str]:
    """The places of up to `at_most` workers, and a sentence about devices and memory; empty where there are none.

    `runtime.workers_per_device` on each device, spread evenly where `runtime.workers` or `at_most` allow fewer. On the
    CPU one per core. The memory of each does not depend on `at_most`: how a batch is divided would follow from how many
    trials are left. Raises InputError where runtime.device is cuda and there is none.
    """
    devices = [] if runtime.device == "cpu" else list(find())
    if not devices:
        if runtime.device == "cuda":
            raise InputError(
                "runtime.device: cuda was asked for and torch sees no CUDA device; set `runtime.device: auto` to train"
                " on the CPU"
            )
        planned = runtime.workers or resources.cores()
        memory = int(resources.memory() * (1 - 2 * RESERVE)) // planned
        return [Place(memory=memory)] * min(planned, at_most), ""
    planned = runtime.workers or len(devices) * runtime.workers_per_device
    used = [number % len(devices) for number in range(planned)]
    names = _names(len(devices), os.environ)
    shares = [int(device.free * (1 - RESERVE)) // max(1, used.count(n)) for n, device in enumerate(devices)]
    used = used[:at_most]
    return [Place("cuda", names[n], shares[n]) for n in used], _sentence(devices, used, shares)


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

    found = []
    for number in range(torch.cuda.device_count()):
        with torch.cuda.device(number):
            found.append(asdict(Device(torch.cuda.get_device_name(number), int(torch.cuda.mem_get_info(number)[0]))))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
