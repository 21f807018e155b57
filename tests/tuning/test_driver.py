from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.errors import PodiumError
from podium.tuning.batch import BatchDriver
from podium.tuning.driver import FILL_FOR, LATE, Driver
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.scripted import (
    Recorder,
    Script,
    ScriptedPool,
    dies,
    epoch,
    fails,
    finishes,
    hangs,
    in_turn,
    prunes,
    search_params,
    states,
)

BASE = tiny.recipe(train__epochs=2)


class Scene:
    """A study in a journal of its own (or in memory: much faster), and sessions of its search."""

    def __init__(self, folder: Path, memory: optuna.storages.InMemoryStorage | None = None) -> None:
        self.folder = folder
        self.memory = memory

    def study(self, params: SearchParams) -> optuna.Study:
        storage: Any = self.memory or open_storage(self.folder / "optuna.journal")  # read again each time
        return open_study(storage, "scene", params, {})

    def run(
        self,
        script: Callable[[Task], Script],
        params: SearchParams,
        capacity: int = 1,
        stopping: Callable[[], bool] = lambda: False,
        **runtime: Any,
    ) -> tuple[bool, ScriptedPool, Recorder]:
        pool, recorder = ScriptedPool(capacity, script), Recorder()
        study = self.study(params)
        limits = RuntimeParams(**runtime)
        driver = Driver(study, pool, params, limits, BASE, self.folder / "checkpoints", [recorder], stopping)
        return driver.run(), pool, recorder


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def fast_scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, optuna.storages.InMemoryStorage())


@pytest.mark.parametrize("capacity", [1, 2, 7])
@pytest.mark.parametrize("n_trials", [1, 5])
@pytest.mark.parametrize(
    ("script", "state"),
    [
        (finishes, ["COMPLETE"]),
        (prunes, ["PRUNED"]),
        (fails, ["FAIL"]),
        (dies, ["FAIL"]),
        (in_turn(finishes, prunes, fails, dies), ["COMPLETE", "PRUNED", "FAIL", "FAIL"]),
    ],
    ids=["complete", "pruned", "failed", "killed", "mixed"],
)
def test_budget_is_exact(
    fast_scene: Scene, n_trials: int, capacity: int, script: Callable[[Task], Script], state: list[str]
) -> None:
    params = search_params(n_trials=n_trials, max_failures=100)
    done, _, recorder = fast_scene.run(script, params, capacity, max_restarts=1)
    expected = [state[number % len(state)] for number in range(n_trials)]
    assert done
    assert states(fast_scene.study(params)) == expected
    assert sorted(recorder.told) == list(enumerate(expected))


def test_budget_raised_runs_only_what_is_missing(scene: Scene) -> None:
    scene.run(finishes, search_params(n_trials=3))
    _, pool, _ = scene.run(finishes, search_params(n_trials=5))
    assert pool.submitted == [(3, 1), (4, 1)]


def test_budget_lowered_runs_nothing(scene: Scene) -> None:
    scene.run(finishes, search_params(n_trials=3))
    _, pool, _ = scene.run(finishes, search_params(n_trials=2))
    assert pool.submitted == []


def test_value_is_the_last_epochs_metric(scene: Scene) -> None:
    def script(task: Task) -> Script:
        return finishes(task, value=0.75)

    scene.run(script, search_params(n_trials=1))
    scene.run(script, search_params(n_trials=1, metric="accuracy"))
    (trial,) = scene.study(search_params()).trials
    assert trial.value == 0.75
    assert trial.intermediate_values == {1: 0.75, 2: 0.75}
    assert [e["epoch"] for e in trial.user_attrs["history"]] == [1, 2]


def test_metric_loss_is_minimised(scene: Scene) -> None:
    params = search_params(n_trials=3, metric="loss")
    scene.run(lambda task: finishes(task, value=0.1 * task.number), params)
    study = scene.study(params)
    assert study.best_trial.number == 2
    assert study.best_value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("max_restarts", "deaths", "state", "attempts"),
    [(0, 1, "FAIL", 1), (1, 1, "COMPLETE", 2), (1, 2, "FAIL", 2), (2, 2, "COMPLETE", 3), (2, 9, "FAIL", 3)],
)
def test_lost_worker_is_replaced_so_many_times(
    scene: Scene, max_restarts: int, deaths: int, state: str, attempts: int
) -> None:
    def script(task: Task) -> Script:
        return dies(task) if task.attempt <= deaths else finishes(task)

    _, pool, recorder = scene.run(script, search_params(n_trials=1), max_restarts=max_restarts)
    (trial,) = scene.study(search_params()).trials
    assert trial.state.name == state
    assert pool.submitted == [(0, attempt) for attempt in range(1, attempts + 1)]
    assert ("SIGKILL" in trial.user_attrs.get("reason", "")) == (state == "FAIL")
    assert any("resumes from its last checkpoint" in line for line in recorder.lines) == (attempts > 1)


def test_trial_of_a_worker_that_is_given_up_waits_for_another_one(scene: Scene) -> None:
    def script(task: Task) -> Script:
        if task.number == 1 and task.attempt < 3:
            pool.capacity = 3 - task.attempt  # its place is replaced, then given up
            yield Lost(task.number, task.attempt, "its worker could not load the images")
        yield from finishes(task)

    params = search_params(n_trials=4, max_failures=1)
    study, recorder = scene.study(params), Recorder()
    pool = ScriptedPool(2, script)
    assert Driver(study, pool, params, RuntimeParams(), BASE, scene.folder, [recorder]).run()
    assert states(study) == ["COMPLETE"] * 4
    assert pool.submitted == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]
    assert len(recorder.lines) == 2


def test_trial_that_waits_for_a_worker_at_a_signal_goes_on_in_the_next_session(scene: Scene) -> None:
    def script(task: Task) -> Script:
        if task.number == 1:
            pool.capacity = 1
            yield Report(task.number, task.attempt, epoch(1))
            yield Lost(task.number, task.attempt, "its worker could not load the images")
        yield from finishes(task)

    params = search_params(n_trials=2, space={"train.epochs": {"low": 5, "high": 9}})
    study, recorder = scene.study(params), Recorder()
    pool = ScriptedPool(2, script)
    stopping = lambda: bool(recorder.lines)  # noqa: E731
    assert not Driver(study, pool, params, RuntimeParams(), BASE, scene.folder, [recorder], stopping).run()
    assert states(study) == ["RUNNING", "RUNNING"]
    assert study.trials[1].user_attrs["history"] == [epoch(1)]
    assert scene.run(finishes, params)[0]
    assert states(scene.study(params)) == ["COMPLETE", "COMPLETE"]


def test_lost_worker_leaves_the_finished_epochs_in_the_history(scene: Scene) -> None:
    def script(task: Task) -> Script:
        yield Report(task.number, task.attempt, epoch(task.attempt))
        yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")

    _, _, recorder = scene.run(script, search_params(n_trials=1), max_restarts=1)
    (trial,) = scene.study(search_params()).trials
    assert trial.intermediate_values == {1: 0.5, 2: 0.5}
    assert [e["epoch"] for e in trial.user_attrs["history"]] == [1, 2]
    assert [e["epoch"] for e in recorder.histories[0]] == [1, 2]


def test_epochs_trained_again_are_recorded_once(scene: Scene) -> None:
    def script(task: Task) -> Script:
        if task.attempt > 1:
            yield from finishes(task)  # its checkpoint was torn: from the start
        yield Report(task.number, task.attempt, epoch(1))
        yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")

    _, _, recorder = scene.run(script, search_params(n_trials=1))
    (trial,) = scene.study(search_params()).trials
    assert trial.intermediate_values == {1: 0.5, 2: 0.5}
    assert [e["epoch"] for e in recorder.histories[0]] == [1, 2]


def test_answers_of_an_older_attempt_are_void(scene: Scene) -> None:
    def script(task: Task) -> Script:
        if task.attempt == 1:
            yield Lost(task.number, task.attempt, "its worker does not answer")
            return
        yield Ended(task.number, 1, "failed", reason="from the one that was given up")
        yield Report(task.number, 1, epoch(1, 0.9))
        yield from finishes(task)

    scene.run(script, search_params(n_trials=1))
    (trial,) = scene.study(search_params()).trials
    assert trial.state.name == "COMPLETE"
    assert trial.intermediate_values == {1: 0.5, 2: 0.5}


def test_worker_told_to_stop_by_others_has_its_trial_go_on(scene: Scene) -> None:
    def script(task: Task) -> Script:
        if task.attempt == 1:
            yield Report(task.number, task.attempt, epoch(1))
            yield Ended(task.number, task.attempt, "interrupted", [epoch(1)])
        yield from finishes(task, first=2)

    done, pool, _ = scene.run(script, search_params(n_trials=2))
    assert done
    assert pool.submitted == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert states(scene.study(search_params())) == ["COMPLETE", "COMPLETE"]


def _stop_after(reports: int) -> tuple[Callable[[Task], Script], Callable[[], bool]]:
    """A script of trials that finish, and a signal after so many events of it."""
    seen: list[int] = []

    def script(task: Task) -> Script:
        script = finishes(task)
        event = next(script)
        while True:
            seen.append(1)
            try:
                event = script.send((yield event))
            except StopIteration:
                return

    return script, lambda: len(seen) >= reports


@pytest.mark.parametrize("capacity", [1, 2])
@pytest.mark.parametrize("events", [1, 2, 3, 4, 5])
def test_signal_leaves_trials_that_the_next_session_ends(scene: Scene, events: int, capacity: int) -> None:
    params = search_params(n_trials=3)
    script, stopping = _stop_after(events)
    done, pool, _ = scene.run(script, params, capacity, stopping)
    before = scene.study(params).trials
    assert not done
    left = [trial.number for trial in before if trial.state.name == "RUNNING"]
    assert pool.paused or not left
    assert len(left) <= capacity
    done, pool, _ = scene.run(finishes, params, capacity)
    assert done
    assert [number for number, _ in pool.submitted][: len(left)] == left
    after = scene.study(params).trials
    assert states(scene.study(params)) == ["COMPLETE"] * 3
    assert [trial.params for trial in after[: len(before)]] == [trial.params for trial in before]
    assert [trial.user_attrs["seed"] for trial in after[: len(before)]] == [t.user_attrs["seed"] for t in before]


def test_signal_to_the_whole_group_does_not_wait_for_trials_already_saved(scene: Scene) -> None:
    signals: list[int] = []

    def script(task: Task) -> Script:
        signals.append(15)  # it reached the worker first, and the driver before the worker's answer
        yield Ended(task.number, task.attempt, "interrupted")

    params = search_params(n_trials=2)
    done, pool, _ = scene.run(script, params, 2, lambda: bool(signals))
    assert not done
    assert pool.submitted == [(0, 1), (1, 1)]
    assert pool.polls == 2
    assert states(scene.study(params)) == ["RUNNING", "RUNNING"]


def test_time_is_kept_while_a_long_trial_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.tuning.budget.SAVE_EVERY", 0.0)
    params = search_params(n_trials=1)
    kept: list[float] = []

    def script(task: Task) -> Script:
        yield Report(task.number, task.attempt, epoch(1))
        kept.append(scene.study(params).user_attrs["seconds"])
        yield from finishes(task, first=2)

    scene.run(script, params)
    assert kept[0] <= scene.study(params).user_attrs["seconds"]


def test_killed_driver_has_its_trials_go_on_under_their_numbers(scene: Scene) -> None:
    params = search_params(n_trials=3)

    def script(task: Task) -> Script:
        yield Report(task.number, task.attempt, epoch(1))
        if task.number == 1:
            raise KeyboardInterrupt  # the driver's end; nothing after it is recorded
        yield from finishes(task, first=2)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        scene.run(script, params)
    assert states(scene.study(params)) == ["COMPLETE", "RUNNING"]
    _, pool, recorder = scene.run(finishes, params)
    assert pool.submitted == [(1, 1), (2, 1)]
    assert states(scene.study(params)) == ["COMPLETE"] * 3
    assert recorder.lines == ["trial 1 was left running and resumes"]


@pytest.mark.parametrize("end", ["signal", "signal, not heard", "kill"])
def test_trial_lost_for_good_after_another_session_has_the_epochs_of_both(
    scene: Scene, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.tuning.driver.GRACE_PERIOD", 10.0 if end == "signal" else 0.0)
    params = search_params(n_trials=1)

    def first(task: Task) -> Script:
        for number in (1, 2, 3):
            yield Report(task.number, task.attempt, epoch(number))
        raise KeyboardInterrupt  # the driver's end; nothing after it is recorded

    def then(task: Task) -> Script:
        if end == "kill":
            yield Resumed(task.number, task.attempt, [epoch(1), epoch(2)])  # from its checkpoint, in the third epoch
            yield Report(task.number, task.attempt, epoch(3))
        yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")

    def stopping() -> bool:
        trials = scene.study(params).trials
        return end != "kill" and trials != [] and len(trials[0].intermediate_values) == 3

    with suppress(KeyboardInterrupt):
        scene.run(first, params, stopping=stopping, max_restarts=0)
    assert states(scene.study(params)) == ["RUNNING"]
    scene.run(then, params, max_restarts=0)
    (trial,) = scene.study(params).trials
    assert trial.state.name == "FAIL"
    assert [e["epoch"] for e in trial.user_attrs["history"]] == [1, 2, 3] == sorted(trial.intermediate_values)


def test_too_many_failures_in_a_row_end_the_search_with_the_first_reason(scene: Scene) -> None:
    script = in_turn(finishes, *[fails] * 9)
    params = search_params(n_trials=10, max_failures=3)
    with pytest.raises(PodiumError, match=r"last 3 trials all failed .*trial 1, because: ValueError: no 1"):
        scene.run(script, params)
    assert states(scene.study(params)) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]


def test_too_many_failures_leave_the_others_saved(scene: Scene) -> None:
    def script(task: Task) -> Script:
        return finishes(task) if task.number == 0 else fails(task)

    params = search_params(n_trials=10, max_failures=1, space={"train.epochs": {"low": 5, "high": 9}})
    with pytest.raises(PodiumError, match="search.max_failures 1"):
        scene.run(script, params, capacity=2)
    assert states(scene.study(params)) == ["RUNNING", "FAIL"]


def test_failed_trial_has_reason_and_traceback(scene: Scene) -> None:
    scene.run(fails, search_params(n_trials=1))
    (trial,) = scene.study(search_params()).trials
    assert trial.user_attrs["reason"] == "ValueError: no 0"
    assert trial.user_attrs["traceback"] == "Traceback"


def test_timeout_counts_the_seconds_of_earlier_sessions(scene: Scene) -> None:
    params = search_params(n_trials=5, timeout=1000.0)
    study = scene.study(params)
    study.set_user_attr("seconds", 1000.0)
    done, pool, _ = scene.run(finishes, params)
    assert done
    assert pool.submitted == []


def test_workers_are_heard_while_others_take_long_to_start(fast_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now, heard = [0.0], []

    class Slow(ScriptedPool):
        def submit(self, task: Task) -> None:
            heard.append(self.polls)
            now[0] += 2 * FILL_FOR
            super().submit(task)

    monkeypatch.setattr("podium.tuning.driver.time", SimpleNamespace(monotonic=lambda: now[0]))
    pool, params = Slow(4, finishes), search_params(n_trials=4)
    study = fast_scene.study(params)
    assert Driver(study, pool, params, RuntimeParams(), BASE, fast_scene.folder, []).run()
    assert states(study) == ["COMPLETE"] * 4
    assert heard == [0, 1, 2, 3]


@pytest.mark.parametrize(("timeout", "spent", "left"), [(None, 0.0, None), (1000.0, 400.0, 600.0), (9.0, 9.5, None)])
def test_worker_is_told_how_much_time_the_search_has(
    scene: Scene, timeout: float | None, spent: float, left: float | None
) -> None:
    params = search_params(n_trials=1, timeout=timeout)
    scene.study(params).set_user_attr("seconds", spent)
    told: list[float | None] = []

    def script(task: Task) -> Script:
        told.append(task.stop_after)
        return finishes(task)

    scene.run(script, params)
    if left is None:
        assert told == ([None] if timeout is None else [])  # no trial begins where no time is left
    else:
        assert told[0] is not None
        assert 0 < told[0] <= left


def cannot_begin(task: Task) -> Script:
    """A worker that has no images."""
    yield Lost(task.number, task.attempt, "its worker could not load the images", charged=False)


@pytest.mark.parametrize("max_restarts", [0, 2])
def test_workers_that_cannot_begin_charge_no_trial(scene: Scene, max_restarts: int) -> None:
    params = search_params(n_trials=2)

    def third_time(task: Task) -> Script:
        return finishes(task) if task.attempt > 5 else cannot_begin(task)

    scene.run(third_time, params, max_restarts=max_restarts)
    assert states(scene.study(params)) == ["COMPLETE"] * 2


def test_search_in_which_no_worker_can_begin_ends_and_resumes(scene: Scene) -> None:
    params = search_params(n_trials=2)
    with pytest.raises(PodiumError, match=r"no worker can begin a trial \(10 in a row could not\).*resumes from here"):
        scene.run(cannot_begin, params, capacity=2)
    assert "FAIL" not in states(scene.study(params))
    scene.run(finishes, params)
    assert states(scene.study(params)) == ["COMPLETE"] * 2


def dies_at_once(task: Task) -> Script:
    """Be killed before the first epoch has ended."""
    yield Lost(task.number, task.attempt, "its worker was killed by SIGSEGV")


@pytest.mark.parametrize("capacity", [1, 3])
def test_search_in_which_no_worker_survives_ends_and_charges_no_trial(scene: Scene, capacity: int) -> None:
    params = search_params(n_trials=9, max_failures=4)
    words = r"no worker survives a trial: those of the last 4 trials died.* by SIGSEGV, 3 times .*resumes from here"
    with pytest.raises(PodiumError, match=words):
        scene.run(dies_at_once, params, capacity=capacity)
    assert set(states(scene.study(params))) == {"RUNNING"}
    scene.run(finishes, params)
    assert states(scene.study(params)) == ["COMPLETE"] * 9


@pytest.mark.parametrize(("deadly", "n_trials", "max_failures"), [(1, 3, 1), (3, 8, 3), (2, 7, 2)])
def test_first_trials_that_always_kill_their_workers_do_not_keep_the_others_from_running(
    scene: Scene, deadly: int, n_trials: int, max_failures: int
) -> None:
    params = search_params(n_trials=n_trials, max_failures=max_failures)

    def script(task: Task) -> Script:
        return dies_at_once(task) if task.number < deadly else finishes(task)

    with pytest.raises(PodiumError, match="no trial counts as failed: .* with other trials first"):
        scene.run(script, params)
    assert scene.run(script, params)[0]
    assert states(scene.study(params)) == ["FAIL"] * deadly + ["COMPLETE"] * (n_trials - deadly)


def test_trials_that_kill_their_workers_in_a_second_session_too_fail(scene: Scene) -> None:
    params = search_params(n_trials=2, max_failures=2)
    with pytest.raises(PodiumError, match="no worker survives a trial"):
        scene.run(dies_at_once, params)
    with pytest.raises(PodiumError, match="the last 2 trials all failed"):
        scene.run(dies_at_once, params)
    assert states(scene.study(params)) == ["FAIL", "FAIL"]


@pytest.mark.parametrize("n_trials", [1, 3, 7])
def test_trials_that_kill_their_workers_fail_where_others_work_or_too_few_are_left(scene: Scene, n_trials: int) -> None:
    params = search_params(n_trials=n_trials, max_failures=4)
    script = in_turn(dies_at_once, dies_at_once, dies_at_once, finishes)
    done, pool, _ = scene.run(script, params)
    assert done
    assert states(scene.study(params)) == (["FAIL"] * 3 + ["COMPLETE"] + ["FAIL"] * 3)[:n_trials]
    assert pool.submitted.count((0, 3)) == 1
    assert (0, 4) not in pool.submitted


def test_timeout_stops_a_running_trial_at_its_next_epoch(scene: Scene) -> None:
    params = search_params(n_trials=5, timeout=1000.0)
    study = scene.study(params)

    def script(task: Task) -> Script:
        driver.clock.earlier = 1000.0
        return finishes(task)

    pool = ScriptedPool(2, script)
    driver = Driver(study, pool, params, RuntimeParams(), BASE, scene.folder, [])
    assert driver.run()
    assert states(study) == ["PRUNED"]
    assert study.user_attrs["seconds"] >= 1000


def one_epoch(task: Task) -> Script:
    yield Report(task.number, task.attempt, epoch(1))


def all_epochs(task: Task) -> Script:
    for number in range(1, task.recipe["train"]["epochs"] + 1):
        yield Report(task.number, task.attempt, epoch(number))


@pytest.mark.parametrize(
    ("sends", "state"), [(lambda task: iter(()), "PRUNED"), (one_epoch, "PRUNED"), (all_epochs, "COMPLETE")]
)
@pytest.mark.parametrize("after", [4.0, 6.0])
def test_trial_whose_worker_hangs_beyond_the_timeout_is_ended(
    scene: Scene, sends: Callable[[Task], Script], state: str, after: float
) -> None:
    params, recorder = search_params(n_trials=9, timeout=1000.0), Recorder()
    study = scene.study(params)

    def script(task: Task) -> Script:
        yield from sends(task)
        driver.clock.earlier = 1000.0 + after
        for _ in range(3):
            yield Report(task.number, task.attempt + 100, epoch(1))  # nothing that the driver can use
        assert after > LATE or not recorder.lines
        driver.clock.earlier = 1000.0 + 2 * LATE
        yield from hangs(task)

    pool = ScriptedPool(2, script)
    driver = Driver(study, pool, params, RuntimeParams(), BASE, scene.folder, [recorder])
    assert driver.run()
    assert set(states(study)) == {state}
    assert "s after search.timeout: killed (trials " in recorder.lines[0]


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("fields", [{}, {"deterministic": True}, {"method": "thaw"}], ids=["optuna", "batch", "thaw"])
def test_trials_for_which_no_worker_is_left_after_the_timeout_end_too(
    scene: Scene, fields: dict[str, Any], epochs: int
) -> None:
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    params = SearchParams.model_validate({"n_trials": 3, "timeout": 1000.0, "space": space} | fields)

    def interrupted(task: Task) -> Script:
        for number in range(1, epochs + 1):
            yield Report(task.number, task.attempt, epoch(number))
        if task.number == 2:
            signals.append(15)
        yield from hangs(task)

    signals: list[int] = []
    make: Any = {"deterministic": BatchDriver, "method": ThawDriver}.get(next(iter(fields), ""), Driver)

    def session(script: Callable[[Task], Script], capacity: int) -> tuple[Any, ScriptedPool]:
        pool = ScriptedPool(capacity, script)
        arguments = scene.study(params), pool, params, RuntimeParams(), BASE, scene.folder / "checkpoints", [Recorder()]
        return make(*arguments, lambda: bool(signals)), pool

    assert not session(interrupted, 3)[0].run()
    assert states(scene.study(params)) == ["RUNNING"] * 3
    signals.clear()

    def late(task: Task) -> Script:
        driver.clock.earlier = 2000.0
        yield from hangs(task)

    driver, pool = session(late, 1)
    assert driver.run()
    assert pool.capacity == 0
    assert states(scene.study(params)) == ["PRUNED" if epochs == 1 else "COMPLETE"] * 3


def test_trial_whose_worker_is_lost_as_the_time_is_up_has_no_other_one(scene: Scene) -> None:
    params = search_params(n_trials=5, timeout=1000.0)
    study = scene.study(params)

    def script(task: Task) -> Script:
        driver.clock.earlier = 1000.0
        yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")

    pool = ScriptedPool(1, script)
    driver = Driver(study, pool, params, RuntimeParams(), BASE, scene.folder, [])
    assert driver.run()
    assert states(study) == ["PRUNED"]
    assert pool.submitted == [(0, 1)]


@pytest.mark.parametrize("capacity", [1, 3])
def test_plateau_ends_the_search(fast_scene: Scene, capacity: int) -> None:
    def script(task: Task) -> Script:
        return finishes(task, value=0.9 if task.number == 1 else 0.5)

    params = search_params(n_trials=50, plateau=4)
    fast_scene.run(script, params, capacity)
    assert 6 <= len(states(fast_scene.study(params))) <= 5 + capacity


def test_pruned_trial_is_stopped_by_the_answer(scene: Scene) -> None:
    params = search_params(n_trials=4, pruner="median", pruner_startup=2, pruner_warmup=1)
    _, pool, _ = scene.run(lambda task: finishes(task, value=1.0 - 0.2 * task.number), params)
    assert states(scene.study(params)) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert pool.answers[2, 1] is False
    assert scene.study(params).trials[2].value == pytest.approx(0.6)


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruned_trial_whose_worker_is_lost_before_it_hears_of_it_is_pruned_again(scene: Scene, pruner: str) -> None:
    def script(task: Task) -> Script:
        training = finishes(task, value=1.0 - 0.2 * task.number)
        event = next(training)
        while True:
            answer = yield event
            if not answer and task.attempt == 1:
                yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")
            event = training.send(answer)

    params = search_params(n_trials=4, pruner=pruner, pruner_startup=2, pruner_warmup=1, pruner_factor=2)
    _, pool, _ = scene.run(script, params)
    lost = [number for number, attempt in pool.submitted if attempt == 2]
    assert lost
    assert [trial.number for trial in scene.study(params).trials if trial.state.name == "PRUNED"] == lost


def test_last_epoch_is_never_pruned(scene: Scene) -> None:
    params = search_params(n_trials=4, pruner="median", pruner_startup=2, pruner_warmup=2)
    scene.run(lambda task: finishes(task, value=1.0 - 0.2 * task.number), params)
    assert states(scene.study(params)) == ["COMPLETE"] * 4


def test_checkpoint_of_an_ended_trial_is_removed(scene: Scene) -> None:
    path = scene.folder / "checkpoints" / "000000.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"x")
    scene.run(finishes, search_params(n_trials=1))
    assert not path.exists()


def test_sampler_that_stops_the_study_ends_the_search_for_good(scene: Scene) -> None:
    name, rates = "train.learning_rate", [0.1, 0.2, 0.3]
    sampler = {"name": "GridSampler", "arguments": {"search_space": {name: rates}}}
    space = {name: {"low": 0.1, "high": 0.3}}
    params = search_params(n_trials=20, sampler=sampler, space=space, defaults_first=False)
    for lines in (["search.sampler: GridSampler has no further suggestion: no further trial begins"], []):
        whole, _, recorder = scene.run(finishes, params)
        assert whole
        assert recorder.lines == lines
        trials = scene.study(params).trials
        assert sorted(trial.params[name] for trial in trials) == rates
