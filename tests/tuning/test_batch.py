from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams, SearchParams, parse
from podium.errors import PodiumError
from podium.training.seeds import derive
from podium.tuning.batch import BatchDriver, first_of_batch
from podium.tuning.driver import Driver
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.pools.processes import ProcessPool, Setup
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.scripted import Recorder, Script, ScriptedPool, epoch, fails, finishes, search_params, states
from tuning.sessions import curves

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.epochs": {"low": 2, "high": 6},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
}


class KilledError(BaseException):
    """The process is gone."""


def _trains(task: Task) -> Script:
    """Values that follow from seed and epoch; a checkpoint is never there."""
    history = []
    for number in range(1, task.recipe["train"]["epochs"] + 1):
        history.append(epoch(number, derive(task.seed, number) % 1000 / 1000))
        if not (yield Report(task.number, task.attempt, history[-1])):
            yield Ended(task.number, task.attempt, "stopped", history)
    yield Ended(task.number, task.attempt, "finished", history)


def _params(**fields: Any) -> SearchParams:
    common = {"n_trials": 14, "space": SPACE, "sampler": "tpe", "startup_trials": 3, "deterministic": True, "batch": 4}
    return search_params(**(common | {"pruner": "median", "pruner_startup": 2, "pruner_warmup": 1} | fields))


def _run(
    folder: Path, capacity: int, params: SearchParams, script: Any = _trains, driver: type[Driver] = BatchDriver
) -> optuna.Study:
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    pool = ScriptedPool(capacity, script)
    driver(study, pool, params, RuntimeParams(), tiny.recipe(), folder, [Recorder()]).run()
    return study


def _table(study: optuna.Study) -> list[Any]:
    return [(t.number, t.state.name, t.value, t.params, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize("pruner", ["none", "median", "halving"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_trials_are_the_same_with_any_number_of_workers(tmp_path: Path, sampler: str, pruner: str) -> None:
    params = _params(sampler=sampler, pruner=pruner)
    alone, *others = (_table(_run(tmp_path / str(workers), workers, params)) for workers in (1, 2, 3, 4, 9))
    assert len(alone) == 14
    assert (pruner != "none") == any(state == "PRUNED" for _, state, *_ in alone)
    assert all(other == alone for other in others)


def test_free_running_search_depends_on_the_number_of_workers(tmp_path: Path) -> None:
    params = _params()
    one, four = (_table(_run(tmp_path / str(workers), workers, params, driver=Driver)) for workers in (1, 4))
    assert one != four


@pytest.mark.parametrize(("workers", "pruner"), [(1, "median"), (2, "median"), (2, "halving")])
def test_search_killed_in_a_batch_is_the_same_search(tmp_path: Path, workers: int, pruner: str) -> None:
    params = _params(n_trials=9, pruner=pruner)
    undisturbed = _table(_run(tmp_path / "undisturbed", workers, params))
    for at in range(1, 30, 3):
        reports = 0

        def kills(task: Task) -> Script:
            nonlocal reports
            script = _trains(task)
            event = next(script)
            while True:
                reports += 1
                if reports == at:  # noqa: B023 (called in this round only)
                    raise KilledError
                event = script.send((yield event))

        with pytest.raises(KilledError, match=r"^$"):
            _run(tmp_path / str(at), workers, params, kills)
        assert _table(_run(tmp_path / str(at), 3 - workers, params)) == undisturbed, f"killed at report {at}"


def test_batch_of_which_a_killed_driver_asked_a_part_is_filled_before_it_is_trained(tmp_path: Path) -> None:
    params = _params(n_trials=8)
    undisturbed = _table(_run(tmp_path / "undisturbed", 2, params))
    asked = 0
    prepare = BatchDriver._prepare

    def dies(self: BatchDriver, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 7:
            raise KilledError
        return prepare(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchDriver, "_prepare", dies)
        with pytest.raises(KilledError, match=r"^$"):
            _run(tmp_path / "killed", 2, params)
    assert _table(_run(tmp_path / "killed", 2, params)) == undisturbed


@pytest.mark.parametrize(("n_trials", "batch"), [(1, 8), (7, 3), (8, 8), (3, 1)])
def test_budget_is_exact(tmp_path: Path, n_trials: int, batch: int) -> None:
    study = _run(tmp_path, 2, _params(n_trials=n_trials, batch=batch), finishes)
    assert states(study) == ["COMPLETE"] * n_trials


def test_failures_end_the_search_when_their_batch_has_ended(tmp_path: Path) -> None:
    params = _params(n_trials=50, batch=5, max_failures=2)
    with pytest.raises(PodiumError, match="the last 5 trials all failed .*trial 0"):
        _run(tmp_path, 2, params, fails)
    assert states(open_study(open_storage(tmp_path / "optuna.journal"), "search", params, {})) == ["FAIL"] * 5


@pytest.mark.parametrize(
    ("script", "said", "expected"),
    [
        (finishes, "", ["FAIL"] * 5 + ["COMPLETE"] * 7),
        (fails, "the last 10 trials all failed", ["FAIL"] * 10),
    ],
    ids=["mended", "not mended"],
)
def test_search_that_ended_on_failures_tries_a_batch_when_it_is_run_again(
    tmp_path: Path, script: Any, said: str, expected: list[str]
) -> None:
    params = _params(n_trials=12, batch=5, max_failures=2)
    with pytest.raises(PodiumError, match="the last 5 trials all failed"):
        _run(tmp_path, 2, params, fails)
    with pytest.raises(PodiumError, match=said) if said else nullcontext():
        _run(tmp_path, 2, params, script)
    assert states(open_study(open_storage(tmp_path / "optuna.journal"), "search", params, {})) == expected


def test_first_of_batch_counts_the_studys_own_trials() -> None:
    study = optuna.create_study()
    for source in ("other/0", None, None, "other/1", None, None):
        attributes = {"inherited_from": source} if source else {}
        study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs=attributes))
    assert [first_of_batch(study.trials, number, 2) for number in (1, 2, 4, 5)] == [1, 1, 4, 4]


def test_hyperband_is_refused_where_the_search_is_deterministic() -> None:
    with pytest.raises(Exception, match=r"search: deterministic does not go with a pruner that .*; got hyperband"):
        parse("search: {deterministic: true, pruner: hyperband}")


@pytest.mark.slow
def test_trainings_are_the_same_bits_with_any_number_of_workers(tmp_path: Path) -> None:
    tiny.prepare(tmp_path / "prepared")
    params = _params(n_trials=8)
    found = []
    for workers in (1, 2, 4):
        study = open_study(open_storage(tmp_path / f"{workers}.journal"), "search", params, {})
        pool = ProcessPool(workers, Setup(str(tmp_path / "prepared"), "cpu", 1))
        base = tiny.recipe(train__shift=1, model__dropout=0.2)
        try:
            BatchDriver(study, pool, params, RuntimeParams(), base, tmp_path / str(workers), [Recorder()]).run()
        finally:
            pool.close()
        found.append((_table(study), curves(study)))
    assert found[0] == found[1] == found[2]
