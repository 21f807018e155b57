"""Images that stay in their memory maps: read in a thread, several batches ahead, and copied to a GPU beside its work.

The thread gathers a batch into page-locked memory and starts its copy in a stream of its own; the device's computing
waits for that copy only, and the thread for nothing that is computed. See "CUDA streams" in torch's CUDA semantics.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from podium.data.shards import gather

AHEAD = {"cpu": 1, "cuda": 3, "mps": 2}
"""Batches that are read before they are asked for. On a CPU the reading takes the time of the training's own cores."""


def share_of(rank: int, world: int, count: int) -> slice:
    """The rows of a batch of `count` images that rank `rank` of `world` trains on, at least one.

    A batch of fewer images than ranks leaves some without: they get the first image, to stay in step with the others.
    """
    first, last = rank * count // world, (rank + 1) * count // world
    return slice(first, last) if last > first else slice(0, 1)


@dataclass(frozen=True)
class Share:
    """Which part of each batch one rank of several reads."""

    rank: int
    world: int

    def rows(self, count: int) -> Tensor:
        """(R,) int64, ascending: the rank's own of `count` rows, and the one before each, which mixup blends in."""
        own = torch.arange(count)[share_of(self.rank, self.world, count)]
        rows: Tensor = torch.unique(torch.cat([own, (own - 1) % count]))
        return rows


@dataclass(frozen=True)
class Sent:
    """Images on their way to a device."""

    images: Tensor
    event: Any = None
    """Recorded when they are there; None: they are there already."""

    def get(self) -> Tensor:
        """The images, for the stream that the caller computes in."""
        if self.event is not None:
            computing = torch.cuda.current_stream(self.images.device)
            computing.wait_event(self.event)
            self.images.record_stream(computing)  # the allocator must not reuse their memory while it is read
        return self.images


class Transfer:
    """Copies batches to `device`; on CUDA in a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def send(self, images: Tensor) -> Sent:
        """Start the copy of `images`, page-locked where the device is CUDA."""
        if self._stream is None:
            return Sent(self._copy(images))
        with torch.cuda.stream(self._stream):
            return Sent(self._copy(images), self._stream.record_event())

    def _copy(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True)


class Mapped:
    """Images that stay in their memory maps, one after the other: rows of them are read on demand."""

    def __init__(self, parts: Sequence[Tensor], device: torch.device, *, fits: bool = False) -> None:
        """`parts`: (n, C, H, W) uint8 each, on the CPU. `fits`: they would fit on `device`, and lie in many files."""
        self.parts = parts
        self.device = device
        self.fits = fits
        self._arrays = [part.numpy() for part in parts]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """The images of `rows` (B,) int64 on the device: (B, C, H, W) uint8, in that order."""
        wanted = torch.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows.cpu()
        return self.gather(wanted).to(self.device)

    def gather(self, wanted: Tensor) -> Tensor:
        """The images of the rows `wanted` (B,) int64, on the CPU, in page-locked memory where the device is CUDA."""
        if len(self.parts) == 1 and self.device.type == "cpu":
            return self.parts[0][wanted]
        shape = (len(wanted), *self.parts[0].shape[1:])
        found = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        if len(self.parts) == 1:
            return torch.index_select(self.parts[0], 0, wanted, out=found)
        gather(self._arrays, wanted.numpy(), found.numpy())
        return found

    def batches(self, order: Sequence[Tensor], share: Share | None = None) -> Generator[Tensor]:
        """The images of each batch of rows in `order`, each (B,) int64 on the CPU, while the next ones are read.

        With a `share` all others of a batch are black. Close the iterator to end the thread.
        """
        transfer = Transfer(self.device)

        def read(rows: Tensor) -> Sent:
            return transfer.send(self.gather(rows if share is None else rows[share.rows(len(rows))]))

        todo = iter(order)
        reader = ThreadPoolExecutor(1, "podium-feed")
        ahead: deque[Future[Sent]] = deque()
        try:
            ahead += [reader.submit(read, rows) for rows in islice(todo, AHEAD[self.device.type])]
            for rows in order:
                images = ahead.popleft().result().get()
                ahead += [reader.submit(read, following) for following in islice(todo, 1)]
                yield images if share is None else _placed(images, share.rows(len(rows)), len(rows))
        finally:
            reader.shutdown(cancel_futures=True)


def _placed(images: Tensor, rows: Tensor, count: int) -> Tensor:
    """A batch of `count` images: `images` in their `rows`, the others black."""
    whole = images.new_zeros((count, *images.shape[1:]))
    whole[rows.to(images.device)] = images
    return whole
