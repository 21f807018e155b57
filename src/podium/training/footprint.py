"""How much memory a step or a forward pass takes, measured on a few images before any batch is trained on.

The bytes of all tensors that are alive are followed operation by operation, as torch.distributed's memory tracker
does: the answer is the same on every device, and needs no room for the whole batch. What it does not see are the
workspaces of libraries and fragmentation: MARGIN is for these.
"""

import copy
import resource
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from podium.private_names import say
from podium.training import device
from podium.training.memory_errors import out_of_memory
from podium.training.precision import autocast

Done = TypeVar("Done")

MARGIN = 1.25
"""By how much more is taken to be needed than was measured."""
SEEN = (2, 4)
"""Images that are measured; what follows is linear in their number."""
CERTAIN = 20_000
"""A network that keeps so many numbers for each of its input's is not known; what fits even so is not measured."""
COPIES = 4
"""Copies of the whole batch in floats that augmentations make."""


def bytes_of(work: Callable[[int], object]) -> tuple[float, float]:
    """Bytes that `work` takes whatever its number of images, and for each image; `work` is called with SEEN numbers.

    torch has no public way to see them: where its private one is gone, it says so once and takes them for none.
    """
    if not _is_measurable():
        return 0.0, 0.0
    from podium.training.live_bytes import LiveBytes

    peaks = []
    with torch.random.fork_rng():
        for count in SEEN:
            with LiveBytes() as live:
                work(count)
            peaks.append(live.peak)
    each = max(0.0, (peaks[1] - peaks[0]) / (SEEN[1] - SEEN[0]))
    return max(0.0, peaks[0] - each * SEEN[0]), each


def _is_measurable() -> bool:
    """Whether torch tells of each new tensor, and of its end: three of known sizes show it."""
    try:
        from podium.training.live_bytes import LiveBytes

        with LiveBytes() as live:
            one = torch.zeros(8, dtype=torch.float32, device="cpu")
            del one
            one = torch.zeros(4, dtype=torch.float32, device="cpu")
            both = one.clone()
            del one, both
        if (live.peak, live.alive) != (32, 0):
            raise ValueError(f"of 32 bytes at once it tells {live.peak}, of none at the end {live.alive}")
    except Exception as error:
        say("torch", "the memory of a step is not measured, so no batch is divided", error)
        return False
    return True


_steps: dict[tuple[object, ...], tuple[float, float]] = {}
"""What this process has measured: a search trains the same network many times."""


def parts_of_batch(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    size: int,
    fast: torch.dtype | None,
) -> tuple[int, str]:
    """Into how many parts a batch of `size` images of `shape` (C, H, W) is divided so that a step of `model` fits into
    the memory that this process has, and a sentence where these are several.

    A power of two; parts have two images at least. An optimizer's two moments count, `model` itself is there already.
    """
    where = next(model.parameters()).device
    room = device.room(where)
    weights = sum(p.nbytes for p in model.parameters())
    whole = size * torch.Size(shape).numel() * 4  # float32
    if whole * CERTAIN + 8 * weights < room:
        return 1, ""
    # An own network's text need not say how wide it is.
    learning = tuple((p.shape, p.requires_grad) for p in model.parameters())
    key = (str(model), learning, type(loss), shape, fast, where)
    if key not in _steps:
        _steps[key] = _measured_step(model, loss, shape, fast)
    fixed, each = _steps[key]
    fixed = MARGIN * fixed + 2 * weights + COPIES * whole
    parts = 1
    while fixed + MARGIN * each * (size / parts) > room and size // (2 * parts) >= SEEN[0]:
        parts *= 2
    if parts == 1:
        return 1, ""
    return parts, (
        f"train.batch_size {size}: a step needs about {_gib(fixed + MARGIN * each * size)} of {_gib(room)} GiB, so its"
        f" gradients are added up over {parts} parts; batch normalisation sees {-(-size // parts)} images at a time"
    )


def _measured_step(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], fast: torch.dtype | None
) -> tuple[float, float]:
    probed = copy.deepcopy(model).train()
    where = next(probed.parameters()).device

    def step(count: int) -> None:
        images = torch.zeros((count, *shape), dtype=torch.uint8, device=where)
        labels = torch.zeros(count, dtype=torch.int64, device=where)
        with autocast(where, fast):
            value = loss(probed(images), labels)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        probed.zero_grad(set_to_none=True)

    return bytes_of(step)


_passes: "weakref.WeakKeyDictionary[nn.Module, tuple[float, float]]" = weakref.WeakKeyDictionary()


def images_per_pass(model: nn.Module, examples: Tensor, most: int, fast: torch.dtype | None) -> int:
    """How many images like `examples` (N, ...) a forward pass of `model` without gradients takes: `most`, or its half,
    quarter and so on, whichever fits into the memory that this process has.
    """
    where = examples.device
    room = device.room(where)
    if most * examples[0].numel() * 4 * CERTAIN < room:
        return most
    if model not in _passes:

        def forward(count: int) -> None:
            with torch.inference_mode(), autocast(where, fast):
                model(examples[:1].expand(count, *examples.shape[1:]).contiguous())

        _passes[model] = bytes_of(forward)
    fixed, each = _passes[model]
    while most > 1 and MARGIN * (fixed + each * most) > room:
        most //= 2
    return most


def halved(work: Callable[[int], Done], size: int, where: torch.device) -> Done:
    """`work(size)`, with half of the images a pass, a quarter and so on, where the memory of `where` does not suffice:
    the estimate does not see everything. What `work` has done is done again.
    """
    while True:
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2  # out of the handler: the error holds what does not fit
        device.release(where)


def forget_peak(where: torch.device) -> bool:
    """Let `peak` begin again. Returns whether that is possible here."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        return True
    with suppress(OSError):  # proc(5): 5 resets the peak of the resident set
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def peak(where: torch.device) -> int:
    """The most bytes that were in use since `forget_peak`: tensors of a CUDA device, else this process's memory."""
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g}"
