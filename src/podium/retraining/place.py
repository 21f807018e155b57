"""Where a retraining runs, and how that is said."""

import torch

from podium.config.params import RuntimeParams
from podium.config.recipe import Recipe
from podium.training import device


def own_device(runtime: RuntimeParams) -> torch.device:
    """The device of this process; where others train, they need a GPU and this one does not."""
    return device.pick("auto" if runtime.devices > 1 and runtime.device == "cuda" else runtime.device)


def described(where: torch.device, runtime: RuntimeParams) -> str:
    """What the run's tag says of where it is trained."""
    return device.describe(where) if runtime.devices == 1 else f"{runtime.devices} devices (Ray Train)"


def said(where: torch.device, recipe: Recipe, runtime: RuntimeParams) -> str:
    """Where it is trained, for the console: said plainly, and why not on CUDA."""
    if runtime.devices > 1:
        least = f"{runtime.min_devices} to " if runtime.min_devices else ""
        return f"{least}{runtime.devices} devices of {runtime.address or 'this machine'} (Ray Train)"
    if where.type == "cpu":
        threads = torch.get_num_threads()
        count = f"{threads} thread" + ("s" if threads > 1 else "")
        return f"the CPU ({count}; torch sees no CUDA device or runtime.device is cpu)"
    precision = "float32" if recipe.train.precision == "float32" else "bf16 autocast"
    return f"{device.describe(where)} ({precision}, channels_last)"
