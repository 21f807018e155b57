"""Where training runs, said plainly."""

import os
from pathlib import Path
from typing import Literal

import torch

from podium.errors import InputError

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where the kernel keeps a container's limit (cgroups, second version): a number of bytes, or `max`."""


def pick(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of `runtime.device`. Raises InputError for cuda where there is none."""
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda":
        raise InputError(
            "runtime.device: cuda was asked for and torch sees no CUDA device"
            f" (torch {torch.__version__}, built for CUDA {torch.version.cuda or 'none'});"
            " set runtime.device: auto to train on the CPU"
        )
    return torch.device("cpu")


def describe(device: torch.device) -> str:
    """The device as people call it: `cuda NVIDIA L4`, or `cpu`."""
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "cpu"


def memory(device: torch.device) -> int:
    """Bytes that this process may use: what is free on a CUDA device; on the CPU the machine's, or its container's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CONTAINER.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdecimal() else machine
