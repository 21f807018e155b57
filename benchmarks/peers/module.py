"""Lightning's module around a network of ours."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


class Module(pl.LightningModule):
    """A classifier with a given optimizer."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.label_smoothing = label_smoothing

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Cross-entropy of a batch."""
        images, labels = batch
        return F.cross_entropy(self.network(images), labels, label_smoothing=self.label_smoothing)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The given one."""
        return self.optimizer
