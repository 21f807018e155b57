"""Devices on which every worker dies after it has loaded its images, as those of a GPU that has fallen off its bus."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import tiny
from podium.config.params import RuntimeParams
from podium.training.epochs import Epoch
from podium.tuning import driver
from podium.tuning.messages import Event
from podium.tuning.pools.placement import Place
from podium.tuning.pools.processes import ProcessPool, Setup
from tuning.scripted import Recorder, states
from tuning.sessions import OFTEN, Killer, search

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


class Deadly(ProcessPool):
    """A pool whose workers in the places `deadly` are killed as soon as they have loaded their images."""

    def __init__(self, prepared: Path, capacity: int, deadly: set[int]) -> None:
        self._deadly = deadly
        self.deaths = 0
        # the name of a device means nothing to the CPU: it is there to be told
        places = [Place(visible=f"GPU-{number}") for number in range(capacity)]
        super().__init__(places, Setup(str(prepared), "cpu", 1))

    def _receive(self, worker: Any) -> Event | None:
        event = super()._receive(worker)
        if worker.ready and worker.number in self._deadly and worker.process.is_alive():
            self.deaths += 1
            worker.process.kill()
            worker.process.join()
        return event


@pytest.mark.parametrize(
    ("capacity", "deadly", "told"),
    [
        (2, {1}, "failed (cpu GPU-1) is given up: it works on another (1 worker left)"),
        (3, {0, 1}, "given up: it works on another (1 worker left)"),
    ],
)
def test_place_in_which_every_worker_dies_is_given_up_and_costs_no_trial(
    prepared: Path, tmp_path: Path, capacity: int, deadly: set[int], told: str
) -> None:
    pool, recorder = Deadly(prepared, capacity, deadly), Recorder()
    study = search(tmp_path, pool, 5, recorder)
    assert states(study) == ["COMPLETE"] * 5
    assert pool.capacity == 1
    assert any(told in line for line in recorder.lines)
    assert any("one worker after another died in its place (cpu GPU-" in line for line in recorder.lines)


def test_trial_that_kills_its_workers_everywhere_costs_no_place(prepared: Path, tmp_path: Path) -> None:
    class Poisoned(Deadly):
        def _receive(self, worker: Any) -> Event | None:
            self._deadly = {worker.number} if worker.task is not None and worker.task.number == 1 else set()
            return super()._receive(worker)

    pool, recorder = Poisoned(prepared, 2, set()), Recorder()
    study = search(tmp_path, pool, 4, recorder, runtime=RuntimeParams(**OFTEN.model_dump() | {"max_restarts": 3}))
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert pool.capacity == 2
    assert study.trials[1].user_attrs["reason"].endswith(", 4 times (runtime.max_restarts 3)")


def test_trial_that_is_killed_twice_with_good_epochs_between_costs_no_place(prepared: Path, tmp_path: Path) -> None:
    class Unlucky(Recorder):
        def running(self, trial: Any, history: list[Epoch]) -> None:
            worker = next(w for w in pool._workers if w.task is not None and w.task.number == trial.number)
            last = int(history[-1]["epoch"])
            if trial.number == 0 and last in (1, 3) and last not in killed:
                killed[last] = worker.number
                worker.process.kill()
            elif trial.number == 1 and last == 1 and len(killed) < 2:  # so that the other place stays busy
                os.kill(worker.process.pid or 0, signal.SIGSTOP)
                waits.append(worker.process.pid or 0)
            elif trial.number == 0 and last == 4:
                release()

        def note(self, line: str) -> None:
            super().note(line)
            if "one worker after another" in line:
                release()

    def release() -> None:
        for pid in waits:
            os.kill(pid, signal.SIGCONT)

    killed: dict[int, int] = {}
    waits: list[int] = []
    pool, recorder = ProcessPool(2, Setup(str(prepared), "cpu", 1)), Unlucky()
    space = {"train.epochs": {"low": 5, "high": 6}}
    assert states(search(tmp_path, pool, 2, recorder, space=space)) == ["COMPLETE"] * 2
    assert killed == {1: 0, 3: 0}
    assert pool.capacity == 2
    assert not any("one worker after another" in line for line in recorder.lines)


def test_workers_that_hang_at_their_start_and_in_an_epoch_do_not_outlive_the_timeout(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LATE", 0.2)
    pool = ProcessPool(2, Setup(str(prepared), "cpu", 1))
    pids = [worker.process.pid or 0 for worker in pool._workers]
    os.kill(pids[0], signal.SIGSTOP)  # before it has a trial
    halt = Killer(1, 1, lambda: os.kill(pids[1], signal.SIGSTOP))
    study = search(tmp_path, pool, 2, halt, timeout=4.0, space={"train.epochs": {"low": 9998, "high": 9999}})
    assert states(study) == ["PRUNED", "PRUNED"]
    assert "s after search.timeout: killed" in halt.lines[0]
