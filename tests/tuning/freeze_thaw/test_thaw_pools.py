"""Freeze-thaw searches with real trainings: the same bits in each pool, and after real kills of workers and drivers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams
from podium.data import shards
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.pools import Pool
from podium.tuning.pools.inline import open_inline
from podium.tuning.pools.processes import ProcessPool, Setup
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.freeze_thaw.thawing import params_of
from tuning.scripted import Recorder
from tuning.sessions import Killer, curves

pytestmark = pytest.mark.slow
PARAMS = params_of(n_trials=12, max_epochs=44, deterministic=True, batch=3)
INLINE = RuntimeParams(engine="inline", device="cpu", checkpoint_seconds=1e-9)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return facts(session(tmp_path_factory.mktemp("undisturbed"), open_inline(prepared, INLINE)))


def session(folder: Path, pool: Pool, watcher: Recorder | None = None) -> optuna.Study:
    """Run one session over `pool`, which is closed in the end."""
    study = open_study(open_storage(folder / "optuna.journal"), "search", PARAMS, {})
    base = tiny.recipe(train__shift=1, model__dropout=0.2)
    try:
        ThawDriver(study, pool, PARAMS, INLINE, base, folder / "checkpoints", [watcher or Recorder()]).run()
    finally:
        pool.close()
    return study


def facts(study: optuna.Study) -> Any:
    """What two equal searches have in common: decisions, states, values and every epoch."""
    return [(one.trial, one.until, one.values) for one in decided.read(study)], curves(study)


def test_search_thaws_real_trainings_and_leaves_no_checkpoint(prepared: Path, tmp_path: Path, undisturbed: Any) -> None:
    study = session(tmp_path, open_inline(prepared, INLINE))
    assert facts(study) == undisturbed
    assert any(one.how == "thaw" for one in decided.read(study))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_killed_worker_changes_nothing(prepared: Path, tmp_path: Path, undisturbed: Any) -> None:
    pool = ProcessPool(2, Setup(str(prepared), "cpu", 1))

    def kill() -> None:
        busy = [w.process.pid for w in pool._workers if w.task is not None]
        os.kill(busy[0] or 0, signal.SIGKILL)

    watcher = Killer(2, 1, kill)
    assert facts(session(tmp_path, pool, watcher)) == undisturbed
    assert watcher.done


def test_ray_gives_the_same_bits_of_images_in_several_files(
    tmp_path: Path, undisturbed: Any, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podium.tuning.pools.ray_pool import RayPool

    monkeypatch.setattr(shards, "FILE_BYTES", 1000)
    prepared = tiny.prepare(tmp_path / "prepared", divided=True)
    assert len(list((prepared / "train").glob("images-*.npy"))) > 8
    assert facts(session(tmp_path, RayPool(prepared, two_nodes.runtime(workers=2), 2))) == undisturbed


def test_driver_killed_twice_changes_nothing(prepared: Path, tmp_path: Path, undisturbed: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from tuning.freeze_thaw import test_thaw_pools as one;"
        "import torch; torch.set_num_threads(1);"
        "one.session(Path(sys.argv[2]), one.open_inline(Path(sys.argv[1]), one.INLINE))"
    )
    journal = tmp_path / "optuna.journal"
    path = os.pathsep.join([str(Path(tiny.__file__).parent), *sys.path])
    for lines in (90, 200):
        command = [sys.executable, "-c", code, str(prepared), str(tmp_path)]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
        while process.poll() is None and (not journal.is_file() or journal.read_bytes().count(b"\n") < lines):
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert facts(session(tmp_path, open_inline(prepared, INLINE))) == undisturbed
