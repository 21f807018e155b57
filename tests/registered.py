"""Registered models for tests: a project of tiny images with three versions, made once a session.

Version 1 is fair, version 2 is poor, version 3 is the best. Each test gets the database of its own; the artifacts are
shared, so a test that changes one registers its own model.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import tiny
from podium.config.params import RegisterParams, TrackingParams
from podium.data.dataset import DatasetInfo, write_json, write_split
from podium.data.image_files import write_sizes
from podium.models import latency
from podium.promotion import model_predictions
from podium.tracking.store import Tracking, connect
from podium.training.prediction import predict_probabilities
from podium.training.trained import TrainedModel

NAME = "tiny-classifier"
STEPS = {1: 4, 2: 0, 3: 80}
"""Steps of training of each version."""
LOOSE: dict[str, Any] = {"max_recall_drop": 1.0, "max_calibration_rise": 1.0, "max_latency_ms": 1e6}
LOOSE |= {"min_accuracy": 0.0, "min_recall": 0.0, "max_calibration_error": 1.0}
"""The gate's parameters, with the rule that the challenger is better and nothing else."""


@dataclass(frozen=True)
class Project:
    """A folder as the stages before register leave it, and its store."""

    folder: Path
    store: TrackingParams

    @property
    def tracking(self) -> Tracking:
        """The store, open."""
        return connect(self.store)

    def path(self, name: str) -> Path:
        """A folder of data/."""
        return self.folder / "data" / name


def write_images(folder: Path) -> None:
    """data/sealed and data/prepared/dataset.json."""
    images, labels = tiny.pixels(90, seed=5)
    write_split(folder / "data/sealed/test", "test", images, labels, tiny.CLASSES, sealed=True)
    prepared = folder / "data/prepared"
    prepared.mkdir(parents=True)
    counts = {"train": dict.fromkeys(tiny.CLASSES, 20), "test": dict.fromkeys(tiny.CLASSES, 30)}
    DatasetInfo("tiny", list(tiny.CLASSES), [3, 8, 8], counts, [0.3] * 3, [0.3] * 3, "d" * 64).write(prepared)
    train, of = tiny.pixels(60, seed=1)
    write_split(prepared / "train", "train", train, of, tiny.CLASSES)
    write_sizes(prepared / "train", np.full((len(of), 2), tiny.SIZE, np.int32))
    (folder / "data/selected").mkdir()
    chosen = {"metric": "accuracy", "value": 0.9, "values": [0.8, 0.85], "trial": 80, "recipe": tiny.recipe().flat()}
    write_json(folder / "data/selected/config.json", chosen)


def write_model(project: Project, steps: int) -> TrainedModel:
    """data/retrained and data/evaluated of a model trained for so many steps, with its finished run."""
    store = project.tracking
    run = store.client.create_run(store.experiment_id, run_name="retrain").info.run_id
    store.client.set_terminated(run)
    about = TrainedModel(
        recipe=tiny.recipe().model_dump(),
        classes=list(tiny.CLASSES),
        shape=[3, 8, 8],
        mean=[0.3] * 3,
        std=[0.3] * 3,
        seed=0,
        device="cpu",
        data_digest="d" * 64,
        study="podium-tiny",
        trial=steps,
        confirmation_seeds=[1, 2],
        run_id=run,
    )
    torch.manual_seed(4)
    model = about.build()
    images, labels = (torch.from_numpy(a) for a in tiny.pixels(60, seed=1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    about = about.save(project.path("retrained"), model)
    write_evaluation(project, model)
    return about


def write_evaluation(project: Project, model: torch.nn.Module) -> None:
    """data/evaluated as the stage evaluate leaves it, in the parts that register reads."""
    images, labels = tiny.pixels(90, seed=5)
    probabilities = predict_probabilities(model, images)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    out = project.path("evaluated")
    out.mkdir(exist_ok=True)
    np.savez(
        out / "reference.npz",
        allow_pickle=False,
        images=images[:64],
        probabilities=probabilities[:64].astype(np.float32),
        labels=labels[:64],
    )
    np.save(out / "probabilities.npy", probabilities.astype(np.float32), allow_pickle=False)
    predicted = [f"{row},,,,," for row in range(len(labels))]
    header = "index,label,predicted,probability,file,copy_of"
    (out / "predictions.csv").write_text("\n".join([header, *predicted]) + "\n", encoding="utf-8")
    metrics = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "nll"), accuracy)
    write_json(out / "metrics.json", metrics | {"count": len(labels)})
    rows = [f"{name},30,0.9,0.8,0.7,0.85,0.85" for name in tiny.CLASSES]
    header = "class,support,precision,recall,recall_low,recall_high,f1"
    (out / "per_class.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def register(project: Project, **params: Any) -> int:
    """Register what data/ holds, with `params` of the section register; returns the version's number."""
    from podium.stages.register import Folders, register_stage

    folders = Folders(*(project.path(name) for name in ("prepared", "selected", "retrained", "evaluated")))
    return register_stage(
        RegisterParams(name=NAME, **params), project.store, folders, project.path("registered")
    ).number


@pytest.fixture(scope="session")
def three_versions(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with mlruns/ and data/, nobody champion and version 3 challenger."""
    folder = tmp_path_factory.mktemp("three_versions")
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    write_images(folder)
    project = Project(folder, TrackingParams(uri=f"sqlite:///{folder}/mlruns/mlflow.db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for steps in STEPS.values():
            write_model(project, steps)
            register(project)
    return folder


@pytest.fixture
def project(three_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The three versions in a store and folder of the test's own, with params.yaml; the test stands in the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_predictions, "TIMED", 2)
    monkeypatch.setattr(model_predictions, "WARM_UP", 2)
    monkeypatch.setattr(latency, "FEWEST", 2)
    monkeypatch.setattr(latency, "ROUNDS", 2)
    shutil.copytree(three_versions / "data", tmp_path / "data")
    (tmp_path / "mlruns").mkdir()
    shutil.copy(three_versions / "mlruns/mlflow.db", tmp_path / "mlruns/mlflow.db")
    (tmp_path / "params.yaml").write_text(f"register: {{name: {NAME}}}\ngate: {json.dumps(LOOSE)}\n", encoding="utf-8")
    return Project(tmp_path, TrackingParams(uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db"))


@pytest.fixture
def fresh(store: TrackingParams, tmp_path: Path) -> Project:
    """A project with images and a trained, evaluated model, and nothing registered."""
    write_images(tmp_path)
    project = Project(tmp_path, store)
    write_model(project, STEPS[1])
    return project


def reference_images(folder: Path) -> list[bytes]:
    """The reference images as files, from data/evaluated."""
    from podium.data.decode import encode_png

    with np.load(folder / "data/evaluated/reference.npz", allow_pickle=False) as arrays:
        return [encode_png(image) for image in arrays["images"]]


def version_json(project: Project) -> dict[str, object]:
    """data/registered/version.json."""
    content: dict[str, object] = json.loads(project.path("registered").joinpath("version.json").read_text("utf-8"))
    return content
