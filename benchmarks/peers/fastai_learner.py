"""fastai's vision_learner on the same images and weights, as its documentation has it: fine_tune.

`python -m peers.fastai_learner DATA WEIGHTS`, in an environment that has fastai, timm and Podium's torch.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Normalize,
    PILImage,
    aug_transforms,
    vision_learner,
)
from fastai.vision.all import (
    accuracy as each_epoch,
)

from peers.scoring import accuracy

EPOCHS = 5
STATISTICS = [127 / 255] * 3, [128 / 255] * 3
"""Mean and standard deviation of the pixels that the weights were trained on."""


def main(data: Path, weights: Path) -> None:
    """Train on train, validate on val (which it needs), and count on test."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    started = time.perf_counter()
    parts = [_read(data / "prepared" / name) for name in ("train", "val")]
    images = np.concatenate([one[0] for one in parts])
    labels = np.concatenate([one[1] for one in parts])
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=sorted({int(label) for label in labels}))),
        get_x=lambda row: PILImage.create(images[row].transpose(1, 2, 0)),
        get_y=lambda row: int(labels[row]),
        splitter=IndexSplitter(range(len(parts[0][0]), len(images))),
        batch_tfms=[*aug_transforms(size=images.shape[2]), Normalize.from_stats(*STATISTICS, cuda=False)],
    )
    loaders = block.dataloaders(range(len(images)), bs=32, num_workers=0)
    learner = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, metrics=each_epoch, normalize=False)
    body = next(m for m in learner.model.modules() if hasattr(m, "conv_stem"))
    state = {k: v for k, v in torch.load(weights, weights_only=True).items() if not k.startswith("classifier")}
    body.load_state_dict(state, strict=False)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
    test, answers = _read(data / "sealed" / "test")
    learner.model.eval()
    pixels = (torch.from_numpy(test).float() - 127) / 128
    with torch.inference_mode():
        guesses = torch.cat([learner.model(one).argmax(1) for one in torch.split(pixels, 64)])
    right = (guesses == torch.from_numpy(answers)).numpy()
    print(json.dumps({"accuracy": accuracy(right, data / "sealed" / "test"), "seconds": time.perf_counter() - started}))


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / "images.npy"), np.load(folder / "labels.npy")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
