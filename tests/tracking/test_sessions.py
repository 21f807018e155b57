"""A copied project on the tracking store of the original: noticed, and given runs of its own on request."""

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

import trials
from podium import cli, paths
from podium.config.params import TrackingParams
from podium.errors import RefusedError
from podium.tracking import recorded_run
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.search_run import log_to_search
from podium.tracking.store import connect, project_id
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
    with pytest.raises(RefusedError, match=r"\(5 trials ended\) .* \(6 trials\) do not belong together.*--as-copy"):
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


def test_copy_that_goes_on_first_goes_on_and_a_moved_folder_too(
    store: TrackingParams, folders: dict[str, Callable[[], optuna.Study]], tmp_path: Path
) -> None:
    folders["copy"]()
    sync_all(store, repair=True)  # nothing differs: nobody has gone on
    (tmp_path / "copy").rename(tmp_path / "kept")
    (tmp_path / "original").rename(tmp_path / "copy")  # moved
    _search(store, folders["copy"]())
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
