"""Photographs and icons: Podium's presets beside what an engineer writes in an afternoon, on the same splits.

Sets are made from Debian's packages (photo_sets.py). Podium's own split is everybody's: it keeps near-duplicates
together. Test images are counted once, at the end of each. `--peer PYTHON` also runs fastai, with an interpreter that
has it.

    python benchmarks/photo_accuracy.py --sets photos icons --salts alder cedar dogwood
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from measuring import ROOT, Project, parser, publish, table
from photo_sets import SETS
from podium.config import presets

SALTS = ("alder", "cedar", "dogwood")
"""Chosen before any result was seen; birch was replaced: it left a class without test images."""
STAGES = ("code", "prepare", "search", "select", "retrain", "evaluate", "register", "report")
C = (0.003, 0.01, 0.03, 0.1)
"""Of the logistic regression; the validation images choose."""
HEAD_TRIALS = 100
NAMES = {"logistic": "frozen features, logistic regression", "fine_tune": "fine-tuning, 50 lines"}
Result = dict[str, float]


def main() -> None:
    """Measure, print and write the table."""
    options = _options()
    methods: dict[str, Callable[[Path], Result]] = {name: _preset(name) for name in options.presets}
    references = {"logistic": logistic, "fine_tune": _peer("fine_tune")}
    methods |= {NAMES[name]: references[name] for name in options.references}
    if options.peer:
        methods["fastai vision_learner"] = _peer("fastai_learner", options.peer)
    rows: list[dict[str, Any]] = []
    for kind in options.sets:
        with tempfile.TemporaryDirectory(prefix="photos-") as folder:
            SETS[kind](Path(folder) / "images")
            for salt in options.salts:
                for name, measure in methods.items():
                    project = prepared(Path(folder), kind, salt, name)
                    rows.append({"set": kind, "salt": salt, "method": name, **measure(project.folder)})
                    print(rows[-1], flush=True)
                if salt == options.salts[0]:
                    rows.append({"set": kind, "salt": salt, "method": "features", **features(project.folder)})
                    print(rows[-1], flush=True)
    publish("photos", _shown(rows), {"rows": rows}, quick=options.quick)


def prepared(folder: Path, kind: str, salt: str, method: str) -> Project:
    """A project with the images of `folder`/images, split by `salt`, with the settings of a preset."""
    preset = method if (ROOT / "presets" / f"{method}.yaml").is_file() else "photos"
    path = folder / f"{kind}-{salt}-{preset}"
    project = Project(path)
    if path.is_dir():
        return project
    (path / "data/raw").mkdir(parents=True)
    (path / "data/raw/photos").symlink_to(folder / "images")
    for name in ("params.yaml", "dvc.yaml"):
        (path / name).write_bytes((ROOT / name).read_bytes())
    (path / "presets").symlink_to(ROOT / "presets")
    presets.apply(preset, ROOT / "presets", path / "params.yaml")
    project.set(prepare__salt=salt)
    project.run(["-m", "podium.stages.prepare"])
    return project


def _preset(name: str) -> Callable[[Path], Result]:
    """All stages of the pipeline, one after the other, with the settings of the preset `name`."""

    def run(folder: Path) -> Result:
        seconds = [Project(folder).run(["-m", f"podium.stages.{stage}"]) for stage in STAGES]
        found = json.loads((folder / "data/evaluated/metrics.json").read_text(encoding="utf-8"))
        return {"accuracy": float(found["accuracy"]), "seconds": sum(seconds)}

    return run


def logistic(folder: Path) -> Result:
    """scikit-learn's logistic regression on standardised features of the frozen network; C by validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    names = ("prepared/train", "prepared/val", "sealed/test")
    parts = [tuple(np.load(folder / "data" / one / f"{what}.npy") for what in ("images", "labels")) for one in names]
    train, val, test = (_pooled(images) for images, _ in parts)
    labels = [one[1] for one in parts]
    fit = {c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)) for c in C}
    best = max(C, key=lambda c: fit[c].fit(train, labels[0]).score(val, labels[1]))
    fit[best].fit(np.concatenate([train, val]), np.concatenate(labels[:2]))
    return {"accuracy": float(fit[best].score(test, labels[2])), "seconds": time.perf_counter() - started}


def _pooled(images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A bare loop of timm: (N, 1280) features of (N, 3, H, W) uint8 images."""
    import torch

    network = _network()
    with torch.inference_mode():
        found = [network((torch.from_numpy(one).float() - 127) / 128) for one in _batches(images)]
    return torch.cat(found).numpy()


def _network() -> Any:
    import timm
    import torch

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(torch.load(weights(), weights_only=True))
    network.reset_classifier(0)
    return network.eval()


def _batches(images: "np.ndarray[Any, Any]", size: int = 32) -> list[Any]:
    return [np.array(images[start : start + size]) for start in range(0, len(images), size)]


def weights() -> Path:
    """The packaged weights under timm's names, in a file that every peer reads."""
    import timm
    import torch

    from podium.models.weights import located

    path = Path(tempfile.gettempdir()) / f"podium-lite0-{os.getuid()}.pt"
    if not path.is_file():
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        values = torch.load(located("timm:tf_efficientnet_lite0", "imagenet"), weights_only=True).values()
        torch.save(dict(zip(network.state_dict(), values, strict=True)), path)
    return path


def _peer(module: str, python: str = sys.executable) -> Callable[[Path], Result]:
    """A script of peers/, imports included in its time."""

    def run(folder: Path) -> Result:
        command = [python, "-m", f"peers.{module}", str(folder / "data"), str(weights())]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        return {"accuracy": float(found["accuracy"]), "seconds": time.perf_counter() - started}

    return run


def features(folder: Path) -> Result:
    """Seconds for the training images' features: Podium's, and a bare loop of timm; head trials per second after it."""
    import torch

    from podium.api import load_params, prepared_data
    from podium.training import features as cached
    from podium.training.loop import TrainingRun

    before = Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        data, recipe = prepared_data(device="cpu"), load_params("params.yaml").recipe()
        run = TrainingRun(recipe, data.images, 0, data.device)
        ours, bare = [], []
        for _ in range(2):
            cached.forget()
            nameless = type(data.train)(data.train.images, data.train.labels)  # without a digest: no file
            started = time.process_time()
            cached.of_images(run.model, nameless, fast=False, mirrored=False)
            ours.append(time.process_time() - started)
            started = time.process_time()
            _pooled(np.load(folder / "data/prepared/train/images.npy"))
            bare.append(time.process_time() - started)
        TrainingRun(recipe, data.images, 0, data.device).train(data.train, data.val)
        started = time.process_time()
        for seed in range(10):
            TrainingRun(recipe, data.images, seed, data.device).train(data.train, data.val)
        trial = (time.process_time() - started) / 10
    finally:
        os.chdir(before)
    return {"podium": min(ours), "timm": min(bare), "ratio": min(ours) / min(bare), "head_trials": HEAD_TRIALS * trial}


def _shown(rows: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy and time of each method on each set."""
    kinds = dict.fromkeys((row["set"], row["method"]) for row in rows if "accuracy" in row)
    lines = []
    for kind, method in kinds:
        own = [row for row in rows if (row["set"], row["method"]) == (kind, method)]
        each = ", ".join(f"{row['accuracy']:.3f}" for row in own)
        accuracy, seconds = (mean(row[name] for row in own) for name in ("accuracy", "seconds"))
        lines.append([kind, method, f"{accuracy:.3f}", each, f"{seconds:.0f} s"])
    text = table(("set", "method", "test accuracy, mean", "each split", "time"), lines)
    for row in (row for row in rows if row["method"] == "features"):
        text += (
            f"\n\n{row['set']}: features in {row['podium']:.1f} CPU s, a bare loop of timm {row['timm']:.1f}"
            f" ({row['ratio']:.2f}x); {HEAD_TRIALS} head trials take {row['head_trials']:.0f} CPU s"
        )
    return text


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    made.add_argument("--salts", nargs="+", default=list(SALTS))
    made.add_argument("--presets", nargs="*", default=["photos", "scratch"])
    made.add_argument("--references", nargs="*", default=list(NAMES), choices=list(NAMES))
    made.add_argument("--peer", default="", help="an interpreter with fastai, timm and torch")
    return made.parse_args()


if __name__ == "__main__":
    main()
