import csv
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from mlflow.entities import Run

import tiny
from podium import paths
from podium.config.params import TrackingParams
from podium.data.dataset import write_split
from podium.stages import search
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.tuning.upkeep import studies
from stages.running import Project, end_group
from waiting import PATIENCE, until

SPACE = "train.learning_rate: {low: 1.0e-3, high: 0.1}, train.epochs: {low: 12, high: 24}"
LONG = f"n_trials: 6\ndefaults_first: false\nspace: {{{SPACE}, train.batch_size: {{choices: [2, 4]}}}}"
"""Trials of about a second, most of which are pruned."""
ONE_WORKER = "engine: processes\nworkers: 1\ncheckpoint_seconds: 0.1\ncheckpoint_share: 1.0"
LOCAL = TrackingParams(flush_seconds=0.2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The project whose search is the one that the others disturb."""
    project = Project(
        tmp_path_factory.mktemp("undisturbed") / "project", mlflow_template, tiny.params_yaml(LOCAL, LONG, ONE_WORKER)
    )
    project.run("search")
    return project.folder


@pytest.fixture
def here(tmp_path: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the test stands."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    tiny.prepare(tmp_path / paths.PREPARED)
    return tmp_path


def _trials(folder: Path) -> list[dict[str, str]]:
    with (folder / paths.SEARCH / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _best(folder: Path) -> dict[str, object]:
    best: dict[str, object] = json.loads((folder / paths.SEARCH / "best.json").read_text(encoding="utf-8"))
    return best


def _runs(store: TrackingParams, folder: Path) -> dict[str, Run]:
    runs = runs_of(connect(store), str(_best(folder)["study"]))
    return {run.info.run_id: run for run in runs}


def test_search_leaves_its_outcome_and_one_run_a_trial(here: Path, store: TrackingParams) -> None:
    search.run(tiny.params(store))
    assert sorted(path.name for path in (here / paths.SEARCH).iterdir()) == [
        "best.json",
        "curves.csv",
        "importances.json",
        "ranking.json",
        "reference_lines.json",
        "space.json",
        "trials.csv",
    ]
    assert [row["number"] for row in _trials(here)] == ["0", "1", "2", "3"]
    assert len(_runs(store, here)) == 4
    assert not any((here / "mlruns" / "checkpoints").rglob("*.ckpt"))
    lines = json.loads((here / paths.SEARCH / "reference_lines.json").read_text(encoding="utf-8"))["lines"]
    parent = connect(store).client.get_run(str(_best(here)["parent_run_id"]))
    assert {f"reference_{line['name']}": line["value"] for line in lines}.items() <= parent.data.metrics.items()
    beaten = float(str(_best(here)["value"])) > max(line["value"] for line in lines)
    assert parent.data.tags["podium.beats_reference_lines"] == ("yes" if beaten else "no")


@pytest.mark.slow
def test_search_run_again_adds_nothing(here: Path, store: TrackingParams) -> None:
    search.run(tiny.params(store))
    before, runs = (here / paths.SEARCH / "trials.csv").read_bytes(), set(_runs(store, here))
    shutil.rmtree(here / paths.SEARCH)
    search.run(tiny.params(store))
    assert (here / paths.SEARCH / "trials.csv").read_bytes() == before
    assert set(_runs(store, here)) == runs


@pytest.mark.slow
def test_search_with_more_trials_goes_on_in_its_study(here: Path, store: TrackingParams) -> None:
    search.run(tiny.params(store, "n_trials: 3"))
    before, study, runs = _trials(here), _best(here)["study"], set(_runs(store, here))
    search.run(tiny.params(store, "n_trials: 5"))
    assert [{name: row[name] for name in before[0]} for row in _trials(here)[:3]] == before
    assert len(_trials(here)) == 5
    assert _best(here)["study"] == study
    assert set(_runs(store, here)) > runs
    assert len(_runs(store, here)) == 5


@pytest.mark.slow
def test_search_passes_without_the_sealed_images(here: Path, store: TrackingParams) -> None:
    images, labels = tiny.pixels(20, 9)
    write_split(here / paths.SEALED / "test", "test", images, labels, tiny.CLASSES, sealed=True)
    search.run(tiny.params(store))
    with_them = (here / paths.SEARCH / "trials.csv").read_bytes()
    shutil.rmtree(here / paths.SEALED)
    for folder in (here / paths.SEARCH, here / "mlruns" / "checkpoints"):
        shutil.rmtree(folder, ignore_errors=True)
    (here / "mlruns" / "optuna.journal").unlink()
    search.run(tiny.params(store))
    assert (here / paths.SEARCH / "trials.csv").read_bytes() == with_them


@pytest.mark.slow
def test_killed_search_ends_as_the_undisturbed_one(
    tmp_path: Path, mlflow_template: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("PODIUM_KILL_SEED", time.time()))
    print(f"PODIUM_KILL_SEED={seed}")
    draw = random.Random(seed)  # noqa: S311 (moments, not secrets)
    params = tiny.params_yaml(LOCAL, LONG, ONE_WORKER.partition("\ncheckpoint_share")[0])  # by a thread, as shipped
    killed = Project(tmp_path / "killed", mlflow_template, params)
    for whole in draw.sample([False, True], 2):
        lines = _journal_lines(killed.folder) + draw.uniform(0.05, 0.45) * _journal_lines(undisturbed)
        process = killed.start("search")
        until(lambda: _journal_lines(killed.folder) >= lines, process)  # noqa: B023 (called before the next round)
        if whole:
            end_group(process)
        else:
            process.kill()  # the driver alone: its workers have to notice
            process.wait()
    killed.run("search")
    for name in ("trials.csv", "curves.csv", "best.json", "ranking.json", "importances.json"):
        ours, theirs = (
            _without_run(found / name) for found in (killed.folder / paths.SEARCH, undisturbed / paths.SEARCH)
        )
        assert ours == theirs, f"PODIUM_KILL_SEED={seed}"
    _assert_mirrored(killed.folder, monkeypatch)


def _journal_lines(folder: Path) -> int:
    """How far a search has come."""
    journal = folder / "mlruns" / "optuna.journal"
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def _without_run(path: Path) -> str:
    """The file's text without the one line that names a run of MLflow."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "parent_run_id" not in line)


def _assert_mirrored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Study and MLflow agree in everything, and no run is left RUNNING."""
    monkeypatch.setenv("DVC_ROOT", str(folder))
    (study,) = studies(folder / "mlruns" / "optuna.journal")
    tracking = connect(LOCAL)
    assert differences(tracking, study) == []
    states = Counter(trial.state.name for trial in study.trials)
    statuses = Counter(run.info.status for run in runs_of(tracking, study.study_name))
    assert statuses == Counter({"FINISHED": states["COMPLETE"], "KILLED": states["PRUNED"]}) + Counter()
    parents = tracking.client.search_runs([tracking.experiment_id], "tags.`podium.kind` = 'search'")
    assert [run.info.status for run in parents] == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143)]
)
def test_signal_saves_the_trials_and_the_next_run_goes_on(
    tmp_path: Path,
    mlflow_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    group: bool,
    code: int,
) -> None:
    params = tiny.params_yaml(LOCAL, LONG, ONE_WORKER.replace("workers: 1", "workers: 2"))
    project = Project(tmp_path / "project", mlflow_template, params)
    process = project.start("search")
    until(lambda: any((project.folder / "mlruns" / "checkpoints").rglob("*.ckpt")), process)
    if group:
        end_group(process, number)
    else:
        process.send_signal(number)
    assert process.wait(PATIENCE) == code
    assert "trials, " in project.log("search")
    assert "more saved in the middle; `dvc repro` resumes from here" in project.log("search")
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    (study,) = studies(project.folder / "mlruns" / "optuna.journal")
    assert "RUNNING" in {trial.state.name for trial in study.trials}
    tracking = connect(LOCAL)
    assert differences(tracking, study) == []
    assert "RUNNING" not in {run.info.status for run in runs_of(tracking, study.study_name)}
    project.run("search")
    assert len(_trials(project.folder)) == 6
    assert "resumes from epoch" in project.log("search")
    _assert_mirrored(project.folder, monkeypatch)


@pytest.mark.slow
def test_second_ctrl_c_ends_at_once_and_loses_nothing(
    tmp_path: Path, mlflow_template: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny.params_yaml(LOCAL, LONG, ONE_WORKER)
    project = Project(tmp_path / "project", mlflow_template, params)
    process = project.start("search")
    until(lambda: any((project.folder / "mlruns" / "checkpoints").rglob("*.ckpt")), process)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:  # the second one is sent as soon as it can end anything
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert process.returncode in (130, -signal.SIGINT)
    project.run("search")
    ours, theirs = (found / "trials.csv" for found in (project.folder / paths.SEARCH, undisturbed / paths.SEARCH))
    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")
    _assert_mirrored(project.folder, monkeypatch)


@pytest.mark.slow
def test_second_search_is_refused_and_the_first_not_disturbed(tmp_path: Path, mlflow_template: Path) -> None:
    project = Project(tmp_path / "project", mlflow_template, tiny.params_yaml(LOCAL, LONG, ONE_WORKER))
    first = project.start("search")
    until(lambda: any((project.folder / "mlruns" / "checkpoints").rglob("*.ckpt")), first)
    first.send_signal(signal.SIGSTOP)  # so that it can't end before the second one begins
    second = project.start("search")
    assert second.wait(PATIENCE) == 1
    assert f"is already under way: process {first.pid} on " in project.log("search")
    first.send_signal(signal.SIGCONT)
    assert first.wait(PATIENCE) == 0
    assert len(_trials(project.folder)) == 6


@pytest.mark.slow
def test_search_on_a_full_disk_says_so_and_the_next_run_goes_on(
    tmp_path: Path, mlflow_template: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny.params_yaml(LOCAL, LONG, ONE_WORKER)
    full = Project(tmp_path / "full", mlflow_template, params)
    assert full.start("search", file_size=20_000).wait(PATIENCE) == 1
    said = full.log("search")
    assert "mlruns/optuna.journal: File too large. What was recorded before is complete; free some space" in said
    assert "Traceback" not in said
    full.run("search")
    ours, theirs = (found / "trials.csv" for found in (full.folder / paths.SEARCH, undisturbed / paths.SEARCH))
    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")
    _assert_mirrored(full.folder, monkeypatch)
