"""A copied project on the tracking store of the original: noticed, and given runs of its own on request."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

import tiny
import trials
from podium import cli, paths
from podium.config.params import TrackingParams
from podium.errors import RefusedError
from podium.locks import locked
from podium.tracking import recorded_run
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.project_id import project_id
from podium.tracking.retrain_run import RetrainRun
from podium.tracking.search_run import log_to_search
from podium.tracking.store import connect, search
from podium.tracking.trial_runs import runs_of
from podium.tuning.storage import open_storage
from podium.tuning.upkeep import sync_all


@pytest.fixture
def folders(
    store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Callable[[], optuna.Study]]:
    """Enters the original or its copy, both with one search that is in their common MLflow; returns their study."""
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "params.yaml").write_text(f'tracking: {{uri: "{store.uri}"}}\n', encoding="utf-8")

    def enter(name: str) -> optuna.Study:
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        return optuna.load_study(study_name="search-1234", storage=open_storage(paths.mlruns() / "optuna.journal"))

    monkeypatch.chdir(tmp_path / "original")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "original"))
    study = trials.study_of_each_kind(open_storage(paths.mlruns() / "optuna.journal"))
    _search(store, study)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    return {name: lambda name=name: enter(name) for name in ("original", "copy")}  # type: ignore[misc]


def _search(store: TrackingParams, study: optuna.Study) -> None:
    """One more trial, logged as a search does."""
    mirror = Mirror(study, store, Parent("search-1234", {}))
    mirror.check()
    study.add_trial(optuna.trial.create_trial(value=len(study.trials) / 10, user_attrs={"history": []}))
    mirror.close()
    assert mirror.error == ""


def _check() -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["sync", "--check"])
    return int(end.value.code or 0)


def test_copy_is_refused_once_the_original_went_on(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    _search(store, folders["original"]())
    study = folders["copy"]()
    with pytest.raises(
        RefusedError, match=r"\(5 trials ended\) .* \(6 trials\) do not belong together.*--as-copy.*--only-copy"
    ):
        sync_all(store, repair=True)
    mirror = Mirror(study, store, Parent("search-1234", {}))
    with pytest.raises(RefusedError, match="do not belong together"):
        mirror.check()
    mirror.close()
    with pytest.raises(RefusedError, match="do not belong together"):
        log_to_search(store, study, "search-1234", {"confirmed_mean": 0.5}, {})
    assert _check() == 1
    assert "sync --as-copy" in capsys.readouterr().err
    folders["original"]()
    cli.main(["sync", "--check"])


def test_copy_gets_runs_of_its_own_and_leaves_those_of_the_original(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]]
) -> None:
    _search(store, folders["original"]())
    study, project = folders["copy"](), project_id()
    cli.main(["sync", "--as-copy"])
    assert project_id() != project
    study = folders["copy"]()
    _search(store, study)
    cli.main(["sync", "--check"])
    tracking = connect(store)
    values = {
        name: sorted(run.data.metrics.get("objective", -1) for run in runs_of(tracking, folders[name]()))
        for name in folders
    }
    folders["original"]()
    cli.main(["sync", "--check"])
    assert [len(found) for found in values.values()] == [6, 6]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs_of(tracking, "search-1234")}) == 2


def test_only_folder_logs_each_trial_once_however_often_it_is_called_a_copy(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    study = folders["original"]()
    before = [run.info.run_id for run in runs_of(connect(store), "search-1234")]
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            cli.main(["sync", "--as-copy"])
        assert end.value.code == 1
        assert "sync --as-copy: nobody else has logged to" in capsys.readouterr().err
    assert [run.info.run_id for run in runs_of(connect(store), "search-1234")] == before
    _search(store, study)
    cli.main(["sync", "--check"])


@pytest.mark.parametrize("damage", ["", "run deleted"])
def test_restored_folder_goes_on_with_its_runs_on_request(
    damage: str, store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], tmp_path: Path
) -> None:
    (tmp_path / "copy").rename(tmp_path / "backup")
    study = folders["original"]()
    _search(store, study)
    tracking = connect(store)
    before = {run.info.run_id: run for run in runs_of(tracking, study)}
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in before.values()}
    if damage:
        tracking.client.delete_run(parent)
    shutil.rmtree(tmp_path / "original")
    shutil.copytree(tmp_path / "backup", tmp_path / "original")
    study = folders["original"]()
    assert _check() == 1
    cli.main(["sync", "--only-copy"])
    cli.main(["sync", "--check"])
    kept = {run.info.run_id for run in runs_of(tracking, study)}
    assert len(kept) == 5
    assert kept < before.keys()
    (lost,) = before.keys() - kept
    aside = tracking.client.get_run(lost)
    assert (aside.info.lifecycle_stage, aside.data.tags["podium.superseded"]) == (
        "active",
        "the study has no such trial",
    )
    _search(store, study)
    cli.main(["sync", "--check"])
    assert {run.data.tags["mlflow.parentRunId"] for run in runs_of(tracking, study)} == {parent}


def test_journal_that_lost_its_last_lines_goes_on_and_another_copy_is_refused_from_then_on(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = folders["original"]()
    journal = paths.mlruns() / "optuna.journal"
    size = journal.stat().st_size
    _search(store, study)
    with journal.open("r+b") as file:
        file.truncate(size)
    study = folders["original"]()
    mirror = Mirror(study, store, Parent("search-1234", {}))
    with pytest.raises(RefusedError, match="--as-copy.*--only-copy"):
        mirror.check()
    mirror.close()
    with _dying_at("podium.tuning.upkeep.sync_all", monkeypatch):
        cli.main(["sync", "--only-copy"])
    cli.main(["sync"])
    cli.main(["sync", "--check"])
    folders["copy"]()
    assert _check() == 1


def test_folder_at_work_or_half_separated_is_taken_over_by_nobody(
    store: TrackingParams,
    folders: dict[str, Callable[[], optuna.Study]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _search(store, folders["original"]())
    folders["copy"]()
    with locked(paths.lock("search-1234")), pytest.raises(SystemExit):
        cli.main(["sync", "--only-copy"])
    assert "already under way" in capsys.readouterr().err
    with _dying_at("podium.tuning.as_copy.set_study_id", monkeypatch):
        cli.main(["sync", "--as-copy"])
    with pytest.raises(SystemExit):
        cli.main(["sync", "--only-copy"])
    assert "has begun in this folder and not ended" in capsys.readouterr().err


def test_copy_that_goes_on_first_goes_on_and_a_moved_folder_too(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], tmp_path: Path
) -> None:
    folders["copy"]()
    sync_all(store, repair=True)  # nothing differs: nobody has gone on
    (tmp_path / "copy").rename(tmp_path / "kept")
    (tmp_path / "original").rename(tmp_path / "copy")  # moved
    _search(store, folders["copy"]())
    cli.main(["sync", "--check"])


@pytest.mark.parametrize(
    ("what", "first_write"),
    [
        ("note of the search's run", "podium.tracking.recorded_check.send"),
        ("name of the search's run", "mlflow.MlflowClient.update_run"),
        ("trial without a run", "podium.tracking.trial_runs.TrialRuns.log_ended"),
        ("status of a trial's run", "podium.tracking.repair._repair"),
    ],
)
def test_sync_that_is_killed_at_its_first_write_has_left_its_mark(
    what: str,
    first_write: str,
    store: TrackingParams,
    folders: dict[str, Callable[[], optuna.Study]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = folders["original"]()
    client = connect(store).client
    # of a trial that has ended: that of another may say KILLED, and trials of one millisecond come in any order
    run = next(one for one in runs_of(connect(store), study) if one.info.status == "FINISHED")
    {
        "note": lambda: client.delete_tag(run.data.tags["mlflow.parentRunId"], "mlflow.note.content"),
        "name": lambda: client.update_run(run.data.tags["mlflow.parentRunId"], name="mine"),
        "trial": lambda: study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"history": []})),
        "status": lambda: client.set_terminated(run.info.run_id, "KILLED"),
    }[what.partition(" ")[0]]()
    with _dying_at(first_write, monkeypatch):
        sync_all(store, repair=True)
    folders["copy"]()
    with pytest.raises(RefusedError, match="do not belong together"):
        sync_all(store, repair=False)
    folders["original"]()
    cli.main(["sync"])
    cli.main(["sync", "--check"])


@pytest.mark.parametrize("recorded", [False, True], ids=["", "with a mark in the record, as it was"])
def test_two_machines_with_one_storage_of_studies_both_agree_with_mlflow(
    recorded: bool, store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], tmp_path: Path
) -> None:
    journal = tmp_path / "copy" / "mlruns" / "optuna.journal"
    journal.unlink()
    journal.symlink_to(tmp_path / "original" / "mlruns" / "optuna.journal")
    for name in ("original", "copy", "original"):
        _search(store, folders[name]())
        if recorded:
            (file,) = recorded_run.files(["search"])
            record = recorded_run.read(file)
            record.tags["podium.session"] = name
            recorded_run.save(record)
    for name in ("copy", "original", "copy"):
        folders[name]()
        cli.main(["sync", "--check"])


@contextmanager
def _dying_at(function: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is within the block is killed when it calls `function`."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(function, killed)
        try:
            yield
        except KeyboardInterrupt:
            return
    raise AssertionError(f"{function} was not called")


@pytest.mark.parametrize("step", ["project_id.set_project_id", "recorded_run.save", "project_id.carried_out"])
def test_copy_whose_separation_was_killed_goes_on_with_it(
    step: str,
    store: TrackingParams,
    folders: dict[str, Callable[[], optuna.Study]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _search(store, folders["original"]())
    folders["copy"]()
    tags = {"podium.source": "tiny", "podium.data_digest": "d" * 64}
    with locked(paths.lock("retrain-1")):
        retrained = RetrainRun.open(store, "retrain-1", tags, tiny.recipe())
        retrained.end([])
    with _dying_at(f"podium.tracking.{step}", monkeypatch):
        cli.main(["sync", "--as-copy"])
    assert _check() == 1
    assert "has begun in this folder and not ended" in capsys.readouterr().err
    with pytest.raises(RefusedError, match="Run `podium sync --as-copy` again"):
        RetrainRun.open(store, "retrain-1", tags, tiny.recipe())
    study = folders["copy"]()
    mirror = Mirror(study, store, Parent("search-1234", {}))
    with pytest.raises(RefusedError, match="not ended"):
        mirror.check()
    mirror.close()
    cli.main(["sync", "--as-copy"])
    cli.main(["sync", "--check"])
    runs = search(connect(store), {"podium.retrain": "retrain-1", "podium.kind": "retrain"})
    assert [run.data.tags["podium.project"] == project_id() for run in runs] == [False, True]
    assert runs[0].info.run_id == retrained.run.record.run_id
    folders["original"]()
    cli.main(["sync", "--check"])


def test_run_of_a_search_that_is_deleted_meanwhile_is_restored_at_its_end(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]]
) -> None:
    study = folders["original"]()
    mirror = Mirror(study, store, Parent("search-1234", {}))
    mirror.check()
    connect(store).client.delete_run(mirror.parent_run_id or "")
    mirror.close()
    assert mirror.error == ""
    cli.main(["sync", "--check"])


def test_damaged_record_stops_no_search_and_is_kept(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    study = folders["original"]()
    (file,) = recorded_run.files(["search"])
    file.write_text("{", encoding="utf-8")
    _search(store, study)
    assert "is no longer compared by `podium sync`" in capsys.readouterr().err
    assert file.with_suffix(".damaged").read_text(encoding="utf-8") == "{"
    cli.main(["sync", "--check"])


def test_folder_that_never_logged_misses_no_record_and_leaves_the_run_its_end(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]]
) -> None:
    study = folders["original"]()
    client, (run, *_) = connect(store).client, runs_of(connect(store), study)
    client.set_terminated(parent := run.data.tags["mlflow.parentRunId"], "FAILED")
    shutil.rmtree(paths.mlruns() / "runs")
    cli.main(["sync", "--check"])
    client.delete_tag(run.info.run_id, "podium.state")
    client.update_run(parent, name="mine")
    cli.main(["sync"])
    assert client.get_run(parent).info.status == "FAILED"
    cli.main(["sync", "--check"])


def test_record_that_is_gone_is_a_difference_once(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    folders["original"]()
    (file,) = recorded_run.files(["search"])
    file.unlink()
    assert _check() == 1
    assert f"record {file.name}" in capsys.readouterr().out
    cli.main(["sync"])
    cli.main(["sync", "--check"])
