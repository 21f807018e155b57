"""Fine-tuning in some fifty lines, as tutorials have it: every layer, one-cycle, flips, a moving average.

`python -m peers.fine_tune DATA WEIGHTS`: the folder data of a project; prints its accuracy and seconds as JSON.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peers.scoring import accuracy

EPOCHS, BATCH, RATE, DECAY = 12, 32, 1e-3, 0.95
SCALE, OFFSET = 128.0, 127.0
"""Of the pixels that the weights were trained on."""


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and labels (N,)."""
    return torch.from_numpy(np.load(folder / "images.npy")), torch.from_numpy(np.load(folder / "labels.npy"))


def train(network: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """The moving average of `network` after EPOCHS over the images."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs=EPOCHS, steps_per_epoch=steps)
    average = copy.deepcopy(network)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).chunk(steps):
            batch = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, images[rows].flip(3), images[rows])
            loss = F.cross_entropy(network((batch.float() - OFFSET) / SCALE), labels[rows], label_smoothing=0.1)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                mean.lerp_(value, 1 - DECAY) if mean.is_floating_point() else mean.copy_(value)
    return average.eval()


def main(data: Path, weights: Path) -> None:
    """Train on train and val, and count on test."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    started = time.perf_counter()
    parts = [read(data / "prepared" / name) for name in ("train", "val")]
    images, labels = (torch.cat(one) for one in zip(*parts, strict=True))
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.reset_classifier(int(labels.max()) + 1)
    network.classifier.reset_parameters()
    model = train(network.train(), images, labels)
    test, answers = read(data / "sealed" / "test")
    with torch.inference_mode():
        guesses = torch.cat([model((one.float() - OFFSET) / SCALE).argmax(1) for one in torch.split(test, 64)])
    right = (guesses == answers).numpy()
    print(json.dumps({"accuracy": accuracy(right, data / "sealed" / "test"), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
