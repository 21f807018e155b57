"""How fast images reach a training loop: Podium's feed beside torchvision's ImageFolder with a DataLoader.

The same images lie as PNG files in class folders and as Podium's memory-mapped arrays. Every contender gives shuffled
float batches for one epoch; they take turns, the fastest round of each counts, and ratios are of this one run. Decoding
is what Podium does once, in prepare, and ImageFolder in every epoch.

    python benchmarks/feed.py --count 10000 --side 32
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from podium.batches import Batches, Mapped
from podium.dataset import open_split, write_split

CLASSES = tuple(f"class{number}" for number in range(10))
CPU = torch.device("cpu")
Epoch = Callable[[], Iterator[Tensor]]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="podium-feed-") as folder:
        home = Path(folder)
        _write(home, arguments.count, arguments.side)
        contenders = _contenders(home, arguments.batch_size, arguments.workers)
        best = dict.fromkeys(contenders, float("inf"))
        for _ in range(arguments.rounds):
            for name, epoch in contenders.items():
                best[name] = min(best[name], _seconds(epoch, arguments.count))
    _print(best, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000, help="images")
    parser.add_argument("--side", type=int, default=32, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _write(home: Path, count: int, side: int) -> None:
    """The same `count` smooth colour images, which compress like photographs, as files and as a split."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    images = np.empty((count, 3, side, side), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    for name in CLASSES:
        (home / "files" / name).mkdir(parents=True)
    for number in range(count):
        image = Image.fromarray(coarse[number]).resize((side, side), Image.Resampling.BICUBIC)
        image.save(home / "files" / CLASSES[labels[number]] / f"{number}.png")
        images[number] = np.asarray(image).transpose(2, 0, 1)
    write_split(home / "split", "train", images, labels, CLASSES)


def _contenders(home: Path, batch_size: int, workers: int) -> dict[str, Epoch]:
    split = open_split(home / "split")
    pixels, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    folder = ImageFolder(str(home / "files"), transforms.ToTensor())

    def podium(batches: Batches) -> Epoch:
        return lambda: (images.float() for images, _ in batches.feed(torch.randperm(len(batches)), batch_size))

    def loader(count: int) -> Epoch:
        return lambda: (images for images, _ in DataLoader(folder, batch_size, shuffle=True, num_workers=count))

    return {
        "Podium, images in memory": podium(Batches(pixels, labels)),
        "Podium, streamed from the map": podium(Batches(Mapped([pixels], CPU), labels)),
        "ImageFolder, no workers": loader(0),
        f"ImageFolder, {workers} workers": loader(workers),
    }


def _seconds(epoch: Epoch, count: int) -> float:
    started = time.perf_counter()
    seen = sum(len(images) for images in epoch())
    assert seen == count
    return time.perf_counter() - started


def _print(best: dict[str, float], arguments: argparse.Namespace) -> None:
    count, side = arguments.count, arguments.side
    rival = min(seconds for name, seconds in best.items() if name.startswith("ImageFolder"))
    print(f"{count:,} images of 3x{side}x{side}, batches of {arguments.batch_size}, best of {arguments.rounds} rounds")
    for name, seconds in best.items():
        print(f"  {name:<30} {count / seconds:>12,.0f} images/s  {rival / seconds:8.1f}x the faster ImageFolder")


if __name__ == "__main__":
    main()
