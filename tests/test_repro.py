"""The story of the README in a temporary clone: `dvc repro`, again, a change and back, promote, roll back."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from mlflow.entities import Run

from pipeline import SHRUNK, STAGES, Clone
from podium.config.params import TrackingParams
from podium.tracking.store import Tracking, connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
SMALL = [
    word
    for change in ("search.n_trials=3", "select.top_k=1", "select.seeds=1", "search.defaults_first=false")
    for word in ("-S", change)
]
"""What makes an experiment a short one."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Clone:
    """A clone after its first `dvc repro`, with two workers."""
    made = Clone(tmp_path_factory.mktemp("repro") / "clone", {**SHRUNK, "runtime.workers": 2}, mlflow_template)
    made.run("dvc", "repro")
    made.run("git", "add", "data/split/split.csv")
    made.run(
        "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "split"
    )  # as `prepare` asks
    return made


def _tracking(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    monkeypatch.setenv("DVC_ROOT", str(clone.folder))
    return connect(TrackingParams())


def _runs(tracking: Tracking, kind: str) -> list[Run]:
    return list(tracking.client.search_runs([tracking.experiment_id], f"tags.`podium.kind` = '{kind}'"))


def test_repro_leaves_a_folder_a_stage_and_nothing_at_the_top_level(clone: Clone) -> None:
    folders = {path.name for path in (clone.folder / "data").iterdir() if path.is_dir()}
    status = clone.run("git", "status", "--porcelain", "--untracked-files=all", "--ignored")
    new = {line[3:].split("/")[0] for line in status.splitlines()}

    assert folders >= {"prepared", "sealed", "search", "selected", "retrained", "evaluated", "registered"}
    assert new <= {"data", "mlruns", "dvc.lock", ".dvc", "src"}  # src: bytecode


def test_repro_leaves_a_run_a_trial_by_its_state(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = _tracking(clone, monkeypatch)
    with (clone.folder / "data/search/trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (parent,) = _runs(tracking, "search")
    children = [
        run
        for run in _runs(tracking, "trial")
        if run.data.tags["podium.study"] == clone.json("search/best.json")["study"]
    ]

    assert [row["number"] for row in rows] == [str(number) for number in range(8)]
    assert {str(run.info.run_name).partition(" ")[0] for run in children} == {
        f"trial-{number:03d}" for number in range(8)
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    status = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    assert Counter(run.info.status for run in children) == Counter(status[row["state"]] for row in rows)


def test_repro_ends_in_a_challenger_better_than_chance(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = _tracking(clone, monkeypatch)
    version = clone.json("registered/version.json")
    found = tracking.client.get_model_version_by_alias(version["name"], "challenger")

    assert clone.json("evaluated/metrics.json")["accuracy"] > 0.5
    assert str(found.version) == str(version["version"])
    assert found.tags["data_digest"] == clone.json("prepared/dataset.json")["digest"]


def test_repro_again_runs_nothing(clone: Clone) -> None:
    said = clone.run("dvc", "repro")

    assert said.count("didn't change, skipping") == len(STAGES) + 1  # and `code`
    assert "Data and pipelines are up to date." in said


def test_experiment_records_into_the_one_mlruns_under_its_name_and_the_way_back_registers_again(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = _tracking(clone, monkeypatch)
    before = len(tracking.client.search_model_versions("name = 'digits-classifier'"))
    clone.run("dvc", "exp", "run", "-n", "experiment", "-S", "search.seed=5", *SMALL)
    (parent,) = [run for run in _runs(tracking, "search") if run.data.tags.get("podium.experiment") == "experiment"]

    assert parent.info.status == "FINISHED"
    assert clone.run("podium", "sync", "--check").startswith("MLflow shows exactly")

    clone.run("git", "checkout", "--quiet", "params.yaml")
    said = clone.run("dvc", "repro")
    versions = tracking.client.search_model_versions("name = 'digits-classifier'")

    assert "Stage 'retrain' is cached - skipping run" in said
    assert len(versions) == before + 2
    assert clone.json("registered/version.json")["version"] == max(int(v.version) for v in versions)


def test_promote_and_rollback_tell_their_history(clone: Clone) -> None:
    clone.run("podium", "promote", "1")
    entries = json.loads(clone.run("podium", "history", "--json"))

    assert [(entry["action"], entry["to"]) for entry in entries] == [("promote", 1)]
    said = clone.run("podium", "rollback", "--reason", "nothing before it", code=1)
    assert "no earlier champion" in said


def test_two_queued_experiments_at_once_do_not_disturb_each_other(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = _tracking(clone, monkeypatch)
    for seed in (11, 12):
        clone.run("dvc", "exp", "run", "--queue", "-n", f"queued-{seed}", "-S", f"search.seed={seed}", *SMALL)
    clone.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    parents = [run for run in _runs(tracking, "search") if "queued" in run.data.tags.get("podium.experiment", "")]

    assert sorted(run.data.tags["podium.experiment"] for run in parents) == ["queued-11", "queued-12"]
    assert {run.info.status for run in parents} == {"FINISHED"}
    assert not list((clone.folder / ".dvc/tmp").rglob("mlflow.db"))  # they ran in copies below it
    assert clone.run("podium", "sync", "--check").startswith("MLflow shows exactly")
