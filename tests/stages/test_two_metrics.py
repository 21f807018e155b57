"""A search for two metrics, from the images to the champion."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import registered
import tiny
from podium import cli, paths
from podium.config.params import TrackingParams
from podium.data.dataset import write_split
from podium.promotion import model_predictions
from podium.registry import versions
from podium.tracking.store import connect
from stages.running import Project

AIMS = ("balanced_accuracy", "parameters")
METRICS = """metric: [balanced_accuracy, parameters]
n_trials: 3
defaults_first: false
space: {model.width: {choices: [2, 3, 4]}, train.learning_rate: {low: 1.0e-2, high: 2.0e-2}}"""
RULE = "select: {top_k: 2, seeds: 2, rule: {weights: {balanced_accuracy: 1, parameters: 0}}}"


@pytest.mark.slow
def test_two_metrics_go_through_every_stage_to_the_champion(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny.params_yaml(TrackingParams(), METRICS).replace("select: {top_k: 2, seeds: 2}", RULE)
    gate = f"register: {{name: {registered.NAME}}}\ngate: {json.dumps(registered.LOOSE)}\n"
    project = Project(tmp_path, mlflow_template, params + gate)
    images, labels = tiny.pixels(60, seed=5)
    write_split(tmp_path / paths.SEALED / "test", "test", images, labels, tiny.CLASSES, sealed=True)
    project.run("search", "select", "retrain", "evaluate", "register")

    def read(name: str) -> dict[str, Any]:
        return dict(json.loads((tmp_path / "data" / name).read_text(encoding="utf-8")))

    chosen, evaluated = read("selected/config.json"), read("evaluated/metrics.json")
    with (tmp_path / "data/search/trials.csv").open(encoding="utf-8", newline="") as file:
        front = {int(row["number"]) for row in csv.DictReader(file) if row["front"] == "True"}
    assert [one["metric"] for one in read("search/best.json")["aims"]] == chosen["aims"] == list(AIMS)
    assert chosen["trial"] in front
    assert chosen["rule"] == {"weights": {"balanced_accuracy": 1.0, "parameters": 0.0}}
    assert set(AIMS) == set(chosen["means"])
    assert {"balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"} <= set(evaluated)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_predictions, "TIMED", 2)
    cli.main(["promote", "1"])
    tracking = connect(TrackingParams(uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db"))
    champion = versions.find(tracking, registered.NAME, "champion")
    assert (champion.number, champion.tags["trial"]) == (1, str(chosen["trial"]))
    runs = tracking.client.search_runs([tracking.experiment_id], "tags.`podium.front` = 'yes'")
    assert len(runs) == len(front)
    assert {"val_balanced_accuracy", "parameters"} <= set(runs[0].data.metrics)
