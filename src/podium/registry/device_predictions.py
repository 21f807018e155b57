"""A registered model that predicts on a GPU for a while: its exported graph is one of the CPU, whose answers count."""

import base64
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from podium.errors import RefusedError
from podium.registry.exported import largest_difference
from podium.registry.loading import LoadedModel
from podium.training.device import describe, release, set_kernels
from podium.training.memory_errors import out_of_memory
from podium.training.prediction import TOLERANCE

CPU = torch.device("cpu")
Run = Callable[[Tensor], Tensor]


@contextmanager
def all_on(models: Sequence[object], where: torch.device) -> Iterator[Callable[[], tuple[str, ...]]]:
    """Within the block those of `models` that are registered ones predict on `where`; see `predicting_on`.

    Gives what tells where they did, when they have predicted.
    """
    with ExitStack() as stack:
        registered = [one for one in models if isinstance(one, LoadedModel)]
        each = [stack.enter_context(predicting_on(one, where)) for one in registered]
        yield lambda: tuple(sentence for told in each if (sentence := told()))


@contextmanager
def predicting_on(model: LoadedModel, where: torch.device) -> Iterator[Callable[[], str]]:
    """Within the block `model` predicts on `where`, in float32; gives what makes a sentence about it, as far as it has
    come, empty on the CPU.

    The images that are stored in the model are predicted on both before. Where its graph holds something that can't be
    moved, or the device has no memory for it or for one image, it predicts on the CPU, and the sentence says so, also
    where that happens on the way. Where not all images fit, fewer are predicted at once. Raises RefusedError where the
    two differ by more than rounding explains.
    """
    if where.type == "cpu":
        yield lambda: ""
        return
    inside: Any = model.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    graph = inside.graph
    set_kernels(where)
    try:
        moved = inside.graph = _Fitting(model.name, graph, where)
        said, short = _compared(model, inside, graph, where), moved.short
        yield lambda: said if moved.short == short else f"{said}; on the CPU from some image on: {moved.short}"
    finally:
        inside.graph = graph


def _moved(graph: Any, where: torch.device) -> Run:
    """A copy of `graph` on `where`, from images on the CPU to probabilities on the CPU."""
    there = copy.deepcopy(graph).to(where)

    def run(images: Tensor) -> Tensor:
        found: Tensor = there(images.to(where)).cpu()
        return found

    return run


class _Fitting:
    """A graph on a device, for as many images at once as fit into its memory; where none does, `own`, the CPU's."""

    def __init__(self, name: str, own: Any, where: torch.device) -> None:
        self.name, self.own, self.where = name, own, where
        self.most = sys.maxsize
        """Images at once; it was halved until they fitted."""
        self.there: Run | None = None
        """None: the device has no room for it, or for one image."""
        self.short = ""
        """Why the CPU stands in then."""
        try:
            self.there = _moved(own, where)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.short = self._short_of_memory("the model")

    def __call__(self, images: Tensor) -> Tensor:
        """float32 (N, classes) of uint8 (N, C, H, W), both on the CPU."""
        done: list[Tensor] = []
        rest = images
        while len(rest) and self.there is not None:
            part = rest[: self.most]
            if (found := self._tried(self.there, part)) is not None:
                done.append(found)
                rest = rest[len(part) :]
                continue
            release(self.where)
            self.most = len(part) // 2
            if not self.most:
                self.there = None
                self.short = self._short_of_memory("one image")
                print(f"{self.name} predicts on the CPU from here on: {self.short}", file=sys.stderr)
        if len(rest) or not done:
            done.append(self.own(rest))
        return torch.cat(done)

    def _short_of_memory(self, what: str) -> str:
        return (
            f"runtime.device: {describe(self.where)} has no memory left for {what}; end what else uses the device, or"
            " set `runtime.device: cpu`"
        )

    def _tried(self, there: Run, part: Tensor) -> Tensor | None:
        """None where the memory did not do; outside of the `except`, what the error refers to is freed."""
        try:
            return there(part)
        except (MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                return None
            raise


def _compared(model: LoadedModel, inside: Any, graph: Any, where: torch.device) -> str:
    """How the moved graph of `inside` and `graph` differ on the stored images; `inside` is left with one that works."""
    files = [base64.b64decode(row["image"]) for row in model.stored]
    moved: _Fitting = inside.graph
    try:
        found = model.predict(files)
    except RuntimeError as error:  # a constant of the CPU in the graph
        inside.graph = graph
        if out_of_memory(error):  # of the CPU that stands in
            raise
        why = " ".join(str(error).split())[:200]
        return f"{model.name} predicts on the CPU: its exported graph can't be moved to {describe(where)} ({why})"
    inside.graph = graph
    if moved.there is None:
        return f"{model.name} predicts on the CPU: {moved.short}"
    expected = model.predict(files)
    inside.graph = moved
    off = largest_difference(found["probability"].to_numpy(), expected["probability"].to_numpy())
    limit = TOLERANCE[where.type]
    if not off <= limit:  # not `>`: a NaN must not pass
        raise RefusedError(
            f"runtime.device: on {describe(where)} a probability of {model.name} differs from the CPU's by up to"
            f" {off:.2g}; rounding of float32 explains {limit:g}. Set `runtime.device: cpu`, and see what is wrong with"
            " the device, its driver or torch"
        )
    return f"{model.name} predicts on {describe(where)}: within {off:.1g} of the CPU on {len(files)} stored images"
