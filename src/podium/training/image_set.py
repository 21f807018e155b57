"""The images of a split as an own training loop gets them: a torch data set, and batches on the device."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from podium.training.batches import Batches
from podium.training.first_look import first_look
from podium.training.seeds import derive


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Images and labels as a torch data set on the CPU, and as batches on the device; normalised float32."""

    def __init__(self, data: Batches, normalize: nn.Module, seed: int) -> None:
        self._data, self._normalize, self._seed = data, normalize, seed
        self.labels = data.labels.clone()
        """(N,) int64, on the device; a copy, which may be changed."""

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """One image (C, H, W) and its label."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        images: Tensor = self._normalize(self._data.images[torch.tensor([row], device=self.labels.device)])
        return images[0].cpu(), int(self.labels[row])

    def known_to(self, network: nn.Module) -> nn.Module:
        """`network` with what is fitted without labels fitted to these images."""
        return first_look(network, self._data, derive(self._seed, "look"), self._normalize)

    def batches(self, size: int, epoch: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) and labels (B,) on the device; shuffled by seed and `epoch`, in order without one."""
        if epoch is None:
            order = torch.arange(len(self))
        else:
            shuffler = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            order = torch.randperm(len(self), generator=shuffler)
        for images, labels in self._data.feed(order.to(self.labels.device), size):
            yield self._normalize(images), labels
