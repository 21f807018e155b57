"""Images batch by batch: on the device where they fit, else streamed from their memory maps."""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from podium.data.dataset import Split
from podium.data.shards import parts_of
from podium.training.device import memory
from podium.training.streaming import Mapped, Share

SHARE = 0.5
"""Of the device's memory that images may take; the rest is for the network, its gradients and everybody else."""


@dataclass(frozen=True)
class Batches:
    """Images and labels for one device."""

    images: Tensor | Mapped
    """(N, C, H, W) uint8 on the device; on the CPU one split's share the memory map's pages. Mapped: too many, or
    in several files on the CPU, where one tensor would be a copy in each process."""
    labels: Tensor
    """(N,) int64, on the device."""
    digest: str = ""
    """Of images and labels, where it is known."""
    whole: "Batches | None" = None
    """Of which these are some, for what is computed once for all of them."""
    rows: Tensor | None = None
    """(N,) int64: which of `whole` they are."""
    share: Share | None = None
    """What of each batch is read where they are mapped and several ranks train; None: all of it."""

    @staticmethod
    def of(splits: Sequence[Split], device: torch.device, sharers: int = 1) -> "Batches":
        """The images of `splits`, one after the other, for `device`, where at most `sharers` processes do the same."""
        parts = _parts(splits)
        if not fits(sum(part.numel() for part in parts), device, sharers):
            return Batches.mapped(splits, device)
        if len(parts) > len(splits):
            return Batches(_in_files(parts, device), _labels(splits, device), _digest(splits))
        together = parts[0] if len(parts) == 1 else torch.cat(parts)
        return Batches(together.to(device), _labels(splits, device), _digest(splits))

    @staticmethod
    def mapped(splits: Sequence[Split], device: torch.device) -> "Batches":
        """The same images, whether they fit or not left in their memory maps: for a process that reads few of them."""
        return Batches(Mapped(_parts(splits), device), _labels(splits, device), _digest(splits))

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, rows: Tensor) -> "Batches":
        """The images of `rows` (N,) int64, copied; what is known of all of them stays in reach."""
        here = rows.to(self.labels.device)
        return Batches(self.images[here], self.labels[here], "", self, here)

    def feed(self, order: Tensor, size: int, first: int = 0) -> Generator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) and labels (B,) of each step from step `first` on, in the order of the rows `order`.

        Where the images are mapped, a thread reads the next batches meanwhile. Close the iterator to end that thread.
        """
        cuts = list(pairwise(bounds(len(order), size)[first:]))
        if isinstance(self.images, Tensor):
            for start, end in cuts:
                yield self.images[order[start:end]], self.labels[order[start:end]]
            return
        here = order.cpu()  # once: a batch's rows from the device would wait for all that is computed
        with closing(self.images.batches([here[start:end] for start, end in cuts], self.share)) as batches:
            for (start, end), images in zip(cuts, batches, strict=True):
                yield images, self.labels[order[start:end]]


class Balanced:
    """Rows drawn with replacement, each class as often as every other: the class first, then one of its rows.

    Weights for every row would be summed up in single precision, which past some million rows forgets the last ones.
    """

    def __init__(self, labels: Tensor, classes: int) -> None:
        """`labels` (N,) int64, each below `classes`; a class without a row is never drawn."""
        here = labels.cpu()
        self.rows = torch.argsort(here, stable=True)
        self.counts = torch.bincount(here, minlength=classes)
        self.starts = self.counts.cumsum(0) - self.counts
        self.present = self.counts.nonzero().flatten()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows (count,) int64."""
        which = self.present[torch.randint(len(self.present), (count,), generator=generator)]
        share = torch.rand(count, dtype=torch.float64, generator=generator)
        return self.rows[self.starts[which] + (share * self.counts[which]).long()]


def _parts(splits: Sequence[Split]) -> list[Tensor]:
    return [torch.from_numpy(part) for split in splits for part in parts_of(split.images)]


def _in_files(parts: list[Tensor], device: torch.device) -> Tensor | Mapped:
    """Images that lie in many files and fit on `device`: there they are one tensor, without one on the CPU before."""
    if device.type == "cpu":
        return Mapped(parts, device, fits=True)
    whole = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=torch.uint8, device=device)
    first = 0
    for part in parts:
        whole[first : first + len(part)] = part
        first += len(part)
    return whole


def _digest(splits: Sequence[Split]) -> str:
    return " ".join(split.digest for split in splits)


def _labels(splits: Sequence[Split], device: torch.device) -> Tensor:
    return torch.cat([torch.from_numpy(split.labels) for split in splits]).to(device)


def fits(size: int, device: torch.device, sharers: int, share: int | None = None) -> bool:
    """Whether `size` bytes of images may lie on `device` for each of `sharers` processes; of a GPU each has its own.

    `share`: bytes of its memory that this process may use, where that was planned; else what is free now.
    """
    there = memory(device) if share is None else share
    return size * (sharers if device.type == "cpu" else 1) <= SHARE * there


def bounds(count: int, size: int) -> list[int]:
    """Where the steps of an epoch of `count` images begin, and the end: `size` images each, the last what is left.

    A single last image joins the step before: batch normalisation has no variance of one value.
    """
    steps = math.ceil((count - 1) / size) if size > 1 and count > size else math.ceil(count / size)
    return [*range(0, steps * size, size), count]
