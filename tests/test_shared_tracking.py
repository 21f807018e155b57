"""The whole pipeline through an MLflow server with PostgreSQL behind it, promotion and rollback included."""

import json
import shutil
from pathlib import Path

import pytest

import tiny
from mlflow_server import Server
from podium import cli
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.registry import versions
from podium.tracking.store import connect
from podium.tracking.trial_runs import runs_of
from podium.tuning.upkeep import studies
from postgres import Postgres
from registered import NAME
from stages.running import Project
from waiting import PATIENCE, until

pytestmark = pytest.mark.slow
STAGES = ("prepare", "search", "select", "retrain", "evaluate", "register")
SPACE = "{train.learning_rate: {low: 1.0e-3, high: 0.1}, train.epochs: {low: 20, high: 30}}"
SEARCH = f"n_trials: 4\ndefaults_first: false\nsampler: random\npruner: none\nspace: {SPACE}"
"""The same trials with the same results whatever the number of workers."""


def _params(server: Server, storage: str) -> str:
    runtime = f"engine: processes\nworkers: 2\nstorage: {storage}"
    text = tiny.params_yaml(server.tracking, SEARCH, runtime)
    return text + f"prepare: {{source: digits}}\nregister: {{name: {NAME}}}\n"


def _podium(*words: str) -> int:
    """The exit code of a command, run in this process, which stands in the project."""
    try:
        cli.main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.timeout(3000)  # a minute of a quiet core, ten where nine others want it
def test_pipeline_through_a_server_that_is_away_for_a_while(
    server: Server,
    postgres: Postgres,
    tmp_path: Path,
    mlflow_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = postgres.create("studies")
    project = Project(tmp_path / "project", mlflow_template, _params(server, storage))
    (project.folder / "mlruns" / "mlflow.db").unlink()
    shutil.rmtree(project.folder / "data")
    project.run("prepare")
    process = project.start("search")
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    until(lambda: "search: " in project.log("search") or _trials_ended(storage) >= 1, process)
    server.stop()
    until(lambda: "MLflow does not accept the trials just now" in project.log("search"), process)
    server.start()
    assert process.wait(PATIENCE) == 0, project.log("search")
    project.run(*STAGES[2:])
    assert "View run" not in project.log(*STAGES[2:])
    monkeypatch.chdir(project.folder)
    assert _podium("sync") == 0  # a server that is slow to come back may miss a search's end
    assert _podium("sync", "--check") == 0
    tracking = connect(server.tracking)
    for study in studies(storage):
        assert len(runs_of(tracking, study.study_name)) == len(study.trials)

    _promote_and_roll_back(project)
    assert versions.find(tracking, NAME, "champion").number == 1
    capsys.readouterr()
    assert _podium("history", "--json") == 0
    assert [entry["action"] for entry in json.loads(capsys.readouterr().out)] == ["promote", "promote", "rollback"]
    _assert_nothing_is_local_and_nothing_secret(server, project)


def _trials_ended(storage: str) -> int:
    found = studies(storage)
    return sum(trial.state.is_finished() for study in found for trial in study.get_trials(deepcopy=False))


def _promote_and_roll_back(project: Project) -> None:
    """Version 1 becomes champion, then version 2, then version 1 again."""
    forced = ("--force", "--reason", "to have something to roll back")
    assert _podium("promote", *forced) == 0
    text = (project.folder / "params.yaml").read_text(encoding="utf-8")
    project.write(text.replace("retrain: {", "retrain: {seed: 1, "))
    project.run(*STAGES[3:])
    assert _podium("promote", *forced) == 0
    assert _podium("rollback", "--reason", "it was only a test") == 0


def _assert_nothing_is_local_and_nothing_secret(server: Server, project: Project) -> None:
    """Runs, artifacts and studies are on the servers; the password is in no file but the server's own settings."""
    here = {path.name for path in (project.folder / "mlruns").iterdir() if path.is_file()}
    assert here <= {"mlflow.lock", "promote-tiny-classifier.lock", "rollback-tiny-classifier.lock", "sealed.jsonl"}
    assert any(server.artifacts.rglob("*.pt2"))
    for path in [*project.folder.rglob("*"), *server.artifacts.rglob("*"), server.folder / "server.log"]:
        if path.is_file():
            assert server.password.encode() not in path.read_bytes(), path


def test_wrong_password_is_a_sentence_that_does_not_show_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    with pytest.raises(PodiumError, match=rf"tracking.uri: {server.tracking.uri} does not work: ") as error:
        connect(server.tracking)
    assert "not-the-password" not in str(error.value)


def test_password_in_the_address_is_refused_unseen() -> None:
    with pytest.raises(ValueError, match="must hold no password, for this file is committed") as error:
        TrackingParams(uri="https://me:hunter2@mlflow.example")
    assert "hunter2" not in "".join(str(e["msg"]) for e in error.value.errors())  # type: ignore[attr-defined]
