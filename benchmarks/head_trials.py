"""Trials of a head on cached features: beside the same trials through the backbone, and the features beside bare timm.

Everything in one process on one thread, in turns, by CPU seconds: only ratios mean something on a busy machine.

- features: from the files to features, decoding included. Podium decodes into a new store and computes what a frozen
  trial uses; the bare loop opens each file with Pillow, pads it to a square and calls timm's network, 32 at a time.
  What a process pays once, imports above all, is paid before: both need torch and timm.
- head trials: the settings of `preset photos`, beside its first epochs through the backbone (the same numbers).

    python benchmarks/head_trials.py --work FOLDER   (a folder of photo_accuracy.py that has the set prepared)
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from measuring import parser, publish, shown, spread, table
from photo_accuracy import SALTS, network, prepared
from photo_sets import CACHE

TRIALS = 100
BATCH = 32
SIDE = 224


def main() -> None:
    """Measure, print and write the table."""
    made = parser(__doc__)
    made.add_argument("--work", type=Path, default=CACHE / "work", help="folder of photo_accuracy.py")
    made.add_argument("--rounds", type=int, default=3)
    options = made.parse_args()
    rounds = 1 if options.quick else options.rounds
    folder = prepared(options.work, "photos", SALTS[0], "photos").folder
    import torch

    torch.set_num_threads(1)
    before = Path.cwd()
    os.chdir(folder)
    try:
        times = features(rounds)
        head, through, epochs = trials(rounds)
    finally:
        os.chdir(before)
    ratios = [one / other for one, other in zip(times["podium"], times["timm"], strict=True)]
    whole = [epochs * one for one in through]
    cheaper = [one / other for one, other in zip(whole, head, strict=True)]
    rows = [
        ["features of the training images: Podium", shown(times["podium"], " s")],
        ["features of the training images: a bare loop of timm", shown(times["timm"], " s")],
        ["ratio (asked: at most 1.2)", shown(ratios)],
        [f"a head trial of {epochs} epochs on cached features", shown(head, " s")],
        [f"the same through the backbone ({epochs} times its second epoch)", shown(whole, " s")],
        ["ratio (asked: at least 50)", shown(cheaper, digits=0)],
        [f"{TRIALS} head trials (asked: 60 s, on two cores)", f"{TRIALS * median(head):.0f} s of one core"],
    ]
    found = {"features": ratios, "cheaper": cheaper, "head": head}
    content = {name: spread(values) for name, values in found.items()}
    publish("head_trials", table(("what", "CPU seconds: median (range)"), rows), content, quick=options.quick)


def features(rounds: int) -> dict[str, list[float]]:
    """CPU seconds from files to features of each, in turns; every second round begins with the other."""
    from podium.data.image_files import read_files

    count = len(np.load("data/prepared/train/labels.npy"))
    files = [Path(one.path) for one in read_files(Path("data/prepared/train"), count)]
    ways = {"podium": _ours, "timm": _bare}
    for way in ways.values():
        way(files[:BATCH])
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found[name].append(_seconds(partial(ways[name], files)))
    return found


def _ours(files: list[Path]) -> None:
    """As `prepare` decodes them and a frozen trial uses them."""
    import torch

    from podium.api import load_params, prepared_data
    from podium.data import image_shape, reading
    from podium.data.image_store import Gathered, persistent_store
    from podium.data.sources.item import Item
    from podium.data.sources.source import Source
    from podium.training import features as cached
    from podium.training.batches import Batches
    from podium.training.loop import TrainingRun

    params = load_params("params.yaml")
    source = Source("benchmark", ("all",), [Item(str(path), 0, None, path) for path in files])
    spec = image_shape.preprocess_of(source, params.prepare, params.doctor)
    with tempfile.TemporaryDirectory() as place, persistent_store(Path(place), spec) as store:
        images = Gathered(store.pixels, reading.read(source, spec, store).rows)[: len(files)]
    data = prepared_data(device="cpu")
    run = TrainingRun(params.recipe(), data.images, 0, data.device)
    cached.forget()
    nameless = Batches(
        torch.from_numpy(images), data.train.labels[: len(files)]
    )  # without a digest: nothing is read from a file
    if cached.of_images(run.model, nameless, fast=None, mirrored=False) is None:
        raise SystemExit("head_trials: the features are not cached")


def _bare(files: list[Path]) -> None:
    """What twenty lines do."""
    import torch

    model = network()
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            some = np.stack([_opened(path) for path in files[start : start + BATCH]])
            model((torch.from_numpy(some).permute(0, 3, 1, 2).float() - 127) / 128)


def _opened(path: Path) -> "np.ndarray[Any, Any]":
    image: Image.Image = Image.open(path)
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
    return np.asarray(ImageOps.pad(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BILINEAR, color="white"))


def trials(rounds: int) -> tuple[list[float], list[float], int]:
    """CPU seconds of a head trial, of an epoch through the backbone, and the epochs of a trial."""
    from podium.api import load_params, prepared_data
    from podium.training.loop import TrainingRun

    class Whole(TrainingRun):
        """Every epoch through the backbone."""

        ON_FEATURES = False

    data, params = prepared_data(device="cpu"), load_params("params.yaml")
    recipe, two = params.recipe(), load_params("params.yaml", {"train.epochs": 2}).recipe()
    metric = params.search.component("metric")
    TrainingRun(recipe, data.images, 0, data.device, metric).train(data.train, data.val)  # computes the features
    head, through = [], []

    def trial(seed: int) -> None:
        TrainingRun(recipe, data.images, seed, data.device, metric).train(data.train, data.val)

    def second_epoch(seed: int) -> float:
        ends: list[float] = []
        whole = Whole(two, data.images, seed, data.device, metric)
        whole.train(data.train, data.val, on_epoch=lambda run: ends.append(time.process_time()))
        return ends[1] - ends[0]

    for seed in range(rounds):
        head.append(_seconds(partial(trial, seed)))
        through.append(second_epoch(seed))
    return head, through, recipe.train.epochs


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
