import json
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest

import tiny
from own import OwnCode
from podium.errors import PodiumError
from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task
from podium.tuning.pools import processes
from podium.tuning.pools.placement import Place, visible
from podium.tuning.pools.processes import ProcessPool, Setup, how_it_ended
from tuning.scripted import Recorder, states
from tuning.sessions import Killer, curves, search
from waiting import PATIENCE, gone, until


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


def _pool(prepared: Path, capacity: int) -> ProcessPool:
    return ProcessPool(capacity, Setup(str(prepared), "cpu", 1))


def _pid_of(pool: ProcessPool, number: int) -> int:
    """The process that has trial `number`."""
    (pid,) = [w.process.pid for w in pool._workers if w.task is not None and w.task.number == number]
    assert pid is not None
    return pid


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "does not answer"),
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (out of memory?)"),
        (-40, "was killed by signal 40"),
    ],
)
def test_end_of_a_worker_is_said_in_words(code: int | None, text: str) -> None:
    assert how_it_ended(code) == text


class Dead:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.exitcode = code

    def join(self, timeout: float) -> None:
        """Nothing to wait for."""


@pytest.mark.parametrize(
    ("code", "sent", "charged", "words"),
    [
        (1, b"", False, "its worker ended with exit code 1 before it began: see what it printed above; if"),
        (1, b'{"progress": 0}', False, "its worker ended with exit code 1 before it began: see what it printed above"),
        (1, b'{"progress": 0, "ready": true}', True, "its worker ended with exit code 1"),
        (0, b"", False, "its worker ended with exit code 0 before it began"),
        (-9, b"", False, "its worker was killed by SIGKILL (out of memory?) before it began"),
        (-11, b'{"progress": 0, "ready": true}', True, "its worker was killed by SIGSEGV"),
    ],
)
def test_trial_is_charged_unless_its_worker_had_not_begun(
    code: int, sent: bytes, charged: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(pool: ProcessPool, number: int) -> processes._Worker:
        ours, theirs = multiprocessing.Pipe()
        if sent:
            theirs.send_bytes(sent)
        theirs.close()
        return processes._Worker(cast(BaseProcess, Dead(code)), ours, number)

    monkeypatch.setattr(ProcessPool, "_start", start)
    monkeypatch.setattr(processes, "warm_up", lambda network="": None)
    pool = ProcessPool(1, Setup("", "cpu", 1))
    pool._workers[0].task = Task(5, 1, 0, {}, "", 1.0)
    (lost,) = [event for _ in range(2) for event in pool.events(0)]
    assert isinstance(lost, Lost)
    assert lost.charged is charged
    assert lost.reason.startswith(words)


def test_trial_after_one_whose_worker_leaves_is_for_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = []

    def start(pool: ProcessPool, number: int) -> processes._Worker:
        ours, end = multiprocessing.Pipe()
        theirs.append(end)
        return processes._Worker(cast(BaseProcess, Dead(5)), ours, number)

    monkeypatch.setattr(ProcessPool, "_start", start)
    monkeypatch.setattr(processes, "warm_up", lambda network="": None)
    pool = ProcessPool(1, Setup("", "cpu", 1))
    pool.submit(Task(1, 1, 0, {}, "", 1.0))
    theirs[0].send_bytes(json.dumps({"progress": 0, "ready": True}).encode())
    theirs[0].send_bytes(json.dumps({"number": 1, "attempt": 1, "how": "failed", "leaves": True}).encode())
    assert [event.number for _ in range(2) for event in pool.events(0)] == [1]
    pool.submit(Task(2, 1, 0, {}, "", 1.0))
    assert [json.loads(theirs[-1].recv_bytes())["task"]["number"], len(theirs)] == [2, 2]


LOADER = """
import multiprocessing

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def twice(number):
    return 2 * number


def program(network, train_set, run):
    with multiprocessing.get_context("fork").Pool(1) as pool:  # it ends its processes with SIGTERM
        assert pool.map(twice, [1, 2]) == [2, 4]
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for images, labels in DataLoader(train_set, 20, num_workers=1):
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    run.report(1, val_accuracy=0.5)
    return model
"""


@pytest.mark.slow
def test_own_training_loop_may_have_processes_of_its_own(prepared: Path, own: OwnCode) -> None:
    recipe = tiny.recipe(**{"train.program": f"{own.write(LOADER)}:program", "train.epochs": 1})
    pool = _pool(prepared, 1)
    pool.submit(Task(0, 1, 0, recipe.nested(), str(own.folder / "one.ckpt"), 1.0))
    ended = _end_of_trial(pool)
    pool.close()
    assert isinstance(ended, Ended)
    assert (ended.how, ended.reason) == ("finished", "")


def _end_of_trial(pool: ProcessPool) -> Event:
    """What comes of the one trial that runs, all of whose reports are answered."""
    ended: list[Event] = []

    def has_ended() -> bool:
        for event in pool.events(0.1):
            if isinstance(event, Report):
                pool.answer(event, go_on=True)
            else:
                ended.append(event)
        return bool(ended)

    until(has_ended)
    return ended[0]


ENDLESS = """
import time


def program(network, train_set, run):
    while True:
        time.sleep(1)
"""


@pytest.mark.slow
def test_trial_that_takes_no_step_any_more_fails_by_its_own_limit(prepared: Path, own: OwnCode) -> None:
    recipe = tiny.recipe(**{"train.program": f"{own.write(ENDLESS)}:program", "train.epochs": 3})
    pool = _pool(prepared, 1)
    pool.submit(Task(0, 1, 0, recipe.nested(), str(own.folder / "one.ckpt"), 1e9, timeout=0.1))
    ended = _end_of_trial(pool)
    assert isinstance(ended, Ended)
    assert ended.how == "failed"
    assert ended.reason.startswith("search.trial_timeout: 0.1 s passed, and it took no step for ")
    pool.submit(Task(1, 1, 0, tiny.recipe(train__epochs=1).nested(), str(own.folder / "two.ckpt"), 1e9))
    assert cast(Any, _end_of_trial(pool)).how == "finished"
    pool.close()


CLOSES = """
import os
import time
from contextlib import suppress


def program(network, train_set, run):
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.close(int(name))
    while True:
        time.sleep(1)
"""


@pytest.mark.slow
def test_worker_that_closes_its_pipe_does_not_outlive_that(prepared: Path, own: OwnCode) -> None:
    recipe = tiny.recipe(**{"train.program": f"{own.write(CLOSES)}:program", "train.epochs": 1})
    pool = _pool(prepared, 1)
    pool.submit(Task(0, 1, 0, recipe.nested(), str(own.folder / "one.ckpt"), 1e9))
    first = pool._workers[0].process
    assert isinstance(_end_of_trial(pool), Lost)
    until(lambda: gone(first.pid or 0))
    pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_number_of_workers_changes_no_trial(prepared: Path, tmp_path: Path, capacity: int) -> None:
    alone = search(tmp_path / "one", _pool(prepared, 1), 4)
    together = search(tmp_path / "more", _pool(prepared, capacity), 4)
    assert states(together) == ["COMPLETE"] * 4
    assert curves(together) == curves(alone)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_workers_trial_goes_on_and_the_others_are_not_disturbed(
    prepared: Path, tmp_path: Path, kill: signal.Signals
) -> None:
    undisturbed = search(tmp_path / "a", _pool(prepared, 2), 4)
    pool = _pool(prepared, 2)
    killer = Killer(0, 2, lambda: os.kill(_pid_of(pool, 0), kill))
    study = search(tmp_path / "b", pool, 4, killer)
    assert killer.done
    assert curves(study) == curves(undisturbed)
    said = "was stopped" if kill == signal.SIGTERM else f"was killed by {kill.name}"
    assert said in killer.lines[0]
    assert killer.lines[1].startswith("trial 0 resumes from epoch ")
    assert len(killer.lines) == 2


def test_worker_that_goes_on_from_a_checkpoint_tells_of_its_epochs_first(prepared: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(train__epochs=10000).model_dump()
    pool = _pool(prepared, 1)
    heard: list[Event] = []

    def hear(kind: type[Event], count: int) -> None:
        while sum(isinstance(event, kind) for event in heard) < count:
            for event in pool.events(0.2):
                heard.append(event)
                if isinstance(event, Report):
                    pool.answer(event, True)

    try:
        pool.submit(Task(0, 1, 7, recipe, str(tmp_path / "0.ckpt"), 1e-9))
        hear(Report, 4)
        os.kill(_pid_of(pool, 0), signal.SIGKILL)
        hear(Lost, 1)
        before = [event.epoch for event in heard if isinstance(event, Report)]
        heard.clear()
        pool.submit(Task(0, 2, 7, recipe, str(tmp_path / "0.ckpt"), 1e-9))
        hear(Report, 1)
    finally:
        pool.close()
    assert isinstance(heard[0], Resumed)
    assert len(heard[0].history) >= 3
    assert heard[0].history == before[: len(heard[0].history)]


@pytest.mark.slow
def test_idle_worker_that_died_is_replaced(prepared: Path, tmp_path: Path) -> None:
    pool = _pool(prepared, 2)
    for worker in pool._workers:
        assert worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.join()
    assert states(search(tmp_path, pool, 3)) == ["COMPLETE"] * 3


class PartlyBroken(ProcessPool):
    """A pool whose workers number `broken`, as they are started, find no images."""

    def __init__(self, prepared: Path, capacity: int, broken: set[int]) -> None:
        self._images = prepared
        self._broken = broken
        self.started = 0
        super().__init__(capacity, Setup(str(prepared), "cpu", 1))

    def _fork(self, number: int) -> Any:
        images = self._images / "nowhere" if self.started in self._broken else self._images
        self._setup = Setup(str(images), "cpu", 1)
        self.started += 1
        return super()._fork(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capacity", "broken", "started", "left"),
    [(2, {0, 2}, 3, 1), (2, {0}, 3, 2), (1, {0, 1}, 3, 1)],
    ids=["given up", "replaced", "the only one"],
)
def test_broken_worker_costs_no_trial(
    prepared: Path, tmp_path: Path, capacity: int, broken: set[int], started: int, left: int
) -> None:
    pool = PartlyBroken(prepared, capacity, broken)
    recorder = Recorder()
    study = search(tmp_path, pool, 4, recorder)
    assert states(study) == ["COMPLETE"] * 4
    assert (pool.started, pool.capacity) == (started, left)
    told = [line for line in recorder.lines if "could not load the images: InputError" in line]
    assert len(told) == len(broken)
    assert ["(2 times in a row; 1 worker left)" in line for line in told].count(True) == (capacity - left)


class DyingAtFirst(ProcessPool):
    """A pool whose workers, as they are started, die before they have loaded their images: `dying` of them."""

    def __init__(self, prepared: Path, capacity: int, dying: int) -> None:
        self._dying = dying
        super().__init__(capacity, Setup(str(prepared), "cpu", 1))

    def submit(self, task: Task) -> None:
        if not self._dying:
            super().submit(task)
            return
        self._dying -= 1
        free = [one for one in self._workers if one.task is None]
        for one in free:
            os.kill(one.process.pid or 0, signal.SIGSTOP)  # it gets the task and does not begin it
        super().submit(task)
        for one in free:
            if one.task is None:
                os.kill(one.process.pid or 0, signal.SIGCONT)
            else:
                one.process.kill()
                one.process.join()


@pytest.mark.slow
@pytest.mark.parametrize(("capacity", "dying", "left"), [(1, 2, 1), (2, 1, 2), (2, 3, 1)])
def test_worker_that_dies_before_it_began_costs_no_trial(
    prepared: Path, tmp_path: Path, capacity: int, dying: int, left: int
) -> None:
    pool, recorder = DyingAtFirst(prepared, capacity, dying), Recorder()
    assert states(search(tmp_path, pool, 3, recorder)) == ["COMPLETE"] * 3
    told = [line for line in recorder.lines if "was killed by SIGKILL (out of memory?) before it began" in line]
    assert (len(told), pool.capacity) == (dying, left)


def test_machine_that_starts_no_process_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ProcessPool, number: int) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ProcessPool, "_fork", refuse)
    monkeypatch.setattr(processes, "RETRIES", (0.0,))
    with pytest.raises(PodiumError, match=r"no worker process can be started: .*unavailable\. .*runtime.workers lower"):
        ProcessPool([Place("cuda", "0", 1)], Setup("", "cuda", 1))


@pytest.mark.parametrize(("place", "first"), [(Place(), processes.AT_ONCE), (Place("cuda", "0", 1), 40)])
def test_workers_beyond_the_first_are_forked_when_trials_are_handed_to_them(
    monkeypatch: pytest.MonkeyPatch, place: Place, first: int
) -> None:
    started, far = [], []

    def start(pool: ProcessPool, number: int) -> processes._Worker:
        started.append(number)
        ours, theirs = multiprocessing.Pipe()
        far.append(theirs)
        return processes._Worker(cast(BaseProcess, Dead(0)), ours, number)

    monkeypatch.setattr(ProcessPool, "_start", start)
    monkeypatch.setattr(processes, "warm_up", lambda network="": None)
    pool = ProcessPool([place] * 40, Setup("", "cpu", 1))
    assert (pool.capacity, started) == (40, list(range(first)))
    for number in range(20):
        pool.submit(Task(number, 1, 0, {}, "", 1.0))
    assert started == list(range(max(first, 20)))
    assert [json.loads(pipe.recv_bytes())["task"]["number"] for pipe in far[:20]] == list(range(20))


class PartlyFailing(ProcessPool):
    """A pool in which trials fail where they are trained in one of the places `failing`."""

    def __init__(self, prepared: Path, wrong: Path, capacity: int, failing: set[int]) -> None:
        self._images = (prepared, wrong)
        self._failing = failing
        self.started: list[int] = []
        super().__init__(capacity, Setup("", "cpu", 1))

    def _fork(self, number: int) -> Any:
        self._setup = Setup(str(self._images[number in self._failing]), "cpu", 1)
        self.started.append(number)
        return super()._fork(number)


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "capacity", "failed"), [({1}, 2, 1), ({0}, 1, 4)], ids=["one of two", "the only"])
def test_place_in_which_trials_fail_that_work_elsewhere_is_given_up(
    prepared: Path, tmp_path: Path, failing: set[int], capacity: int, failed: int
) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(prepared, wrong)
    about = json.loads((wrong / "dataset.json").read_text(encoding="utf-8"))
    (wrong / "dataset.json").write_text(json.dumps(about | {"classes": ["left"]}), encoding="utf-8")  # labels go to 2
    pool, recorder = PartlyFailing(prepared, wrong, capacity, failing), Recorder()
    study = search(tmp_path, pool, 6 if capacity > 1 else failed, recorder)
    assert states(study).count("FAIL") == failed
    assert pool.capacity == 1
    if capacity > 1:
        assert any("a second trial in a row failed on its worker" in line for line in recorder.lines)
        assert any("is given up: it works on another (1 worker left)" in line for line in recorder.lines)
    else:
        assert len(pool.started) > 1  # replaced after the second in a row


@pytest.mark.slow
def test_worker_that_hangs_is_killed_and_its_trial_goes_on(prepared: Path, tmp_path: Path) -> None:
    undisturbed = search(tmp_path / "a", _pool(prepared, 1), 2)
    pool = ProcessPool(1, Setup(str(prepared), "cpu", 1, hang_timeout=2.0))
    killer = Killer(0, 2, lambda: os.kill(_pid_of(pool, 0), signal.SIGSTOP))
    study = search(tmp_path / "b", pool, 2, killer)
    assert curves(study) == curves(undisturbed)
    assert "made no progress for 2 s (runtime.hang_timeout) and was killed" in killer.lines[0]


@pytest.mark.parametrize("before", [None, "3,5"])
def test_worker_is_started_with_its_device_alone(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    ask = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
    with visible(Place("cuda", "5", 1)):
        inside = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    with visible(Place()):
        on_cpu = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    assert (inside, on_cpu) == ("5", str(before))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.mark.slow
def test_workers_of_devices_are_processes_that_see_one_each_before_torch_is_imported(prepared: Path) -> None:
    places = [Place("cuda", name, 2**30) for name in ("0", "GPU-b", "0")]
    pool = ProcessPool(places, Setup(str(prepared), "auto", 1))
    try:
        pids = [worker.process.pid for worker in pool._workers]
        until(lambda: all(map(_visible_to, pids)))  # a process has no environment in the moment in which it begins
        names = [_visible_to(pid) for pid in pids]
    finally:
        pool.close()
    assert names == [[b"CUDA_VISIBLE_DEVICES=0"], [b"CUDA_VISIBLE_DEVICES=GPU-b"], [b"CUDA_VISIBLE_DEVICES=0"]]


def _visible_to(pid: int | None) -> list[bytes]:
    """What the process was started with for CUDA_VISIBLE_DEVICES."""
    started_with = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return [one for one in started_with if one.startswith(b"CUDA_VISIBLE_DEVICES=")]


@pytest.mark.slow
def test_signal_has_every_trial_saved_and_the_next_session_goes_on(prepared: Path, tmp_path: Path) -> None:
    undisturbed = search(tmp_path / "a", _pool(prepared, 2), 4)
    signals: list[int] = []
    killer = Killer(1, 2, lambda: signals.append(15))
    paused = search(tmp_path / "b", _pool(prepared, 2), 4, killer, lambda: bool(signals))
    left = [trial.number for trial in paused.trials if trial.state.name == "RUNNING"]
    assert left
    for number in left:
        assert (tmp_path / "b" / "checkpoints" / f"{number:06d}.ckpt").is_file()
    resumed = search(tmp_path / "b", _pool(prepared, 2), 4)
    assert curves(resumed) == curves(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_fork_server_does_not_end_the_search(prepared: Path, tmp_path: Path, kill: signal.Signals) -> None:
    pool = _pool(prepared, 1)

    def both() -> None:
        os.kill(forkserver._forkserver._forkserver_pid, kill)  # type: ignore[attr-defined]
        os.kill(_pid_of(pool, 0), signal.SIGKILL)

    killer = Killer(0, 2, both)
    assert states(search(tmp_path, pool, 2, killer)) == ["COMPLETE"] * 2
    assert "resumes from its last checkpoint" in killer.lines[0]


@pytest.mark.slow
def test_closed_pool_leaves_no_process(prepared: Path) -> None:
    pool = _pool(prepared, 2)
    processes = [worker.process for worker in pool._workers]
    pool.close()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.slow
def test_worker_killed_in_the_middle_of_a_message_is_lost(prepared: Path) -> None:
    pool = _pool(prepared, 1)
    worker = pool._workers[0]
    worker.pipe.close()
    worker.pipe, theirs = multiprocessing.Pipe()
    worker.task, worker.ready = Task(5, 1, 0, {}, "", 1.0), True
    os.write(theirs.fileno(), struct.pack("!i", 100) + b'{"number"')  # 100 bytes were announced
    theirs.close()
    assert pool.events(PATIENCE) == [Lost(5, 1, "its worker ended with exit code 0")]
    pool.close()


LONG_SEARCH = """
import sys
from pathlib import Path
from tuning.sessions import search
from podium.tuning.pools.processes import ProcessPool, Setup
pool = ProcessPool(2, Setup(sys.argv[1], "cpu", 1))
print(*(worker.process.pid for worker in pool._workers), flush=True)
search(Path(sys.argv[2]), pool, 100000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("idle", [False, True])
def test_workers_of_a_killed_driver_end_themselves(prepared: Path, tmp_path: Path, idle: bool) -> None:
    script = LONG_SEARCH if not idle else LONG_SEARCH.replace("search(Path", "import time; time.sleep(600); (Path")
    with _started(script, prepared, tmp_path) as driver:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        assert len(pids) == 2
        if not idle:
            until(lambda: len(list((tmp_path / "checkpoints").glob("*.ckpt"))) > 0)
        assert all(_lives(pid) for pid in pids)
        driver.kill()
        driver.wait()
        until(lambda: not any(_lives(pid) for pid in pids))


def _started(script: str, *arguments: Path) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends between open and read
        return False
