"""In which arithmetic a training computes: what `train.precision` means on each device, and float16's scaled loss.

| device | auto | can also be asked for |
|---|---|---|
| CPU | float32 | bfloat16, float16: where a short probe is faster; not with search.deterministic |
| CUDA that has bfloat16 (compute capability 8.0 and above, ROCm) | bfloat16 | float32, float16; tf32 not on ROCm |
| CUDA with tensor cores for float16 alone (7.0 to 7.5) | float16 | float32 |
| an older CUDA device | float32 | float16 |
| MPS | float32 | bfloat16, from macOS 14 on |

Emulated bfloat16 is slower than float32, so a device counts as having it where it is native.
"""

import copy
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.errors import InputError
from podium.training.epochs import Epoch

Wanted = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
"""`train.precision`."""
HALF: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TENSOR_CORES = (7, 0)
"""Compute capability from which on float16 is faster than float32 (NVIDIA Volta)."""
TF32 = (8, 0)
"""Compute capability from which on there is TensorFloat-32 (NVIDIA Ampere)."""
MACOS = 14
"""The first macOS whose Metal has bfloat16."""

PROBED = 64
"""Images a step of the probe at most: it takes a fraction of a second."""
ROUNDS = 3
"""Steps timed of each kind, in turns; the fastest counts."""

_measured: dict[tuple[str, tuple[int, ...], int, str], tuple[float, float]] = {}
"""What this process has probed: a search trains the same network many times."""


def autocast(where: torch.device, fast: torch.dtype | None) -> AbstractContextManager[Any]:
    """torch.autocast on `where` in the 16-bit type `fast`; None: everything in float32."""
    return nullcontext() if fast is None else torch.autocast(where.type, fast)


def auto(where: torch.device) -> str:
    """What `train.precision: auto` is on `where`: float32, bfloat16 or float16."""
    if where.type != "cuda":
        return "float32"
    if has_bfloat16(where):
        return "bfloat16"
    return "float16" if torch.cuda.get_device_capability(where) >= TENSOR_CORES else "float32"


def has_bfloat16(where: torch.device) -> bool:
    """Whether `where` computes in bfloat16 by itself, not by emulation."""
    if where.type == "cuda":
        with torch.cuda.device(where):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return where.type == "cpu" or bool(torch.backends.mps.is_macos_or_newer(MACOS, 0))


def check(wanted: Wanted, where: torch.device) -> None:
    """Raise InputError where `where` does not have the `train.precision` that is `wanted`."""
    why = missing(wanted, where)
    if why:
        raise InputError(
            f"train.precision: must be one that the device has; got {wanted}, and {why}. auto takes {auto(where)} here"
        )


def missing(wanted: str, where: torch.device) -> str:
    """What `where` lacks for `wanted`; empty: nothing."""
    if wanted == "bfloat16" and not has_bfloat16(where):
        return (
            f"MPS has bfloat16 from macOS {MACOS} on"
            if where.type == "mps"
            else f"{torch.cuda.get_device_name(where)} only emulates bfloat16, slower than float32"
        )
    if wanted == "float16" and where.type == "mps":
        return "float16 needs a scaled loss, which Podium does not use on MPS"
    if wanted == "tf32" and (where.type != "cuda" or torch.version.hip is not None):
        return f"tf32 is of NVIDIA's CUDA devices; this is {where.type if torch.version.hip is None else 'ROCm'}"
    if wanted == "tf32" and (found := torch.cuda.get_device_capability(where)) < TF32:
        return f"tf32 needs compute capability 8.0; {torch.cuda.get_device_name(where)} has {found[0]}.{found[1]}"
    return ""


def missing_type(fast: torch.dtype | None, where: torch.device) -> str:
    """What `where` lacks for a training in the type `fast`, None for float32; empty: nothing."""
    name = next((name for name, kind in HALF.items() if kind is fast), None)
    return f"it was trained in {name}, and {why}" if name and (why := missing(name, where)) else ""


def choose_precision(
    wanted: Wanted, model: nn.Module, shape: tuple[int, int, int], batch_size: int
) -> tuple[torch.dtype | None, str]:
    """The 16-bit type in which to train `model` on images of `shape` (C, H, W), None for float32, and a sentence where
    that is not what was wanted and this was not logged before. Random numbers are left as they were.

    Raises InputError where the device does not have what is wanted.
    """
    where = next(model.parameters()).device
    check(wanted, where)
    name = auto(where) if wanted == "auto" else wanted
    if name not in HALF or where.type != "cpu":
        return HALF.get(name), ""
    probed = (min(batch_size, PROBED), *shape)
    key = (str(model), probed, torch.get_num_threads(), name)
    known = key in _measured
    if not known:
        _measured[key] = _probe(model, probed, HALF[name])
    single, half = _measured[key]
    if half < single or known:  # logged once, not for every trial
        return (HALF[name] if half < single else None), ""
    return None, (
        f"train.precision: {name} is not faster here ({half * 1000:.1f} ms a step of {probed[0]} images,"
        f" float32 {single * 1000:.1f} ms): float32 is used"
    )


def _probe(model: nn.Module, shape: tuple[int, int, int, int], half: torch.dtype) -> tuple[float, float]:
    """CPU seconds of a step of `shape` in float32 and in `half`."""
    model = copy.deepcopy(model)
    best = [float("inf"), float("inf")]
    with torch.random.fork_rng(devices=[]):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        labels = torch.zeros(len(images), dtype=torch.int64)
        for turn in range(2 * (ROUNDS + 1)):
            started = time.process_time()
            with autocast(torch.device("cpu"), half if turn % 2 else None):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if turn >= 2:  # the first of each kind pays for what no later one pays for
                best[turn % 2] = min(best[turn % 2], time.process_time() - started)
    return best[0], best[1]


class LossScale:
    """Steps of an optimizer on gradients of a loss that is scaled where these are float16, whose small values are 0.

    P. Micikevicius et al., Mixed Precision Training, ICLR 2018, as torch.amp.GradScaler has it: a step whose gradients
    overflow is skipped, and the scale is halved. In other types the loss is not scaled and no step is skipped.
    """

    def __init__(self, where: torch.device, fast: torch.dtype | None, model: nn.Module) -> None:
        """`fast`: what `model` computes in."""
        self._scaler = torch.amp.GradScaler(where.type) if fast is torch.float16 else None
        self._model = model
        self.skipped = 0
        """Steps of the whole run that were skipped."""

    def backward(self, loss: Tensor) -> None:
        """The gradients of `loss`, times the scale, are added to those of the weights."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Any) -> None:
        """A step of `optimizer`, unless a gradient is not finite."""
        if self._scaler is None:
            optimizer.step()
            return
        step: Any = _Step(self._model, optimizer)
        self._scaler.step(step)
        self._scaler.update()
        self.skipped += not step.was_taken

    def since(self, history: Sequence[Epoch]) -> Epoch:
        """`skipped_steps` of the epoch after those of `history`; nothing where the loss is not scaled."""
        if self._scaler is None:
            return {}
        return {"skipped_steps": float(self.skipped) - sum(epoch["skipped_steps"] for epoch in history)}

    def state(self) -> dict[str, Any]:
        """The scale, when it grows next, and what was skipped."""
        return {"scaler": self._scaler.state_dict() if self._scaler else {}, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned, of a run in the same type."""
        self.skipped = state["skipped"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


class _Step:
    """What the scaler takes for an optimizer: all gradients of a network at once, whatever optimizers step on them."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.param_groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
        self.was_taken = False
        self._optimizer = optimizer

    def step(self) -> None:
        """The optimizer's step."""
        self._optimizer.step()
        self.was_taken = True
