"""podium sync and podium gc over a journal with studies in it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import photos
import tiny
import trials
from podium import cli, paths
from podium.config.params import TrackingParams
from podium.data.dataset import DatasetInfo, open_split
from podium.data.decode import Preprocess
from podium.data.image_store import key_of, persistent_store, temporary_store
from podium.errors import RefusedError
from podium.locks import locked
from podium.tracking.project_id import project_id
from podium.tracking.run_names import KIND_TAG, PROJECT_TAG, RETRAIN_TAG, STUDY_TAG
from podium.tracking.store import connect, find_or_create
from podium.tracking.trial_runs import runs_of
from podium.tuning.storage import open_storage
from podium.tuning.upkeep import leftovers, old_features, studies, sync_all


@pytest.fixture
def here(store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingParams:
    """A project with a study of each kind of trial, of which MLflow knows nothing."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "params.yaml").write_text(f'tracking: {{uri: "{store.uri}"}}\n', encoding="utf-8")
    trials.study_of_each_kind(open_storage(paths.mlruns() / "optuna.journal"))
    return store


def _podium(*arguments: str) -> int:
    try:
        cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_sync_brings_what_is_missing_and_then_finds_nothing(here: TrackingParams) -> None:
    found = sync_all(here, repair=True)
    assert [d.trial for d in found["search-1234"]] == [0, 1, 2, 3]
    assert sync_all(here, repair=False) == {"search-1234": []}
    assert len(runs_of(connect(here), "search-1234")) == 4


def test_sync_check_changes_nothing_and_exits_with_1(here: TrackingParams, capsys: pytest.CaptureFixture[str]) -> None:
    assert _podium("sync", "--check") == 1
    said = capsys.readouterr()
    assert "search-1234  0      runs  1           0" in said.out
    assert "4 differences; `podium sync` fixes them" in said.err
    assert runs_of(connect(here), "search-1234") == []
    assert _podium("sync") == 0
    assert "4 differences fixed" in capsys.readouterr().out
    assert _podium("sync", "--check") == 0
    assert "MLflow shows exactly what the studies hold (1 study)" in capsys.readouterr().out


def test_sync_check_lists_the_runs_that_were_moved_aside(
    here: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _podium("sync") == 0
    tracking = connect(here)
    (run,) = [run for run in runs_of(tracking, "search-1234") if run.data.tags["podium.trial"] == "3"]
    tracking.client.log_metric(run.info.run_id, "val_loss", 9.0, step=1)
    assert _podium("sync", "--check") == 1
    assert "moved aside" not in capsys.readouterr().out
    assert _podium("sync") == 0
    assert f"run {run.info.run_id} of trial 3 is moved aside" in capsys.readouterr().out
    assert _podium("sync", "--check") == 0
    out = capsys.readouterr().out
    assert "moved aside, since what they hold contradicts their study (1):" in out
    assert f"search-1234 trial 3: run {run.info.run_id}, val_loss at step 1 is " in out
    assert tracking.client.get_run(run.info.run_id).info.run_name == "trial-003 · 0.0600 (superseded)"


def test_run_of_a_killed_search_or_retraining_does_not_stay_running(
    here: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = connect(here)
    sync_all(here, repair=True)
    retraining = {RETRAIN_TAG: "retrain-12", KIND_TAG: "retrain"}
    opened = [
        find_or_create(tracking, "search-1234", {STUDY_TAG: "search-1234", KIND_TAG: "search"}),
        find_or_create(tracking, "retrain", retraining | {PROJECT_TAG: project_id()}),
        find_or_create(tracking, "retrain", retraining | {PROJECT_TAG: "another clone"}),
    ]
    for run_id in opened:
        tracking.client.update_run(run_id, status="RUNNING")
    with locked(paths.lock("retrain-12")):
        pass  # it once was at work here
    assert _podium("sync", "--check") == 1
    said = capsys.readouterr()
    assert "retrain-12          status of retrain      nobody works on it  RUNNING" in said.out
    assert "2 differences" in said.err
    assert _podium("sync") == 0
    assert [tracking.client.get_run(run_id).info.status for run_id in opened] == ["KILLED", "KILLED", "RUNNING"]
    assert _podium("sync", "--check") == 0


def test_sync_leaves_the_run_of_a_retraining_that_is_at_work_alone(here: TrackingParams) -> None:
    tracking = connect(here)
    tags = {
        RETRAIN_TAG: "retrain-12",
        KIND_TAG: "retrain",
        STUDY_TAG: "search-1234",
        PROJECT_TAG: project_id(),
    }  # it names its search
    run_id = find_or_create(tracking, "retrain", tags)
    tracking.client.update_run(run_id, status="RUNNING")
    with locked(paths.lock("retrain-12")):
        for repair in (False, True):
            with pytest.raises(RefusedError, match="the retraining is already under way: process "):
                sync_all(here, repair=repair)
        assert tracking.client.get_run(run_id).info.status == "RUNNING"
    assert [len(lines) for lines in sync_all(here, repair=True).values()] == [0, 1]
    assert tracking.client.get_run(run_id).info.status == "KILLED"


def test_sync_while_the_search_runs_is_refused_with_its_holder(here: TrackingParams) -> None:
    with (
        locked(paths.mlruns() / "locks" / "search-1234.lock"),
        pytest.raises(RefusedError, match="the search search-1234 is already under way: process "),
    ):
        sync_all(here, repair=True)


def test_sync_without_a_study_finds_nothing(store: TrackingParams) -> None:
    assert studies(paths.mlruns() / "optuna.journal") == []
    assert sync_all(store, repair=True) == {}


@pytest.mark.usefixtures("here")
def test_gc_frees_what_no_trial_will_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    folder = paths.mlruns() / "checkpoints"
    needed = [folder / "search-1234" / "000004.ckpt", folder / "retrain-12.ckpt"]  # trial 4 is running
    gone = [
        folder / "search-1234" / "000001.ckpt",
        folder / "search-1234" / "000004.ckpt.77.tmp",
        folder / "search-of-old" / "000000.ckpt",
    ]
    for path in (*needed, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    assert {leftover.path for leftover in leftovers()} == set(gone)
    assert _podium("gc", "--dry-run") == 0
    assert "3,000  bytes would be freed in 3 files" in capsys.readouterr().out
    assert all(path.exists() for path in (*needed, *gone))
    assert _podium("gc") == 0
    assert "3,000  bytes freed in 3 files" in capsys.readouterr().out
    assert [path.exists() for path in (*needed, *gone)] == [True, True, False, False, False]


@pytest.mark.usefixtures("here")
def test_gc_frees_features_of_images_that_are_not_prepared_now(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(paths.root())
    folder = paths.mlruns() / "features"
    folder.mkdir(parents=True)
    assert list(old_features()) == []
    tiny.prepare(paths.PREPARED)
    train = open_split(paths.PREPARED / "train").digest
    for key, images in (("now", train), ("subset", f"{train} 40"), ("old", "0" * 64), ("held", "0" * 64)):
        save_file({"features": np.zeros((2, 3))}, folder / f"{key}.safetensors", {"images": images})
        (folder / f"{key}.lock").touch()
    (folder / "now.77.tmp").write_bytes(b"half")
    (folder / "before.safetensors").write_bytes(b"of an earlier Podium")
    with locked(folder / "held.lock"):
        assert _podium("gc", "--dry-run") == 0
        assert len(list(folder.glob("*.safetensors"))) == 5
        assert "features held is running: its files are kept" in capsys.readouterr().out
        assert _podium("gc") == 0
    assert {path.stem for path in folder.glob("*.safetensors")} == {"now", "subset", "held"}
    assert not list(folder.glob("*.tmp"))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("at_work", "stays"),
    [
        ("search-1234", {"search-1234/000001.ckpt", "search-1234/000004.ckpt.77.tmp"}),
        ("retrain-1", {"retrain-1.ckpt.7.tmp"}),
    ],
)
def test_gc_leaves_what_a_search_or_a_retraining_at_work_may_be_writing(
    at_work: str, stays: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paths.mlruns() / "checkpoints"
    leftover = {
        *("search-1234/000001.ckpt", "search-1234/000004.ckpt.77.tmp", "search-of-old/000000.ckpt"),
        *("retrain-1.ckpt.7.tmp", "retrain-12.ckpt.7.tmp"),
    }
    for name in leftover:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with locked(paths.lock(at_work)):
        assert _podium("gc") == 0
    assert f"{at_work} is running: its files are kept" in capsys.readouterr().out
    assert {name for name in leftover if (folder / name).exists()} == stays
    assert _podium("gc") == 0
    assert not any((folder / name).exists() for name in leftover)


@pytest.mark.usefixtures("here")
def test_gc_holds_the_lock_of_what_it_looks_at() -> None:
    path = paths.mlruns() / "checkpoints" / "search-1234" / "000001.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    for _ in leftovers():
        with pytest.raises(RefusedError), locked(paths.lock("search-1234")):
            pass


@pytest.mark.usefixtures("here")
def test_gc_frees_images_that_were_decoded_to_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = Preprocess(3, 64, 64)
    used, other = paths.decoded() / key_of(spec) / "pixels", paths.decoded() / key_of(Preprocess(3, 32, 32)) / "pixels"
    for path in (used, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 500)
    assert _podium("gc") == 0  # nothing is prepared: who knows which of them will be wanted
    assert (used.exists(), other.exists()) == (True, True)
    info = DatasetInfo("folder", ["a", "b"], [3, 64, 64], {}, [0.3] * 3, [0.3] * 3, "0" * 64, spec.to_dict())
    paths.PREPARED.mkdir(parents=True)
    info.write(paths.PREPARED)
    assert _podium("gc") == 0
    assert "500  bytes freed in 1 file" in capsys.readouterr().out
    assert (used.exists(), other.exists()) == (True, False)


@pytest.mark.usefixtures("here")
def test_gc_counts_only_what_it_frees(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = paths.mlruns() / "checkpoints" / "search-of-old"
    folder.mkdir(parents=True)
    one, linked, twice, again, holes = (folder / f"00000{n}.ckpt" for n in range(5))
    for path in (one, linked, twice):
        path.write_bytes(b"x" * 1000)
    (tmp_path / "cache").hardlink_to(linked)
    again.hardlink_to(twice)
    with holes.open("wb") as file:
        file.truncate(10_000_000)
    for words in (["--dry-run"], []):
        assert _podium("gc", *words) == 0
        out = capsys.readouterr().out
        assert f"2,000  bytes {'would be freed' if words else 'freed'} in 5 files" in out
        assert out.count("000001.ckpt (its 1,000 bytes have 1 other name)") == 1
        assert out.count("000002.ckpt (its 1,000 bytes have 1 other name)") == 1
        assert out.count("       1,000  mlruns") == 2
    assert (tmp_path / "cache").read_bytes() == b"x" * 1000


@pytest.fixture
def stores(here: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, Path]:
    """The indexes of stores by size: 64 is prepared, 32 is what params.yaml says, 16 is neither."""
    monkeypatch.chdir(tmp_path)
    root = photos.folder(tmp_path / "photos", per_class=2)
    section = f"prepare: {{source: 'folder:{root}', root: '{root}', size: 32}}\n"
    with (tmp_path / "params.yaml").open("a", encoding="utf-8") as file:
        file.write(section)
    specs = {size: Preprocess(3, size, size) for size in (64, 32, 16)}
    for spec in specs.values():
        with persistent_store(paths.decoded(), spec):
            pass
    info = DatasetInfo("folder", ["a", "b"], [3, 64, 64], {}, [0.3] * 3, [0.3] * 3, "0" * 64, specs[64].to_dict())
    paths.PREPARED.mkdir(parents=True)
    info.write(paths.PREPARED)
    return {size: paths.decoded() / key_of(spec) / "index.sqlite" for size, spec in specs.items()}


def _left(stores: dict[int, Path]) -> set[int]:
    return {size for size, path in stores.items() if path.exists()}


def test_gc_keeps_what_was_decoded_for_params_as_they_are_now(stores: dict[int, Path]) -> None:
    assert _podium("gc", "--dry-run") == 0
    assert _left(stores) == {64, 32, 16}
    assert _podium("gc") == 0
    assert _left(stores) == {64, 32}


def test_gc_leaves_decoded_images_that_are_in_use(stores: dict[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    large, small = Preprocess(3, 16, 16), Preprocess(1, 8, 8)
    with persistent_store(paths.decoded(), large), temporary_store(paths.decoded(), small):
        assert _podium("gc") == 0
        (other,) = paths.decoded().glob("tmp*/pixels")
        assert other.exists()
    assert capsys.readouterr().out.count("is running: its files are kept") == 2
    assert _left(stores) == {64, 32, 16}
    assert not other.exists()
    assert _podium("gc") == 0
    assert _left(stores) == {64, 32}


def test_gc_leaves_all_decoded_images_where_the_source_cannot_be_read(
    stores: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert _podium("gc") == 0
    assert "decoded images are kept: prepare.source: " in capsys.readouterr().out
    assert _left(stores) == {64, 32, 16}


def test_gc_frees_a_store_for_the_time_being_that_a_killed_prepare_left(stores: dict[int, Path]) -> None:
    left = paths.decoded() / "tmp1234"
    left.mkdir()
    for name in ("lock", "pixels", "thumbs"):
        (left / name).write_bytes(b"x")
    assert _podium("gc") == 0
    assert list(left.iterdir()) == []
