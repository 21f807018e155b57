from pathlib import Path

import pytest

import tiny
from podium.params import RuntimeParams
from podium.search.inline import open_inline
from search.scripted import Recorder, states
from search.sessions import Killer, curves, search

INLINE = RuntimeParams(engine="inline", device="cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


def test_trials_are_trained_one_after_the_other(prepared: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    study = search(tmp_path, open_inline(prepared, INLINE), 2, recorder)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert recorder.told == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert list((tmp_path / "checkpoints").glob("*")) == []


@pytest.mark.parametrize("epoch", [1, 5])
def test_interrupted_trial_goes_on_bit_for_bit(prepared: Path, tmp_path: Path, epoch: int) -> None:
    undisturbed = search(tmp_path / "a", open_inline(prepared, INLINE), 2)
    signals: list[int] = []
    killer = Killer(0, epoch, lambda: signals.append(15))
    paused = search(tmp_path / "b", open_inline(prepared, INLINE), 2, killer, lambda: bool(signals))
    assert states(paused) == ["RUNNING"]
    assert (tmp_path / "b" / "checkpoints" / "000000.ckpt").is_file()
    recorder = Recorder()
    resumed = search(tmp_path / "b", open_inline(prepared, INLINE), 2, recorder)
    assert curves(resumed) == curves(undisturbed)
    assert recorder.lines[0] == "trial 0 was left running and goes on"
    assert recorder.lines[1].startswith("trial 0 goes on from epoch ")


def test_images_that_cannot_be_loaded_fail_the_trials_and_say_so(tmp_path: Path) -> None:
    study = search(tmp_path, open_inline(tmp_path / "nowhere", INLINE), 2)
    assert states(study) == ["FAIL", "FAIL"]
    assert "dataset.json is missing: run `dvc repro prepare`" in study.trials[0].user_attrs["reason"]


def test_closing_ends_a_trial_in_its_middle(prepared: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError("enough")

    pool = open_inline(prepared, INLINE)
    with pytest.raises(StopError, match="enough"):
        search(tmp_path, pool, 2, Killer(0, 1, stop))
    assert not pool._thread.is_alive()
