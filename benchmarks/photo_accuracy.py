"""Photographs and icons: Podium's presets beside what an engineer writes in an afternoon, on the same splits.

Sets are made from Debian's packages (photo_sets.py). Podium's own split is everybody's: it keeps near-duplicates
together, and a group of them counts once in everybody's accuracy. Test images are counted once, at the end of each.
`--peer PYTHON` also runs fastai, with an interpreter that has it.

It takes hours, so it runs part by part: what is in the folder `--work` is not done again, a stage that was interrupted
is repeated, and the table is of all parts that are there.

    python benchmarks/photo_accuracy.py --sets photos --salts alder --presets --references logistic
    python benchmarks/photo_accuracy.py
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
from peers.scoring import accuracy
from photo_sets import CACHE, SETS
from podium.config import presets

SALTS = ("alder", "cedar", "dogwood")
"""Chosen before any result was seen; birch was replaced: it left a class without test images."""
STAGES = ("code", "search", "select", "retrain", "evaluate", "register", "report")
C = (0.003, 0.01, 0.03, 0.1)
"""Of the logistic regression on frozen features; the validation images choose."""
C_SIMPLE = (0.0001, 0.001, 0.01, 0.1)
"""On edges and colours, of which there are more."""
NAMES = {
    "logistic": "frozen features, logistic regression",
    "simple": "edges and colours, logistic regression",
    "fine_tune": "fine-tuning, 50 lines",
}
NEEDS = {NAMES["simple"]: "scratch"}
"""Whose images a method has that is no preset: those of photos, but for this one, which has no pretrained weights."""
Result = dict[str, float]
Images = np.ndarray[Any, Any]


def main() -> None:
    """Measure what is missing, print and write the table."""
    options = _options()
    methods: dict[str, Callable[[Path], Result]] = {name: _preset(name) for name in options.presets}
    references = {"logistic": logistic, "simple": simple, "fine_tune": _peer("fine_tune")}
    methods |= {NAMES[name]: references[name] for name in options.references}
    if options.peer:
        methods["fastai vision_learner"] = _peer("fastai_learner", options.peer)
    results = options.work / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = _known(results)
    done = {(row["set"], row["salt"], row["method"]) for row in rows}
    parts = [(kind, salt, name) for kind in options.sets for salt in options.salts for name in methods]
    for kind, salt, name in (part for part in parts if part not in done):
        project = prepared(options.work, kind, salt, name)
        row = {"set": kind, "salt": salt, "method": name, "load": round(os.getloadavg()[0], 1)}
        rows.append(row | methods[name](project.folder))
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    publish("photos", _shown(rows), {"rows": rows}, quick=options.quick)


def _known(results: Path) -> list[dict[str, Any]]:
    """The parts that were done before."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []


def prepared(work: Path, kind: str, salt: str, method: str) -> Project:
    """A project with the images of the set `kind`, split by `salt`, with the settings of a preset."""
    preset = method if (ROOT / "presets" / f"{method}.yaml").is_file() else NEEDS.get(method, "photos")
    path, images = work / f"{kind}-{salt}-{preset}", work / kind
    if not images.is_dir():
        SETS[kind](work / f".{kind}")
        (work / f".{kind}").rename(images)
    project = Project(path)
    if "prepare" in _stages(path):
        return project
    (path / "data/raw").mkdir(parents=True, exist_ok=True)
    for link, target in ((path / "data/raw/photos", images), (path / "presets", ROOT / "presets")):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name in ("params.yaml", "dvc.yaml"):
        (path / name).write_bytes((ROOT / name).read_bytes())
    presets.apply(preset, ROOT / "presets", path / "params.yaml")
    project.set(prepare__salt=salt, prepare__root="data/raw/photos")
    _run_stage(project, "prepare")
    return project


def _stages(folder: Path) -> dict[str, float]:
    """The stages that have ended in a project, with their seconds."""
    path = folder / "stages.json"
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _run_stage(project: Project, stage: str) -> None:
    """Run a stage, unless it has ended before."""
    done = _stages(project.folder)
    if stage not in done:
        seconds = project.run(["-m", f"podium.stages.{stage}"])
        (project.folder / "stages.json").write_text(json.dumps(done | {stage: seconds}), encoding="utf-8")


def _preset(name: str) -> Callable[[Path], Result]:
    """All stages of the pipeline, one after the other, with the settings of the preset `name`."""

    def run(folder: Path) -> Result:
        for stage in STAGES:
            _run_stage(Project(folder), stage)
        found = json.loads((folder / "data/evaluated/metrics.json").read_text(encoding="utf-8"))
        return {"accuracy": float(found["accuracy"]), "seconds": sum(_stages(folder).values())}

    return run


def logistic(folder: Path) -> Result:
    """scikit-learn's logistic regression on features of the frozen network."""
    return _regression(folder, _pooled, C)


def simple(folder: Path) -> Result:
    """The same on what needs no network: edges (HOG) and colours."""
    from simple_features import described

    return _regression(folder, described, C_SIMPLE)


def _regression(folder: Path, features: "Callable[[Images], Images]", grid: Sequence[float]) -> Result:
    """Logistic regression on standardised `features` of (N, C, H, W) images, the best of `grid` by the validation
    images, trained on train and val.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    names = ("prepared/train", "prepared/val", "sealed/test")
    parts = [tuple(np.load(folder / "data" / one / f"{what}.npy") for what in ("images", "labels")) for one in names]
    train, val, test = (features(images) for images, _ in parts)
    labels = [one[1] for one in parts]
    fit = {c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)) for c in grid}
    best = max(grid, key=lambda c: fit[c].fit(train, labels[0]).score(val, labels[1]))
    fit[best].fit(np.concatenate([train, val]), np.concatenate(labels[:2]))
    right = fit[best].predict(test) == labels[2]
    return {"accuracy": accuracy(right, folder / "data/sealed/test"), "seconds": time.perf_counter() - started}


def _pooled(images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A bare loop of timm: (N, 1280) features of (N, 3, H, W) uint8 images."""
    import torch

    model = network()
    with torch.inference_mode():
        found = [model((torch.from_numpy(one).float() - 127) / 128) for one in _batches(images)]
    return torch.cat(found).numpy()


def network() -> Any:
    """timm's EfficientNet-Lite0 without its head, with the packaged weights."""
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

    from podium.models.weight_files import located

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


def _shown(rows: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy and time of each method on each set."""
    kinds = dict.fromkeys((row["set"], row["method"]) for row in rows if "accuracy" in row)
    lines = []
    for kind, method in kinds:
        own = [row for row in rows if (row["set"], row["method"]) == (kind, method)]
        each = ", ".join(f"{row['accuracy']:.3f}" for row in own)
        accuracy, seconds = (mean(row[name] for row in own) for name in ("accuracy", "seconds"))
        lines.append([kind, method, f"{accuracy:.3f}", each, f"{seconds:.0f} s"])
    return table(("set", "method", "test accuracy, mean", "each split", "time"), lines)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    made.add_argument("--salts", nargs="+", default=list(SALTS))
    made.add_argument("--presets", nargs="*", default=["photos", "scratch"])
    made.add_argument("--references", nargs="*", default=list(NAMES), choices=list(NAMES))
    made.add_argument("--work", type=Path, default=CACHE / "work", help="folder of what is done")
    made.add_argument("--peer", default="", help="an interpreter with fastai, timm and torch")
    return made.parse_args()


if __name__ == "__main__":
    main()
