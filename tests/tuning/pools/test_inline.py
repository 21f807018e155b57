from pathlib import Path

import pytest

import tiny
from podium.config.params import RuntimeParams
from podium.errors import PodiumError
from podium.tuning.pools.inline import open_inline
from tuning.scripted import states
from tuning.sessions import Killer, search

INLINE = RuntimeParams(engine="inline", device="cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


def test_images_that_cannot_be_loaded_end_the_search_and_charge_no_trial(prepared: Path, tmp_path: Path) -> None:
    message = r"no worker can begin a trial \(10 in a row could not\): trial 0: .*dataset.json is missing"
    with pytest.raises(PodiumError, match=message):
        search(tmp_path, open_inline(tmp_path / "nowhere", INLINE), 2)
    assert states(search(tmp_path, open_inline(prepared, INLINE), 2)) == ["COMPLETE"] * 2


def test_closing_ends_a_trial_in_its_middle(prepared: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError("enough")

    pool = open_inline(prepared, INLINE)
    with pytest.raises(StopError, match="enough"):
        search(tmp_path, pool, 2, Killer(0, 1, stop))
    assert not pool._thread.is_alive()
