import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from podium.training.checkpoint import HEADER, TornCheckpointError, load, save

STATE = {"weights": torch.arange(3.0), "epoch": 3, "history": [{"epoch": 1, "train_loss": 0.5}], "none": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "000007.ckpt"
    save(path, "trial 7", STATE)
    return path


def test_checkpoint_read_is_what_was_written(path: Path) -> None:
    state = load(path, "trial 7")
    assert state is not None
    assert state.pop("weights").tolist() == [0.0, 1.0, 2.0]
    assert state == {name: value for name, value in STATE.items() if name != "weights"}


def test_checkpoint_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "no.ckpt", "trial 7") is None


def test_checkpoint_torn_anywhere_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    header = len(HEADER) + 64 + 1
    places = [0, 1, len(HEADER), header - 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]
    for length in places:
        path.write_bytes(whole[:length])
        with pytest.raises(TornCheckpointError, match=r"000007.ckpt is torn"):
            load(path, "trial 7")


def test_checkpoint_with_something_behind_it_is_noticed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TornCheckpointError, match="its checksum does not match"):
        load(path, "trial 7")


def test_checkpoint_with_a_byte_changed_anywhere_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(TornCheckpointError, match="is torn"):
            load(path, "trial 7")


def test_checkpoint_of_another_run_is_refused(path: Path) -> None:
    with pytest.raises(TornCheckpointError, match=r"belongs to another run \(trial 7, not trial 8\)"):
        load(path, "trial 8")


def test_checkpoint_written_again_replaces_the_first(path: Path) -> None:
    save(path, "trial 7", {"epoch": 4})
    assert load(path, "trial 7") == {"epoch": 4}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_leftover_of_a_killed_write_disturbs_nothing(path: Path) -> None:
    (path.parent / f"{path.name}.0123abcd.tmp").write_bytes(b"half of")
    save(path, "trial 7", {"epoch": 4})
    assert load(path, "trial 7") == {"epoch": 4}


@pytest.mark.parametrize("fails", ["os.fsync", "pathlib.Path.replace"])
def test_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fails, full)
    with pytest.raises(OSError, match="No space left"):
        save(path, "trial 7", {"epoch": 4})
    state = load(path, "trial 7")
    assert state is not None
    assert state["epoch"] == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_checkpoint_with_code_in_it_is_not_run(path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path.parent / "boom"),)

    save(path, "trial 7", {"bomb": Bomb()})
    with pytest.raises(Exception, match="weights_only"):
        load(path, "trial 7")
    assert not (path.parent / "boom").exists()


@pytest.mark.parametrize("written", [0, 1, 3])
def test_checkpoint_that_is_abandoned_leaves_the_one_before(path: Path, written: int) -> None:
    left = written

    def abandoned() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    assert not save(path, "trial 7", STATE | {"epoch": 4}, abandoned)
    state = load(path, "trial 7")
    assert state is not None
    assert state["epoch"] == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]
