"""A registered version reproduced from its commit, its changes, its data and its seeds; then the folder moves."""

import shutil
from pathlib import Path

import pytest

from pipeline import SHRUNK, Clone
from podium.config.params import TrackingParams
from podium.errors import InputError
from podium.registry.reproduction import reproduce
from podium.registry.versions import LINEAGE_DIGEST, Version, folder_digest
from podium.tracking.store import connect

SMALL = SHRUNK | {"search.n_trials": 2, "select.top_k": 1, "select.seeds": 1, "retrain.profile_steps": 0}
NAME = "digits-classifier"


@pytest.mark.slow
def test_version_is_made_again_bit_for_bit_and_follows_a_move(tmp_path: Path, mlflow_template: Path) -> None:
    clone = Clone(tmp_path / "project", SMALL, mlflow_template)
    model = clone.folder / "src/podium/training/seeds.py"
    model.write_text(model.read_text(encoding="utf-8").replace("\\x1f", "\\x1e"), encoding="utf-8")  # other seeds
    (clone.folder / "src/podium/new.txt").write_text("not committed\n", encoding="utf-8")
    (clone.folder / "notes.txt").write_text("not kept, and nothing depends on it\n", encoding="utf-8")
    clone.run("dvc", "repro", "register")
    assert "this folder matches digits-classifier version 1" in clone.run("podium", "verify", "1")
    assert "uncommitted changes 2 files" in clone.run("podium", "lineage", "1")
    assert "was reproduced: the same weights, bit for bit" in clone.run("podium", "reproduce", "1")

    (clone.folder / "src/podium/new.txt").unlink()
    assert "uncommitted changes" in clone.run("podium", "verify", "1", code=1)
    # What was trained is no longer what a commit says: the seed in the kept parameters is another one.
    client = connect(TrackingParams(uri=f"sqlite:///{clone.folder}/mlruns/mlflow.db")).client
    version = client.get_model_version(NAME, "1")
    run = str(version.run_id)
    kept = Path(client.download_artifacts(run, version.tags["lineage"], str(tmp_path))) / "params.yaml"
    text = kept.read_text(encoding="utf-8")
    client.log_text(run, text.replace("seed: 0", "seed: 7"), f"{version.tags['lineage']}/params.yaml")
    assert "was changed after it was registered" in clone.run("podium", "reproduce", "1", code=1)
    kept.write_text(text.replace("seed: 0", "seed: 7"), encoding="utf-8")
    client.set_model_version_tag(NAME, "1", LINEAGE_DIGEST, folder_digest(kept.parent))
    said = clone.run("podium", "reproduce", "1", code=1)
    assert "seed: 0 -> 7" in said
    assert "was not reproduced: other weights" in said

    clone.folder.rename(tmp_path / "moved")
    moved = object.__new__(Clone)
    moved.folder = tmp_path / "moved"
    assert "stored paths changed from" in moved.run("podium", "relocate")
    assert "nothing to do" in moved.run("podium", "relocate")
    assert "is the champion now" in moved.run("podium", "promote", "--force", "--reason", "a small model")
    shutil.rmtree(moved.folder / ".dvc/cache")
    assert "the data is not in DVC's cache: `dvc pull` fetches it" in moved.run("podium", "reproduce", code=1)


def test_version_whose_run_kept_nothing_can_not_be_reproduced(store: TrackingParams, tmp_path: Path) -> None:
    version = Version("tiny", 1, "0" * 32, "", {"git_commit": "c" * 40}, ())
    with pytest.raises(InputError, match="tiny version 1 can't be reproduced: its run holds no params.yaml"):
        reproduce(connect(store), version, tmp_path)
