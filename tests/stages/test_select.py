"""A confirmation whose runs failed, which is mended and then killed while it tries again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from podium import paths
from podium.config.params import TrackingParams
from podium.tuning.upkeep import studies
from stages.running import Project, end_group
from tuning.scripted import states
from waiting import until

SEARCH = """n_trials: 2
defaults_first: false
pruner: none
space: {train.learning_rate: {low: 1.0e-3, high: 0.1}, train.epochs: {low: 30, high: 34}}"""
OFTEN = "engine: processes\nworkers: 1\ncheckpoint_seconds: 0.05\ncheckpoint_share: 1.0"


def _chosen(project: Project) -> dict[str, Any]:
    chosen: dict[str, Any] = json.loads((project.folder / paths.SELECTED / "config.json").read_text(encoding="utf-8"))
    return chosen


@pytest.mark.slow
def test_confirmation_without_images_and_killed_once_they_are_back_is_the_undisturbed_one(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project", mlflow_template, tiny.params_yaml(TrackingParams(), SEARCH, OFTEN))
    project.run("search")
    shutil.copytree(project.folder, tmp_path / "searched")
    project.run("select")
    undisturbed = _chosen(project)
    shutil.rmtree(project.folder)
    (tmp_path / "searched").rename(project.folder)  # in the same place, for MLflow's artifacts have absolute paths
    images = project.folder / paths.PREPARED / "val" / "images.npy"
    away = images.rename(tmp_path / "away")
    project.run("select", code=1)
    assert "no trial counts as failed: `dvc repro` resumes from here" in project.log("select")
    away.rename(images)
    process = project.start("select")
    until(lambda: any((project.folder / "mlruns" / "checkpoints").glob("confirm-*/00000[123].ckpt")), process)
    end_group(process)
    project.run("select")
    assert _chosen(project) == undisturbed
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    (study,) = (s for s in studies(paths.mlruns() / "optuna.journal") if s.study_name.startswith("confirm"))
    assert states(study) == ["COMPLETE"] * 4
