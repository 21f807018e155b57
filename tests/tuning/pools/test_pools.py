"""What every pool does, held against each of the three."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from podium.config.params import RuntimeParams
from podium.tuning.messages import Ended, Lost
from podium.tuning.pools import Pool, unless_broken
from tuning.scripted import Recorder, states
from tuning.sessions import Killer, curves, search

Open = Callable[[int], Pool]
"""Opens a pool with room for so many trials."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, object]:
    """What four trials come to."""
    from podium.tuning.pools.inline import open_inline

    inline = RuntimeParams(engine="inline", device="cpu")
    return curves(search(tmp_path_factory.mktemp("undisturbed"), open_inline(prepared, inline), 4))


@pytest.fixture(
    params=[
        "inline",
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.slow),
    ]
)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_pool(engine: str, prepared: Path, request: pytest.FixtureRequest) -> Open:
    if engine == "inline":
        from podium.tuning.pools.inline import open_inline

        return lambda capacity: open_inline(prepared, RuntimeParams(engine="inline", device="cpu"))
    if engine == "processes":
        from podium.tuning.pools.processes import ProcessPool, Setup

        return lambda capacity: ProcessPool(capacity, Setup(str(prepared), "cpu", 1))
    nodes = request.getfixturevalue("two_nodes")
    from podium.tuning.pools.ray_pool import RayPool

    return lambda capacity: RayPool(prepared, nodes.runtime(workers=capacity), capacity)


@pytest.mark.parametrize(
    ("how", "reason", "blamed"),
    [
        ("failed", "AcceleratorError: CUDA error: device-side assert triggered", True),
        ("failed", "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("failed", "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", False),
        ("failed", "out of memory: CUDA error: out of memory", False),
        ("failed", "ValueError: no", False),
        ("finished", "", False),
    ],
)
def test_worker_is_to_blame_for_its_device_alone(how: Any, reason: str, blamed: bool) -> None:
    ended = Ended(3, 2, how, reason=reason)
    lost = Lost(3, 2, f"its worker failed with a device error: {reason}")
    assert unless_broken(ended) == (lost if blamed else ended)


def kill_worker_of(pool: Pool, number: int) -> None:
    """Kill the process that has trial `number`."""
    if hasattr(pool, "worker_of"):
        os.kill(pool.worker_of(number).pid, signal.SIGKILL)
    else:
        (pid,) = [w.process.pid for w in pool._workers if w.task and w.task.number == number]  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("capacity", [1, 3])
def test_trials_are_the_same_on_every_pool_and_leave_no_checkpoint(
    open_pool: Open, tmp_path: Path, undisturbed: dict[int, object], capacity: int
) -> None:
    recorder = Recorder()
    study = search(tmp_path, open_pool(capacity), 4, recorder)
    assert curves(study) == undisturbed
    assert sorted(recorder.told) == [(number, "COMPLETE") for number in range(4)]
    assert recorder.lines == []
    assert list((tmp_path / "checkpoints").glob("*")) == []


def test_search_that_is_paused_goes_on_bit_for_bit(
    open_pool: Open, tmp_path: Path, undisturbed: dict[int, object]
) -> None:
    signals: list[int] = []
    killer = Killer(0, 5, lambda: signals.append(15))
    paused = search(tmp_path, open_pool(2), 4, killer, lambda: bool(signals))
    left = [trial.number for trial in paused.trials if trial.state.name == "RUNNING"]
    assert left[0] == 0
    assert (tmp_path / "checkpoints" / "000000.ckpt").is_file()
    recorder = Recorder()
    resumed = search(tmp_path, open_pool(2), 4, recorder)
    assert curves(resumed) == undisturbed
    assert recorder.lines[0] == "trial 0 was left running and resumes"
    assert any(line.startswith("trial 0 resumes from epoch ") for line in recorder.lines)


def test_error_in_the_driver_ends_the_workers_in_the_middle_of_a_trial(open_pool: Open, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError("enough")

    with pytest.raises(StopError, match="enough"):
        search(tmp_path, open_pool(2), 4, Killer(0, 1, stop))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"], indirect=True)
def test_trial_of_a_killed_worker_goes_on_and_the_others_are_not_disturbed(
    open_pool: Open, tmp_path: Path, undisturbed: dict[int, object]
) -> None:
    pool = open_pool(2)
    killer = Killer(0, 2, lambda: kill_worker_of(pool, 0))
    study = search(tmp_path, pool, 4, killer)
    assert killer.done
    assert curves(study) == undisturbed
    assert "killed" in killer.lines[0]
    assert killer.lines[0].endswith("it resumes from its last checkpoint")
    assert killer.lines[1].startswith("trial 0 resumes from epoch ")
    assert len(killer.lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"], indirect=True)
def test_trial_whose_workers_keep_dying_fails_with_the_reason(open_pool: Open, tmp_path: Path) -> None:
    pool = open_pool(2)

    class Reaper(Recorder):
        def running(self, trial: object, history: list[dict[str, float]]) -> None:
            super().running(trial, history)
            if trial.number == 1:  # type: ignore[attr-defined]
                kill_worker_of(pool, 1)

    study = search(
        tmp_path,
        pool,
        3,
        Reaper(),
        runtime=RuntimeParams(checkpoint_seconds=1e-9, checkpoint_share=1.0, max_restarts=1),
    )
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    reason = study.trials[1].user_attrs["reason"]
    assert reason.startswith("its worker ")
    assert reason.endswith(", 2 times (runtime.max_restarts 1)")
