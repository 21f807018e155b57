"""What a training runs on: the device, its memory, its kernels and its random numbers."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from podium import resources
from podium.errors import InputError

Kind = Literal["auto", "cpu", "cuda", "mps"]
"""`runtime.device`."""


def pick(wanted: Kind) -> torch.device:
    """The device of `runtime.device`; auto: CUDA, MPS or the CPU, whichever is there first.

    Raises InputError for cuda or mps where there is none.
    """
    for kind, is_there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if wanted in (kind, "auto") and is_there():
            return torch.device(kind)
    if wanted == "cuda":
        raise InputError(
            "runtime.device: cuda was asked for and torch sees no CUDA device"
            f" (torch {torch.__version__}, built for CUDA {torch.version.cuda or 'none'});"
            " set runtime.device: auto to train on the CPU"
        )
    if wanted == "mps":
        built = "built with" if torch.backends.mps.is_built() else "built without"
        raise InputError(
            f"runtime.device: mps was asked for and torch sees no Metal device (torch {torch.__version__},"
            f" {built} MPS); set runtime.device: auto to train on what there is"
        )
    return torch.device("cpu")


def own_kind(wanted: Kind, devices: int) -> Kind:
    """What `runtime.device` means for a process beside a retraining on `runtime.devices`: where several train, they are
    the cluster's and need the GPU that was asked for; this process takes what it has.
    """
    return "auto" if devices > 1 and wanted == "cuda" else wanted


def describe(device: torch.device) -> str:
    """The device as people call it: `cuda NVIDIA L4`, `mps` or `cpu`."""
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def set_kernels(device: torch.device, *, tf32: bool = False, deterministic: bool = False) -> None:
    """How this process computes on a CUDA `device` from now on; of other devices nothing changes.

    `tf32`: products of float32 in TensorFloat-32; else in float32 itself, also in convolutions, where torch's own
    default is TF32. `deterministic`: only kernels that give the same bits each time, and an error of torch where an
    operator has none; else cuDNN times its kernels for each shape of a batch and takes the fastest. Raises
    InputError where it is asked for on MPS.
    """
    if deterministic and device.type == "mps":
        raise InputError(
            "train.deterministic: must be false on MPS, whose kernels do not promise the same bits; got true. Set"
            " `runtime.device: cpu` for a training that does"
        )
    if device.type != "cuda":
        return
    # cuBLAS reads it when it is used first, which may be before a training that has to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    set_tf32(tf32)


def set_tf32(on: bool) -> None:
    """Whether CUDA's products of float32, convolutions included, are computed in TensorFloat-32."""
    if hasattr(torch.backends.cudnn, "conv"):  # torch 2.9: it warns of the older names
        kind = "tf32" if on else "ieee"
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.conv.fp32_precision = kind
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def is_tf32(device: torch.device) -> bool:
    """Whether products of float32 on `device` are computed in TensorFloat-32 for now."""
    if device.type != "cuda":
        return False
    if hasattr(torch.backends.cudnn, "conv"):
        return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


def wait(device: torch.device) -> None:
    """Return when everything that was started on `device` is done."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def widest(device: torch.device) -> torch.dtype:
    """The type in which sums of many numbers are kept on `device`: float64, which MPS does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def random_state(device: torch.device) -> torch.Tensor | None:
    """The state of torch's own random numbers on `device`, such as dropout's; None: those of the CPU are all."""
    return None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()


def set_random_state(device: torch.device, state: torch.Tensor | None) -> None:
    """Go back to what `random_state` returned; None: to nothing."""
    if device.type != "cpu" and state is not None:
        torch.get_device_module(device).set_rng_state(state.cpu())


def set_seed(seed: int) -> None:
    """Let the random numbers of torch, and those of numpy and Python, which own code may draw, follow from `seed`."""
    torch.manual_seed(seed)
    seed_others(seed)


def seed_others(seed: int) -> None:
    """Let the random numbers of numpy and Python follow from `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def all_numbers(device: torch.device) -> dict[str, Any]:
    """Where the random numbers of torch (on the CPU and on `device`), numpy and Python are, for a checkpoint."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "device": random_state(device),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": random.getstate(),
    }


def set_all_numbers(device: torch.device, state: dict[str, Any]) -> None:
    """Go back to what `all_numbers` returned."""
    torch.set_rng_state(state["torch"].cpu())
    set_random_state(device, state["device"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


@contextmanager
def own_numbers(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Random numbers within the block, from `seed` on where one is given, leave those of torch (of the CPU and of
    `device`), numpy and Python as they were.
    """
    before, others = random_state(device), (random.getstate(), np.random.get_state())
    try:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                set_seed(seed)
            yield
    finally:
        set_random_state(device, before)
        random.setstate(others[0])
        np.random.set_state(others[1])


def release(device: torch.device) -> None:
    """Give memory that torch holds on `device` without need back to the device."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


USABLE = 0.8
"""Of the machine's memory, or of a whole device's, that trainings may take where nothing was planned."""
_limits: dict[str, int] = {}
"""What this process may take by the plan of its pool, by the kind of device."""


def limit_memory(device: torch.device, size: int) -> None:
    """Let this process take `size` bytes of `device` at most.

    On CUDA and MPS torch's allocator holds it to that: it then fails by itself, and no neighbour does.
    """
    _limits[device.type] = size
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total_memory(device)), device)
    elif device.type == "mps":
        torch.mps.set_per_process_memory_fraction(min(1.0, size / total_memory(device)))


def total_memory(device: torch.device) -> int:
    """Bytes of a whole CUDA device, of the part of its memory that a Mac recommends for Metal, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(torch.mps.recommended_max_memory()) if device.type == "mps" else resources.memory()


def room(device: torch.device) -> int:
    """Bytes of `device` that a training of this process may still take, by plan: not what happens to be free now, for
    the same training is to be divided in the same way again.
    """
    planned = _limits.get(device.type, int(USABLE * total_memory(device)))
    if device.type == "cuda":
        return planned - int(torch.cuda.memory_allocated(device))
    return planned - (int(torch.mps.current_allocated_memory()) if device.type == "mps" else 0)


def share_of_memory(device: torch.device, share: float) -> int | None:
    """Bytes of a CUDA device's memory that are `share` of it, where that is less than one device; else None."""
    if device.type != "cuda" or not 0 < share < 1:
        return None
    return int(share * total_memory(device))


def memory(device: torch.device) -> int:
    """Bytes that this process may use: what is free on a CUDA device; on MPS what it recommends; on the CPU the
    machine's, or its container's.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return total_memory(device) - (int(torch.mps.driver_allocated_memory()) if device.type == "mps" else 0)
