"""A throw-away project with two registered models of 28x28 images, for the benchmarks of gate and server."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from podium.config.params import EvaluateParams, RegisterParams, TrackingParams
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo, write_json, write_split
from podium.data.decode import encode_png
from podium.data.image_files import write_sizes
from podium.stages.evaluate import evaluate
from podium.stages.register import Folders, register_stage
from podium.tracking.store import Tracking, connect
from podium.training.trained import TrainedModel

CLASSES = tuple("0123456789")
SHAPE = (1, 28, 28)
NAME = "benchmark"
STEPS = (5, 60)
"""Of training of each version."""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy images (count, 1, 28, 28) with a bright spot whose place is the class, and their labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, len(CLASSES), count)
    pixels = draw.integers(0, 90, (count, *SHAPE), dtype=np.uint8)
    for label in range(len(CLASSES)):
        rows, columns = 2 + 12 * (label // 5), 1 + 5 * (label % 5)
        pixels[labels == label, :, rows : rows + 9, columns : columns + 5] += np.uint8(45)
    return pixels, labels.astype(np.int64)


def make(folder: Path, sealed: int) -> Tracking:
    """Fill `folder`, the present one, with a project of `sealed` sealed images and two versions, 1 and 2."""
    params = TrackingParams()
    write_split(folder / "data/sealed/test", "test", *images(sealed, 1), CLASSES, sealed=True)
    names = ("prepared", "selected", "retrained", "evaluated")
    folders = Folders(*(folder / "data" / name for name in names))
    for name in names:
        (folder / "data" / name).mkdir(parents=True)
    write_split(folders.prepared / "train", "train", *images(300, 3), CLASSES)
    write_sizes(folders.prepared / "train", np.full((300, 2), SHAPE[1], np.int32))
    counts = {"test": dict.fromkeys(CLASSES, sealed // 10)}
    info = DatasetInfo("made up", list(CLASSES), list(SHAPE), counts, [0.3], [0.2], "d" * 64)
    info.write(folders.prepared)
    write_json(folders.selected / "config.json", {"metric": "accuracy", "value": 0.0, "values": []})
    (folder / "params.yaml").write_text(f"register: {{name: {NAME}}}\n", encoding="utf-8")
    store = connect(params)
    for steps in STEPS:
        _train(store, info, steps, folders.retrained)
        evaluate(EvaluateParams(), params, folder / "data/sealed", folders.retrained, folders.evaluated)
        register_stage(RegisterParams(name=NAME), params, folders, folder / "data/registered")
    return store


def files(count: int) -> list[bytes]:
    """`count` images as PNG files."""
    return [encode_png(image) for image in images(count, 2)[0]]


def _train(store: Tracking, info: DatasetInfo, steps: int, out: Path) -> None:
    run = store.client.create_run(store.experiment_id, run_name="retrain").info.run_id
    store.client.set_terminated(run)
    about = TrainedModel(
        recipe=Recipe().model_dump(),
        classes=info.classes,
        shape=info.shape,
        mean=info.mean,
        std=info.std,
        seed=0,
        device="cpu",
        data_digest=info.digest,
        study="benchmark",
        trial=steps,
        confirmation_seeds=[],
        run_id=run,
    )
    torch.manual_seed(0)
    model = about.build()
    pixels, labels = (torch.from_numpy(array) for array in images(2000, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.001)
    for step in range(steps):
        rows = slice(32 * step, 32 * (step + 1))
        optimizer.zero_grad()
        functional.cross_entropy(model(pixels[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    about.save(out, model)
