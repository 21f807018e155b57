"""Where training runs, said plainly."""

from typing import Literal

import torch

from podium.errors import InputError


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
