"""A pipeline run as the stages leave it, of any size, without training anything: a study in a journal, and data/."""

import csv
import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from podium.config.params import Params, parse
from podium.data.dataset import DatasetInfo, Split, write_json
from podium.metrics.classification import measure
from podium.metrics.plots import gallery
from podium.report.report_data import Folders
from podium.tuning.outcome import write
from podium.tuning.storage import open_storage
from podium.tuning.study import distribution

BEGAN = datetime(2026, 1, 2, 3, 4)
SPACE = """
    train.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
    train.epochs: {low: 4, high: 12}
    train.optimizer: {choices: [sgd, adamw]}
    train.momentum: {low: 0.0, high: 0.95, when: {train.optimizer: [sgd]}}
    train.label_smoothing: {low: 0.0, high: 0.2}"""
STUDY = "search-0123456789ab"
WEIGHTS = "a" * 64


def params(metric: str = "accuracy", space: str = SPACE) -> Params:
    """params.yaml of the run."""
    return parse(f"search:\n  metric: {metric}\n  space: {space}\n")


def folders(root: Path) -> Folders:
    """Where everything lies below `root`."""
    data = root / "data"
    names = ("prepared", "search", "selected", "retrained", "evaluated", "registered")
    return Folders(**{name: data / name for name in names}, journal=root / "optuna.journal")


def write_search(root: Path, count: int = 40, settings: Params | None = None, parent_run_id: str = "") -> optuna.Study:
    """A study of `count` trials in root/optuna.journal and what the stage search leaves of it; every seventh failed."""
    settings = settings or params()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [aim.direction for aim in settings.search.aims]
    study = optuna.create_study(study_name=STUDY, directions=directions, storage=open_storage(root / "optuna.journal"))
    draw = np.random.default_rng(0)
    study.add_trials([_trial(number, draw, settings) for number in range(count)])
    study.set_user_attr("seconds", 0.6 * count)
    write(root / "data/search", study, settings, parent_run_id)
    return study


def _trial(number: int, draw: np.random.Generator, settings: Params) -> optuna.trial.FrozenTrial:
    point = _point(draw, settings)
    recipe = settings.recipe().replace(point)
    state = TrialState.FAIL if number % 7 == 6 else TrialState.PRUNED if number % 3 == 2 else TrialState.COMPLETE
    epochs = recipe.train.epochs if state == TrialState.COMPLETE else 2
    top = 0.97 - 0.1 * abs(math.log10(recipe.train.learning_rate) + 2.5) - draw.random() / 50
    history = [_epoch(e, top * (1 - 0.5**e)) for e in range(1, epochs + 1)]
    values = {int(e["epoch"]): e[f"val_{settings.search.metrics[0].name}"] for e in history}
    start = BEGAN + timedelta(seconds=number // 2)
    attributes = {"recipe": recipe.flat(), "seed": 1000 + number, "history": history}
    if state == TrialState.FAIL:
        attributes["reason"] = f"ValueError: <b>no</b> {number}"
    several = len(settings.search.named) > 1
    value = values[epochs] if state == TrialState.COMPLETE else None
    costs = [100.0 + 37 * number % 401 + 50 * place for place in range(1, len(settings.search.named))]
    trial = create_trial(
        state=state,
        params=point,
        distributions={name: distribution(name, settings.search.space[name]) for name in point},
        values=None if value is None else [value, *costs],
        intermediate_values={} if several else values,
        user_attrs=attributes,
    )
    trial.datetime_start, trial.datetime_complete = start, start + timedelta(seconds=0.9)
    return trial


def _point(draw: np.random.Generator, settings: Params) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, dimension in sorted(settings.search.space.items(), key=lambda item: (bool(item[1].when), item[0])):
        if any(point.get(other) not in values for other, values in dimension.when.items()):
            continue
        if dimension.choices is not None:
            point[name] = dimension.choices[int(draw.integers(len(dimension.choices)))]
            continue
        low, high = float(dimension.low or 0), float(dimension.high or 0)
        at = low * (high / low) ** draw.random() if dimension.log else draw.uniform(low, high)
        point[name] = round(at) if isinstance(dimension.low, int) else float(at)
    return point


def _epoch(number: int, accuracy: float) -> dict[str, float]:
    loss = 1.2 - accuracy
    row = {"epoch": number, "train_loss": loss, "learning_rate": 0.01, "val_loss": loss, "val_accuracy": accuracy}
    return row | {"seconds": 0.05}


def write_rest(root: Path, classes: tuple[str, ...] = ("left", "right", "top"), images: int = 60) -> None:
    """What the other stages leave."""
    place = folders(root)
    _write_prepared(place.prepared, classes)
    best = json.loads((place.search / "best.json").read_text(encoding="utf-8"))
    ranking = json.loads((place.search / "ranking.json").read_text(encoding="utf-8"))[:2]
    candidates = [
        {k: v for k, v in entry.items() if k != "recipe"}
        | {
            "values": [0.9 + k / 100, 0.92 + k / 100],
            "seeds": [5, 6],
            "mean": 0.91 + k / 100,
            "std": 0.0141,
            "failed": 0,
        }
        for k, entry in enumerate(ranking)
    ]
    chosen = candidates[-1] | {"recipe": ranking[-1]["recipe"], "candidates": candidates, "optimism": 0.05}
    place.selected.mkdir()
    write_json(place.selected / "config.json", chosen | {"study": best["study"], "metric": best["metric"]})
    _write_retrained(place.retrained, best | {"trial": chosen["trial"]}, list(classes))
    _write_evaluated(place.evaluated, classes, images)
    place.registered.mkdir()
    about = {"name": "tiny-classifier", "version": 3, "model_uri": "models:/m-1", "model_digest": "e" * 64}
    about |= {"weights_digest": WEIGHTS}
    write_json(place.registered / "version.json", about)


def _write_prepared(folder: Path, classes: tuple[str, ...]) -> None:
    folder.mkdir()
    counts = {part: dict.fromkeys(classes, 20) for part in ("train", "val", "test")}
    DatasetInfo("tiny", list(classes), [3, 8, 8], counts, [0.3] * 3, [0.3] * 3, "d" * 64).write(folder)
    example = {"files": ["a/1.png", "b/2.png"], "classes": list(classes[:2]), "why": ""}
    conflict = {"kind": "conflicts", "policy": "keep", "images": 2, "groups": 1, "examples": [example]}
    by_class = {name: {"train": 20, "val": 20, "test": 20} for name in classes}
    write_json(folder / "audit.json", {"counts": by_class, "findings": [conflict]})


def _write_retrained(folder: Path, best: dict[str, Any], classes: list[str]) -> None:
    folder.mkdir()
    about = {"seed": 0, "device": "cpu", "data_digest": "d" * 64, "study": best["study"], "trial": best["trial"]}
    about |= {"classes": classes, "confirmation_seeds": [5, 6], "run_id": "f" * 32, "weights_digest": WEIGHTS}
    write_json(folder / "model.json", about)
    (folder / "history.csv").write_text("epoch,train_loss,learning_rate\n1,0.5,0.1\n2,0.25,0.05\n", encoding="utf-8")
    (folder / "profile.md").write_text("# Profile\n\n<script>alert(1)</script>\n", encoding="utf-8")


def _write_evaluated(folder: Path, classes: tuple[str, ...], images: int) -> None:
    folder.mkdir()
    draw = np.random.default_rng(1)
    labels = np.arange(images) % len(classes)
    chances = draw.dirichlet(np.ones(len(classes)), images)
    chances[np.arange(images), labels] += 1.2
    chances /= chances.sum(1, keepdims=True)
    found = measure(labels, chances, classes, confidence=0.9)
    write_json(folder / "metrics.json", found.summary())
    write_json(folder / "evaluation.json", {"confidence": 0.9, "weights_digest": WEIGHTS})
    pixels = draw.integers(0, 255, (images, 3, 8, 8), dtype=np.uint8)
    write_json(folder / "gallery.json", gallery(Split("test", pixels, labels, classes, ""), chances))
    pairs = [(classes[a], classes[p]) for a, p in zip(labels, chances.argmax(1), strict=True)]
    _csv(folder / "confusion.csv", ["actual", "predicted"], pairs)
    scores = [(c.name, c.support, c.precision, c.recall, c.recall_low, c.recall_high, c.f1) for c in found.per_class]
    _csv(
        folder / "per_class.csv", ["class", "support", "precision", "recall", "recall_low", "recall_high", "f1"], scores
    )
    bins = [(b.lower, b.upper, b.count, b.confidence, b.accuracy) for b in found.calibration if b.count]
    _csv(folder / "calibration.csv", ["lower", "upper", "count", "confidence", "accuracy"], bins)


def write_abstain(root: Path, threshold: float = 0.9999875426292419) -> None:
    """What evaluate.abstain adds to the evaluation: three points, and a promise of 0.05."""
    folder = folders(root).evaluated
    counts = {"images": 60, "answered": 30, "wrong": 1}
    promise = {"threshold": threshold, "error": 0.05, "confidence": 0.95, "validation": counts, "test": counts}
    write_json(folder / "abstain.json", promise | {"finding": "not contradicted"})
    head = ["coverage", "error", "error_high", "threshold"]
    points = [(0.25, 0.0, 0.181, 0.9999999), (0.5, 1 / 30, 0.149, threshold), (1.0, 0.1, 0.187, 0.41)]
    _csv(folder / "coverage.csv", head, points)


def _csv(path: Path, head: list[str], rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
