"""What the Ray pool alone has to do: nodes come and go, and what was thought dead changes nothing."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tiny
from podium.config.params import RuntimeParams, TrackingParams
from podium.errors import InputError
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.training import checkpoint
from podium.training.epochs import Epoch
from podium.tuning.driver import Driver
from podium.tuning.messages import Report, Task
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.ray_cluster import STORE, TwoNodes
from tuning.scripted import Recorder, epoch, search_params, states
from tuning.sessions import Killer, curves, search
from waiting import until

if TYPE_CHECKING:
    from podium.tuning.pools.ray_pool import RayPool

pytestmark = pytest.mark.slow
TRIALS = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def open_pool(two_nodes: TwoNodes, prepared: Path) -> "Callable[..., RayPool]":
    from podium.tuning.pools.ray_pool import RayPool

    return lambda at_most, **fields: RayPool(prepared, two_nodes.runtime(**fields), at_most)


class Script(Recorder):
    """A watcher that does one thing after another, each once so many trials have ended."""

    def __init__(self, *steps: tuple[int, Callable[[Any], None]]) -> None:
        super().__init__()
        self.steps = list(steps)
        self.resumed: list[float] = []
        """When trials went on from a checkpoint."""

    def note(self, line: str) -> None:
        super().note(line)
        if "resumes from epoch" in line:
            self.resumed.append(time.monotonic())

    def running(self, trial: Any, history: list[Epoch]) -> None:
        super().running(trial, history)
        if self.steps and len(self.told) >= self.steps[0][0]:
            self.steps.pop(0)[1](trial)


def test_search_outlives_a_killed_worker_and_a_removed_node(
    two_nodes: TwoNodes, open_pool: "Callable[..., RayPool]", tmp_path: Path, store: TrackingParams
) -> None:
    extra = two_nodes.add_node()
    pool = open_pool(TRIALS)
    moments: list[tuple[str, float]] = []

    def kill(trial: Any) -> None:
        began = pool.worker_of(trial.number)
        assert began is not None
        os.kill(began.pid, signal.SIGKILL)
        moments.append(("worker", time.monotonic()))

    def remove(trial: Any) -> None:
        two_nodes.cluster.remove_node(extra, allow_graceful=False)
        moments.append(("node", time.monotonic()))

    script = Script((4, kill), (12, remove))
    params = search_params(n_trials=TRIALS, space={"train.epochs": {"low": 6, "high": 10}})
    study = open_study(open_storage(tmp_path / "optuna.journal"), "search-40", params, {})
    mirror = Mirror(study, store, Parent("search-40", {}))
    try:
        Driver(
            study, pool, params, two_nodes.runtime(), tiny.recipe(), tmp_path / "checkpoints", [mirror, script]
        ).run()
    finally:
        pool.close()
        mirror.close()
    assert [what for what, _ in moments] == ["worker", "node"]
    assert states(study) == ["COMPLETE"] * TRIALS
    assert sorted(number for number, _ in script.told) == list(range(TRIALS))  # none lost, none doubled
    assert all(len(t.user_attrs["history"]) == t.params["train.epochs"] for t in study.trials)
    assert any("killed, crashed, or its node is gone" in line for line in script.lines)
    assert any("resumes from epoch" in line for line in script.lines)
    for what, when in moments:  # a trial's notes come with its end: so much later it had been placed, resumed and ended
        print(what, "lost; seconds until a trial that went on had ended:", [f"{t - when:.1f}" for t in script.resumed])
    assert mirror.error == ""
    tracking = connect(store)
    assert differences(tracking, study) == []
    assert Counter(run.info.status for run in runs_of(tracking, "search-40")) == {"FINISHED": TRIALS}
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []


def test_number_in_flight_follows_the_nodes(two_nodes: TwoNodes, open_pool: "Callable[..., RayPool]") -> None:
    pool = open_pool(100)
    try:
        until(lambda: pool.capacity == 2)  # the node that the last test removed may still be counted
        extra = two_nodes.add_node()
        until(lambda: pool.capacity == 3)
        two_nodes.cluster.remove_node(extra)
        until(lambda: pool.capacity == 2)
    finally:
        pool.close()
    for fields, capacity in (({"queued": 3}, 5), ({"workers": 7}, 7)):
        pool = open_pool(100, **fields)
        assert pool.capacity == capacity
        pool.close()


def test_trial_that_fits_on_no_node_is_refused_with_what_there_is(open_pool: "Callable[..., RayPool]") -> None:
    with pytest.raises(InputError, match=r"no node .* runtime.trial_gpus 8\); there are .*1 GPUs"):
        open_pool(4, trial_gpus=8)


def test_killed_mailbox_changes_no_trial(open_pool: "Callable[..., RayPool]", tmp_path: Path) -> None:
    import ray

    undisturbed = search(tmp_path / "a", open_pool(4, workers=2), 4)
    pool = open_pool(4, workers=2)
    killer = Killer(0, 2, lambda: ray.kill(pool._mailbox, no_restart=False))
    study = search(tmp_path / "b", pool, 4, killer)
    assert killer.done
    assert curves(study) == curves(undisturbed)


def test_worker_that_was_thought_dead_changes_nothing(open_pool: "Callable[..., RayPool]", tmp_path: Path) -> None:
    import ray

    from podium.tuning.pools.ray_worker import Saved

    pool = open_pool(1, workers=1)
    path = tmp_path / "000000.ckpt"
    recipe = tiny.recipe(train__epochs=10000).model_dump()
    try:
        pool.submit(Task(0, 2, 7, recipe, str(path), 1e9))
        until(lambda: (pool.events(0.1), pool.worker_of(0))[1] is not None)
        late = pool._mailbox.report.remote(Report(0, 1, epoch(50, 0.99)))
        ray.get(pool._mailbox.leave.remote(Saved(0, 1, b"of the first attempt")))
        heard: list[Any] = []

        def answered() -> bool:
            heard.extend(pool.events(0.1))
            return bool(ray.wait([late], timeout=0)[0])

        until(answered)
        assert ray.get(late) is False  # it is told to end
        assert {event.attempt for event in heard} <= {2}
        assert not path.exists()
    finally:
        pool.close()


def test_checkpoint_of_a_paused_trial_is_here_and_whole(open_pool: "Callable[..., RayPool]", tmp_path: Path) -> None:
    pool = open_pool(1, workers=1)
    task = Task(0, 1, 7, tiny.recipe(train__epochs=10000).model_dump(), str(tmp_path / "000000.ckpt"), 1e9)
    pool.submit(task)
    until(lambda: any(isinstance(event, Report) for event in pool.events(0.1)))
    pool.pause()
    pool.answer(Report(0, 1, epoch(1)), True)
    pool.close()
    state = checkpoint.load(tmp_path / "000000.ckpt", task.identity)
    assert state is not None
    assert state["epoch"] >= 1


@pytest.mark.parametrize("always", [False, True])
def test_broken_worker_costs_no_trial_and_its_node_is_avoided(
    open_pool: "Callable[..., RayPool]", tmp_path: Path, always: bool
) -> None:
    import ray

    pool = open_pool(4, workers=2)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]  # type: ignore[no-untyped-call]
    seen = tmp_path / "seen"

    def train(task: Any, setup: Any, content: Any, held: Any) -> Any:
        """What a worker does on a node where torch finds no images: once, or always."""
        from podium.tuning.pools import ray_worker

        if ray.get_runtime_context().get_node_id() == nodes[0] and (always or not seen.exists()):
            seen.touch()
            ray_worker._loaded.clear()
            ray_worker._trial_data = lambda setup: 1 / 0  # type: ignore[assignment, return-value]
        return ray_worker.train(task, setup, content, held)

    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 0}
    pool._train = ray.remote(**options)(train)
    recorder = Recorder()
    study = search(
        tmp_path,
        pool,
        4,
        recorder,
        runtime=RuntimeParams(max_restarts=3, checkpoint_seconds=1e-9, checkpoint_share=1.0),
    )
    assert states(study) == ["COMPLETE"] * 4
    lost = [line for line in recorder.lines if "could not load the images: ZeroDivisionError" in line]
    assert 1 <= len(lost) <= (4 if always else 1)
    assert all("its worker (process " in line for line in lost)
    assert pool.places.avoided() == (nodes[:1] if always else [])


def test_node_on_which_every_worker_dies_is_avoided_and_charges_no_trial(
    open_pool: "Callable[..., RayPool]", tmp_path: Path
) -> None:
    import ray

    pool = open_pool(6, workers=2)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]  # type: ignore[no-untyped-call]
    loads = tmp_path / "loads"

    def train(task: Any, setup: Any, content: Any, held: Any) -> Any:
        """What a worker does on a node that kills it: the first one before it has loaded, others in their trials."""
        from podium.tuning.pools import ray_worker

        if ray.get_runtime_context().get_node_id() == nodes[0]:
            first = "_trial_data" if not loads.exists() else "_train"
            loads.touch()
            setattr(ray_worker, first, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
        return ray_worker.train(task, setup, content, held)

    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 0}
    pool._train = ray.remote(**options)(train)
    recorder = Recorder()
    runtime = RuntimeParams(max_restarts=1, checkpoint_seconds=1e-9, checkpoint_share=1.0)
    assert states(search(tmp_path, pool, 6, recorder, runtime=runtime)) == ["COMPLETE"] * 6
    assert any("before it began" in line for line in recorder.lines)
    assert pool.places.avoided() == nodes[:1]
    assert any("one worker after another died on its node" in line for line in recorder.lines)
    assert any("no more trials go to the 1 node on which workers of trial" in line for line in recorder.lines)


@pytest.mark.parametrize("loads", [True, False])
def test_one_bad_gpu_of_a_node_is_held_and_costs_no_trial(
    two_nodes: TwoNodes, open_pool: "Callable[..., RayPool]", tmp_path: Path, loads: bool
) -> None:
    import ray

    from podium.tuning.pools.ray_places import Spot

    node = two_nodes.cluster.add_node(num_cpus=3, num_gpus=3, object_store_memory=STORE, resources={"here": 3})
    pool = open_pool(8, trial_gpus=1.0, workers=3)

    def train(task: Any, setup: Any, content: Any, held: Any) -> Any:
        """What a worker does on the node: GPU 0 lets it load its images and kills it then, or does not even load."""
        from podium.tuning.pools import ray_worker

        if ray_worker._gpu() == "0" and not held:
            if loads:
                ray_worker._train = lambda *given: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
            else:
                ray_worker._loaded.clear()
                ray_worker._trial_data = lambda setup: 1 / 0  # type: ignore[assignment, return-value]
        return ray_worker.train(task, setup, content, held)

    pool._train = ray.remote(num_cpus=1, num_gpus=1, resources={"here": 1}, max_retries=0)(train)
    recorder = Recorder()
    runtime = RuntimeParams(max_restarts=1, checkpoint_seconds=1e-9, checkpoint_share=1.0)
    try:
        study = search(tmp_path, pool, 8, recorder, runtime=runtime)
    finally:
        two_nodes.cluster.remove_node(node)
    assert states(study) == ["COMPLETE"] * 8
    assert pool.places.held() == {Spot(node.node_id, "0")}
    assert pool.places.avoided() == []
    if loads:
        assert any("one worker after another died on GPU 0 of " in line for line in recorder.lines)
