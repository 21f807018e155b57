"""How fast images reach a training loop: Podium's feed beside torchvision's ImageFolder with a DataLoader.

The same images lie as PNG files in class folders and as Podium's memory-mapped arrays. Every contender gives shuffled
float batches for one epoch; they take turns, and a ratio is of epochs that followed each other. Decoding is what Podium
does once, in prepare, and ImageFolder in every epoch.
"""

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

from measuring import parser, publish, shown, table
from podium.data.dataset import open_split, write_split
from podium.training.batches import Batches
from podium.training.streaming import Mapped

CLASSES = tuple(f"class{number}" for number in range(10))
CPU = torch.device("cpu")
PLAIN = "ImageFolder, no workers"
Epoch = Callable[[], Iterator[Tensor]]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=10_000, help="images (default 10000)")
    options.add_argument("--side", type=int, default=32, help="pixels a side (default 32)")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--workers", type=int, default=2, help="of the DataLoader (default 2)")
    options.add_argument("--rounds", type=int, default=5, help="epochs of each contender, in turn (default 5)")
    arguments = options.parse_args()
    count, rounds = (500, 2) if arguments.quick else (arguments.count, arguments.rounds)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="podium-feed-") as folder:
        _write(Path(folder), count, arguments.side)
        contenders = _contenders(Path(folder), arguments.batch_size, arguments.workers)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, epoch in contenders.items():
                rates[name].append(count / _seconds(epoch, count))
    rivals = [max(pair) for pair in zip(rates[PLAIN], rates[f"ImageFolder, {arguments.workers} workers"], strict=True)]
    ratios = {name: [a / b for a, b in zip(found, rivals, strict=True)] for name, found in rates.items()}
    rows = [(name, shown(rates[name], digits=0), shown(ratios[name], "x", 1)) for name in rates]
    content = {"count": count, "side": arguments.side, "batch_size": arguments.batch_size, "rates": rates}
    head = (f"{count:,} images of 3x{arguments.side}x{arguments.side}", "images/s", "of the faster ImageFolder")
    publish("feed", table(head, rows), content | {"ratios": ratios}, quick=arguments.quick)


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
        PLAIN: loader(0),
        f"ImageFolder, {workers} workers": loader(workers),
    }


def _seconds(epoch: Epoch, count: int) -> float:
    started = time.perf_counter()
    seen = sum(len(images) for images in epoch())
    assert seen == count
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
