"""What Podium writes on a search's run and a retraining's: found changed or gone by `sync`, and written again."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

import tiny
import trials
from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.locks import locked
from podium.metrics.classification import measure
from podium.tracking import recorded_run
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.retrain_run import RetrainRun, log_evaluation
from podium.tracking.run_names import RETRAIN_TAG
from podium.tracking.search_run import log_report, log_to_search
from podium.tracking.store import connect
from podium.tracking.trial_check import Difference, images_of
from podium.tracking.trial_runs import runs_of
from podium.training.epochs import Epoch
from podium.tuning.storage import open_storage
from podium.tuning.upkeep import sync_all

DIGEST = "d" * 64
TAGS = {"podium.source": "tiny", "podium.data_digest": DIGEST}
LATER = 10**13


class Project:
    """A search, its confirmation, a report and a retraining, all of it in MLflow."""

    def __init__(self, params: TrackingParams, folder: Path) -> None:
        self.params = params
        self.client: MlflowClient = connect(params).client
        self.messages: list[str] = []
        paths.PREPARED.mkdir(parents=True)
        (paths.PREPARED / "audit.json").write_text("{}", encoding="utf-8")
        self.search = trials.study_of_each_kind(open_storage(paths.mlruns() / "optuna.journal"))
        self.parent = self._mirrored(self.search, Parent("search-1234", TAGS))
        confirmation = optuna.create_study(study_name="confirm-1", storage=self.search._storage)
        confirmation.set_user_attr("identity", {"search": "search-1234"})
        confirmation.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"name": "confirm-000-seed-1"}))
        self._mirrored(confirmation, Parent("search-1234", {}, owned=False))
        log_to_search(params, confirmation, "search-1234", {"confirmed_mean": 0.5}, {"podium.selected_trial": "3"})
        self.page = folder / "index.html"
        self.page.write_text("the report", encoding="utf-8")
        self.report()
        self.retrained = self._retrained()

    def _mirrored(self, study: optuna.Study, parent: Parent) -> str:
        mirror = Mirror(study, self.params, parent)
        mirror.close()
        assert mirror.error == ""
        return mirror.parent_run_id or ""

    def _retrained(self) -> str:
        with locked(paths.lock("retrain-1")):
            tags = {**TAGS, "podium.study": "search-1234"}
            run = RetrainRun.open(self.params, "retrain-1", tags, tiny.recipe())
            history: list[Epoch] = trials.history(0)
            (folder := paths.RETRAINED).mkdir(parents=True)
            (folder / "history.csv").write_text("epoch", encoding="utf-8")
            run.update(history)
            run.finish(history, "w" * 64, folder)
        return run.run_id

    def report(self) -> None:
        log_report(self.params, self.parent, self.page, [], "what came out")

    def run(self, run_id: str = "") -> Run:
        return self.client.get_run(run_id or self.parent)

    def children(self) -> list[Run]:
        tracking = connect(self.params)
        return [*runs_of(tracking, "search-1234"), *runs_of(tracking, "confirm-1")]

    def check(self) -> list[Difference]:
        return [one for found in sync_all(self.params, repair=False).values() for one in found]

    def sync(self) -> None:
        sync_all(self.params, repair=True)

    def artifacts(self, run_id: str, folder: str) -> list[str]:
        return [file.path for file in self.client.list_artifacts(run_id, folder)]

    def artifact(self, run_id: str, path: str) -> Path:
        return Path(self.run(run_id).info.artifact_uri.removeprefix("file://")) / path

    def lose(self, run_id: str) -> None:
        """Delete a run for good, as `mlflow gc` does."""
        self.client.delete_run(run_id)
        connection = sqlite3.connect(self.params.uri.removeprefix("sqlite:///"))
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))  # noqa: S608
        connection.commit()
        connection.close()


@pytest.fixture
def project(store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return Project(store, tmp_path)


def _child(project: Project, number: int = 0) -> str:
    (run,) = [
        r
        for r in project.children()
        if r.data.tags["podium.trial"] == str(number) and r.data.tags["podium.study"] == "search-1234"
    ]
    return str(run.info.run_id)


def _double(project: Project, run_id: str, later: int = 1) -> str:
    """What a process leaves that ends while a proxy has its call repeated: a run with the tags of another."""
    made = project.run(run_id)
    keys = ("podium.kind", "podium.id", "podium.retrain", "podium.project", "podium.study")
    tags: dict[str, str] = {key: made.data.tags[key] for key in keys if key in made.data.tags}
    double = project.client.create_run(made.info.experiment_id, made.info.start_time + later, tags, made.info.run_name)
    return str(double.info.run_id)


DAMAGES: dict[str, tuple[Callable[[Project], Any], str]] = {
    "double": (lambda p: _double(p, p.parent), "runs of search-1234"),
    "retraining's double": (lambda p: _double(p, p.retrained), "runs of retrain"),
    "value": (lambda p: p.client.log_metric(p.parent, "best_objective", 9.0, LATER), "best_objective of search-1234"),
    "confirmed": (
        lambda p: p.client.log_metric(p.parent, "confirmed_mean", 9.0, step=0),
        "confirmed_mean at step 0 of search-1234",
    ),
    "status": (lambda p: p.client.update_run(p.parent, status="RUNNING"), "status of search-1234"),
    "name": (lambda p: p.client.update_run(p.parent, name="mine"), "name of search-1234"),
    "tag": (lambda p: p.client.delete_tag(p.parent, "podium.source"), "tag podium.source of search-1234"),
    "selected": (
        lambda p: p.client.set_tag(p.parent, "podium.selected_trial", "0"),
        "tag podium.selected_trial of search-1234",
    ),
    "note": (lambda p: p.client.delete_tag(p.parent, "mlflow.note.content"), "note of search-1234"),
    "artifact": (
        lambda p: p.artifact(p.parent, "report/index.html").unlink(),
        "artifact report/index.html of search-1234",
    ),
    "artifact changed": (
        lambda p: p.artifact(p.parent, "audit/audit.json").write_text("[]"),
        "artifact audit/audit.json of search-1234",
    ),
    "retraining's status": (lambda p: p.client.set_terminated(p.retrained, "FAILED"), "status of retrain"),
    "retraining's value": (
        lambda p: p.client.log_metric(p.retrained, "val_loss", 9.0, LATER - 1, 2),
        "val_loss at step 2 of retrain",
    ),
    "retraining deleted": (lambda p: p.client.delete_run(p.retrained), "run retrain"),
    "trial's parent": (
        lambda p: p.client.set_tag(_child(p), "mlflow.parentRunId", "nowhere"),
        "tag mlflow.parentRunId",
    ),
    "trial's name": (lambda p: p.client.update_run(_child(p), name="mine"), "name"),
    "trial deleted": (lambda p: p.client.delete_run(_child(p)), "runs"),
}


def test_what_was_written_is_no_difference(project: Project) -> None:
    assert project.check() == []
    project.sync()
    assert project.check() == []
    assert len(runs_of(connect(project.params), "search-1234")) == 4


@pytest.mark.parametrize(("damage", "what"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_written_again(project: Project, damage: Callable[[Project], Any], what: str) -> None:
    damage(project)
    assert what in [one.what for one in project.check()]
    project.sync()
    assert project.check() == []
    project.report()


@pytest.mark.parametrize(
    ("which", "tag", "opened_first"),
    [
        *(("search", tag, tag == "podium.id") for tag in ("podium.id", "podium.kind", "podium.study")),
        *(("retraining", tag, tag == "podium.kind") for tag in ("podium.retrain", "podium.kind", "podium.project")),
        ("trial", "podium.id", False),
    ],
)
def test_run_whose_tags_somebody_changed_gets_them_back_and_no_double(
    project: Project, which: str, tag: str, opened_first: bool
) -> None:
    own = {"search": project.parent, "retraining": project.retrained, "trial": _child(project)}[which]
    runs = project.client.search_runs([project.run().info.experiment_id])
    before = project.run(own).data.tags[tag]
    record = recorded_run.of_run(own)
    project.client.set_tag(own, tag, "mine")
    assert f"tag {tag}" in str(project.check())
    if opened_first and record is not None:
        recorded_run.RecordedRun.open(connect(project.params), record.name, record.identity)
    project.sync()
    assert project.check() == []
    assert project.run(own).data.tags[tag] == before
    assert len(project.client.search_runs([project.run().info.experiment_id])) == len(runs)


def test_run_in_an_experiment_that_somebody_renamed_is_named_before_another_one_is_made(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.client.rename_experiment(project.run().info.experiment_id, "ours")
    project.sync()
    said = capsys.readouterr().err
    assert (
        f"the run {project.parent} of search-1234 is in the experiment 'ours'; tracking.experiment is 'podium'" in said
    )
    assert "set tracking.experiment to 'ours'" in said
    assert project.run().info.lifecycle_stage == "active"
    project.sync()
    assert capsys.readouterr().err == ""


def test_run_that_is_anothers_by_now_is_left_to_it(project: Project) -> None:
    project.client.set_tag(project.parent, "podium.id", "a" * 32)
    project.sync()
    assert project.check() == []
    assert project.run().data.tags["podium.id"] == "a" * 32
    assert len({run.data.tags["mlflow.parentRunId"] for run in project.children()} | {project.parent}) == 2


def test_empty_double_is_moved_aside_and_one_with_content_stays(project: Project) -> None:
    empty, copy = _double(project, project.parent), _double(project, project.parent)
    project.client.log_metric(copy, "mine", 1.0)
    before = project.run(copy).to_dictionary()
    project.sync()
    tags = project.run(empty).data.tags
    assert (project.run(empty).info.status, tags["podium.kind"]) == ("KILLED", "superseded")
    assert "response was lost" in tags["podium.superseded"]
    assert project.run(empty).info.lifecycle_stage == "active"
    assert project.run(copy).to_dictionary() == before
    assert project.check() == []


@pytest.mark.parametrize("which", ["parent", "retrained"])
def test_older_run_with_the_same_tags_does_not_take_the_place_of_the_recorded_one(project: Project, which: str) -> None:
    own, day = getattr(project, which), 24 * 3600 * 1000
    older = _double(project, own, -day)
    record = recorded_run.of_run(own)
    assert record is not None
    assert recorded_run.RecordedRun.open(connect(project.params), record.name, record.identity).run_id == own
    assert [one.what for one in project.check()] == [f"runs of {record.name}"]
    project.sync()
    assert project.check() == []
    assert recorded_run.run_now(own) == own
    kinds = [project.run(one).data.tags["podium.kind"] for one in (own, older)]
    assert kinds == [record.identity["podium.kind"], "superseded"]
    project.lose(own)  # any other will do
    spare = project.client.create_run(project.run(older).info.experiment_id, tags=record.identity).info.run_id
    assert recorded_run.RecordedRun.open(connect(project.params), record.name, record.identity).run_id == spare


def test_names_that_people_gave_stay_in_a_tag(project: Project) -> None:
    child = _child(project)
    for run_id in (project.parent, child):
        project.client.update_run(run_id, name="mine")
    project.sync()
    assert project.run(child).info.run_name == "trial-000 · 0.0300"
    assert [project.run(one).data.tags["podium.former_name"] for one in (project.parent, child)] == ["mine", "mine"]


def test_deleted_parent_is_restored_with_what_people_wrote_on_it(project: Project) -> None:
    project.client.set_tag(project.parent, "mine", "yes")
    project.client.delete_run(project.parent)
    with pytest.raises(PodiumError, match="was deleted in .* `podium sync` restores the run"):
        project.report()
    project.sync()
    assert project.check() == []
    assert project.run().data.tags["mine"] == "yes"
    assert project.run().info.lifecycle_stage == "active"
    project.report()


def test_parent_that_is_lost_is_made_again_with_every_child_and_artifact(project: Project) -> None:
    before = project.run()
    project.lose(project.parent)
    assert [one.what for one in project.check()] == ["run search-1234"]
    project.sync()
    assert project.check() == []
    new = project.run(project.children()[0].data.tags["mlflow.parentRunId"])
    assert new.info.run_id != project.parent
    assert {run.data.tags["mlflow.parentRunId"] for run in project.children()} == {new.info.run_id}
    assert new.data.tags["podium.replaces"] == project.parent
    assert new.data.metrics == before.data.metrics
    assert (new.info.status, new.info.run_name) == (before.info.status, before.info.run_name)
    assert images_of(new) == images_of(before) == [("tiny", DIGEST[:32])]
    assert project.artifacts(new.info.run_id, "report") == ["report/index.html"]
    project.page.write_text("another report", encoding="utf-8")
    project.report()  # data/search/best.json names the run that is lost
    assert project.artifact(new.info.run_id, "report/index.html").read_text() == "another report"
    assert project.check() == []


def test_lost_retraining_is_made_again_and_gets_its_evaluation_later(project: Project) -> None:
    before = project.run(project.retrained)
    project.lose(project.retrained)
    project.sync()
    assert project.check() == []
    new = project.run(recorded_run.run_now(project.retrained))
    assert (new.data.params, new.data.metrics) == (before.data.params, before.data.metrics)
    assert new.data.tags[RETRAIN_TAG] == "retrain-1"


def test_artifact_that_the_project_no_longer_has_is_said_once(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.page.write_text("of another search", encoding="utf-8")
    project.artifact(project.parent, "report/index.html").unlink()
    project.sync()
    assert "report/index.html of run " in capsys.readouterr().out
    assert project.check() == []


class OddError(Exception):
    """As boto has them, which are neither MLflow's nor the operating system's."""


def test_artifact_in_a_store_with_errors_of_its_own_is_missed_or_unreadable(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*arguments: Any, **named: Any) -> Any:
        raise OddError("404 or worse")

    monkeypatch.setattr(MlflowClient, "download_artifacts", odd)
    with pytest.raises(PodiumError, match=r"MLflow refuses it: .*can't be read: OddError: 404 or worse"):
        project.check()
    for path in ("report/index.html", "audit/audit.json"):
        project.artifact(project.parent, path).unlink()
    project.artifact(project.retrained, "retrain/history.csv").unlink()
    found = [one.what for one in project.check()]
    assert "artifact report/index.html of search-1234" in found
    monkeypatch.setattr(MlflowClient, "log_artifact", odd)
    with pytest.raises(PodiumError, match="can't be given the report: report/index.html can't be logged: OddError"):
        project.report()


def test_artifact_that_was_removed_is_neither_there_nor_missed(project: Project) -> None:
    run = recorded_run.recorded(connect(project.params), project.retrained)
    folder = paths.RETRAINED
    for name in ("abstain.json", "kept.json"):
        (folder / name).write_text("{}", encoding="utf-8")
        run.log_file(folder / name, "evaluation")
    run.remove_files("evaluation", ["abstain.json", "never.json"])
    assert project.artifacts(project.retrained, "evaluation") == ["evaluation/kept.json"]
    assert project.check() == []
    project.sync()
    assert project.artifacts(project.retrained, "evaluation") == ["evaluation/kept.json"]


def test_evaluation_is_logged_where_a_store_removes_no_files(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded_run.recorded(connect(project.params), project.retrained)
    folder = paths.RETRAINED
    for name in ("abstain.json", "coverage.csv", "new.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    for name in ("abstain.json", "coverage.csv"):
        run.log_file(folder / name, "evaluation")

    def refuses(self: Any, path: str) -> None:
        raise NotImplementedError

    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", refuses)
    obsolete = ["abstain.json", "coverage.csv"]
    measured = measure(np.arange(4) % 2, np.eye(2, dtype=np.float32)[[0, 1, 1, 1]] * 0.8 + 0.1, ["0", "1"])
    log_evaluation(project.params, project.retrained, measured, [folder / "new.json"], {"podium.x": "y"}, obsolete)
    assert "evaluation/new.json" in project.artifacts(project.retrained, "evaluation")
    said = capsys.readouterr().err
    assert f"evaluation/abstain.json, evaluation/coverage.csv of run {project.retrained} are of an earlier" in said
    assert project.check() == []


def test_every_trial_has_its_images_and_its_origin(project: Project) -> None:
    for run in project.children():
        assert images_of(run) == [("tiny", DIGEST[:32])]
        assert run.data.tags["mlflow.user"]
        assert run.data.tags["mlflow.source.name"]


def test_damaged_record_stops_no_other(project: Project) -> None:
    (file,) = recorded_run.files(["retrain"])
    file.write_text("{", encoding="utf-8")
    project.client.update_run(project.parent, status="RUNNING")
    failed: list[tuple[str, str]] = []
    found = sync_all(project.params, repair=True, failed=lambda name, error: failed.append((name, str(error))))
    assert [one.what for one in found["search-1234"]] == ["status of search-1234"]
    assert [name for name, _ in failed] == ["retrain-1"]
    assert "remove it" in failed[0][1]


def test_record_holds_what_its_run_got(project: Project) -> None:
    (file,) = recorded_run.files(["search"])
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["status"] == "FINISHED"
    assert content["artifacts"]["report/index.html"][0] == hashlib.sha256(b"the report").hexdigest()


@pytest.mark.parametrize("asked", [False, True], ids=["as it is", "a user wants bars"])
def test_artifacts_are_read_and_written_without_bars_of_progress(
    project: Project, asked: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if asked:
        monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    capfd.readouterr()
    assert sync_all(project.params, repair=False)["search-1234"] == []
    shown = capfd.readouterr()
    assert ("artifacts" in shown.err) == asked
    assert shown.out == ""
