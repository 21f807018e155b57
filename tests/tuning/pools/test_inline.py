from pathlib import Path

import pytest

import tiny
from podium.config.params import RuntimeParams
from podium.tuning.pools.inline import open_inline
from tuning.scripted import states
from tuning.sessions import Killer, search

INLINE = RuntimeParams(engine="inline", device="cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


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
