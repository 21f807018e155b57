"""What the peers share: the blog post's network, images as tensors, and a line for each trial that has ended."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZES = [16, 32, 64, 128]
RATES = (1e-5, 1e-1)
EPOCHS: tuple[int, ...] = tuple(map(int, os.environ.get("PEER_EPOCHS", "10 50").split()))


def arguments() -> tuple[Path, int, int]:
    """PREPARED TRIALS SEED."""
    prepared, trials, seed = sys.argv[1:4]
    return Path(prepared), int(trials), int(seed)


def network() -> nn.Sequential:
    """For 3x8x8 images; without padding or pooling the second map has 64 * 4 * 4 = 1024 values."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip


def split(prepared: Path, name: str) -> TensorDataset:
    """Images from 0 to 1, and labels."""
    images = torch.from_numpy(np.load(prepared / name / "images.npy").astype("float32") / 255)
    return TensorDataset(images, torch.from_numpy(np.load(prepared / name / "labels.npy")))


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader[tuple[torch.Tensor, ...]]
) -> None:
    """A pass over the training images, as tutorials write it."""
    criterion = nn.CrossEntropyLoss()
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()


def accuracy(model: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]) -> float:
    """Share of right answers."""
    model.eval()
    right, count = 0, 0
    with torch.no_grad():
        for images, labels in loader:
            right += int((model(images).argmax(1) == labels).sum())
            count += len(labels)
    return right / count


def say(value: float, rate: float, batch_size: int, epochs: int) -> None:
    """A trial has ended with `value`, which it had after `epochs`: the benchmark reads along."""
    settings = {"train.learning_rate": rate, "train.batch_size": batch_size, "train.epochs": epochs}
    print("ended", json.dumps([time.time(), value, settings]), flush=True)
