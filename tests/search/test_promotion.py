"""Trials that rest at a rung and go on from there: which ones, and that nothing of it is lost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

import tiny
from podium.params import RuntimeParams, SearchParams
from podium.search import resting
from podium.search.inline import open_inline
from podium.search.messages import Ended, Lost, Report, Task
from podium.search.promotion import PromotionDriver
from podium.search.resting import RESTS, Rungs
from podium.search.sampling import build_sampler
from podium.search.study import ask, open_storage, open_study
from podium.training.seeds import derive
from search.scripted import Recorder, Script, ScriptedPool, epoch, search_params, states
from search.sessions import curves

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.epochs": {"choices": [6, 9, 12]},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
}


class KilledError(BaseException):
    """The process is gone."""


def params(**fields: Any) -> SearchParams:
    common = {"n_trials": 14, "space": SPACE, "sampler": "tpe", "startup_trials": 3}
    return search_params(**(common | {"pruner": "asha", "pruner_warmup": 1, "pruner_factor": 3} | fields))


class Workers:
    """Trainings whose checkpoints are kept from one session to the next; values follow from seed and epoch."""

    def __init__(self, value: Callable[[Task, int], float] = lambda t, e: derive(t.seed, e) % 1000 / 1000) -> None:
        self.value = value
        self.saved: dict[int, int] = {}
        """The epoch at which each trial was saved last."""
        self.trained: list[tuple[int, int]] = []
        """Number and epoch of all that was trained, in order."""

    def __call__(self, task: Task) -> Script:
        assert task.resumable
        history = [epoch(n, self.value(task, n)) for n in range(1, self.saved.get(task.number, 0) + 1)]
        for number in range(len(history) + 1, task.recipe["train"]["epochs"] + 1):
            self.trained.append((task.number, number))
            history.append(epoch(number, self.value(task, number)))
            if not (yield Report(task.number, task.attempt, history[-1])):
                self.saved[task.number] = number
                yield Ended(task.number, task.attempt, "stopped", history)
        yield Ended(task.number, task.attempt, "finished", history)


def run(
    folder: Path,
    searched: SearchParams,
    script: Callable[[Task], Script],
    capacity: int = 1,
    recorder: Recorder | None = None,
) -> tuple[optuna.Study, ScriptedPool]:
    study = open_study(open_storage(folder / "optuna.journal"), "search", searched, {})
    pool = ScriptedPool(capacity, script)
    base = tiny.recipe(train__epochs=9)
    PromotionDriver(study, pool, searched, RuntimeParams(), base, folder, [recorder or Recorder()]).run()
    return study, pool


def table(study: optuna.Study) -> list[Any]:
    return [
        (t.number, t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs["history"])
        for t in study.trials
    ]


@pytest.mark.parametrize(
    ("first", "factor", "epochs"),
    [(1, 3, [1, 3, 9, 27]), (2, 3, [2, 6, 18]), (0, 2, [1, 2, 4, 8, 16]), (5, 4, [5, 20])],
)
def test_rungs_are_powers_of_the_factor(first: int, factor: int, epochs: list[int]) -> None:
    rungs = Rungs.of(first, factor, StudyDirection.MAXIMIZE)
    assert [number for number in range(1, 30) if number in rungs] == epochs


def trial(number: int, *values: float, state: str = "resting") -> FrozenTrial:
    made = optuna.trial.create_trial(state=TrialState.PRUNED, intermediate_values=dict(enumerate(values, 1)))
    made.number = number
    made.state = TrialState.RUNNING if state == "resting" else TrialState[state]
    made.user_attrs = {RESTS: [["2026-01-01T00:00:00", None]]} if state == "resting" else {}
    return made


@pytest.mark.parametrize(
    ("trials", "sign", "promoted"),
    [
        ([], 1, None),
        ([trial(0, 0.5)], 1, 0),  # of one, the best
        ([trial(0, 0.5), trial(1, 0.6)], 1, 1),
        ([trial(0, 0.5), trial(1, 0.6)], -1, 0),
        ([trial(0, 0.5), trial(1, 0.6, state="RUNNING")], 1, None),  # the best is under way
        ([trial(0, 0.5), trial(1, 0.6, state="PRUNED")], 1, None),
        ([trial(n, 0.1 * n) for n in range(6)], 1, 5),
        ([*(trial(n, 0.1 * n) for n in range(5)), trial(5, 0.9, state="COMPLETE")], 1, 4),  # two of six
        ([*(trial(n, 0.1 * n) for n in range(4)), trial(4, 0.5, 0.5, 0.5)], 1, 4),  # the higher rung first
        ([trial(0, 0.1, 0.1, 0.1), trial(1, 0.5), trial(2, 0.4)], 1, 0),
        ([trial(0, 0.5), trial(1, 0.5)], 1, 0),
        ([trial(0, 0.5, 0.5)], 1, None),  # at rest between two rungs: its time was out
    ],
)
def test_best_of_the_highest_rung_goes_on(trials: list[FrozenTrial], sign: int, promoted: int | None) -> None:
    found = Rungs(1, 3, sign).promoted(trials)
    assert (found.number if found else None) == promoted


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("n_trials", [1, 2, 14])
def test_search_ends_with_nothing_at_rest_and_something_complete(tmp_path: Path, n_trials: int, capacity: int) -> None:
    workers, recorder = Workers(), Recorder()
    study, _ = run(tmp_path, params(n_trials=n_trials), workers, capacity, recorder)
    assert len(study.trials) == n_trials
    assert set(states(study)) <= {"COMPLETE", "PRUNED"}
    assert "COMPLETE" in states(study)
    assert sorted(recorder.told) == [(t.number, t.state.name) for t in study.trials]
    assert len(workers.trained) == len(set(workers.trained)) == sum(len(t.intermediate_values) for t in study.trials)
    assert recorder.lines == []


def test_trial_goes_on_when_enough_others_have_come_to_its_rung(tmp_path: Path) -> None:
    """Trials 0 and 1 are the best of their first epoch; 1 shows that only when six have come there."""
    values = [0.9, 0.8, 0.1, 0.2, 0.3, 0.4]
    workers = Workers(lambda task, number: values[task.number])
    study, pool = run(tmp_path, params(n_trials=6, space={}), workers)
    assert states(study) == ["COMPLETE", *["PRUNED"] * 5]
    assert [len(t.intermediate_values) for t in study.trials] == [9, 3, 1, 1, 1, 1]
    assert pool.submitted == [*((number, 1) for number in range(6)), (1, 2)]
    assert [len(t.user_attrs["history"]) for t in study.trials] == [9, 3, 1, 1, 1, 1]
    assert len(study.trials[1].user_attrs[RESTS]) == 2


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_killed_at_any_event_is_the_same_search(tmp_path: Path, sampler: str) -> None:
    searched = params(n_trials=9, sampler=sampler)
    undisturbed, _ = run(tmp_path / "undisturbed", searched, Workers())
    events = len([t for t in undisturbed.trials for _ in t.intermediate_values])
    for at in range(1, events, 2):
        folder, workers = tmp_path / str(at), Workers()
        with pytest.raises(KilledError):
            run(folder, searched, mortal(workers, at))
        study, _ = run(folder, searched, workers)
        assert table(study) == table(undisturbed), at


def mortal(workers: Workers, events: int) -> Callable[[Task], Script]:
    """`workers`, and the process dies after so many events."""
    left = events

    def script(task: Task) -> Script:
        nonlocal left
        training = workers(task)
        event = next(training)
        while True:
            left -= 1
            if left < 0:
                raise KilledError
            event = training.send((yield event))

    return script


def test_sampler_takes_a_resting_trial_for_a_pruned_one(tmp_path: Path) -> None:
    searched = params(startup_trials=1)

    def proposals(folder: Path, end: Callable[[optuna.Study, optuna.Trial], None]) -> list[dict[str, Any]]:
        study = open_study(open_storage(folder / "optuna.journal"), "search", searched, {})
        for number in range(6):
            one = ask(study, searched)
            one.suggest_float("x", 0.0, 1.0)
            one.report(number / 10, 1)
            end(study, one)
        return [_proposal(study, searched) for _ in range(3)]

    def rest(study: optuna.Study, one: optuna.Trial) -> None:
        resting.lie_down(one)

    def prune(study: optuna.Study, one: optuna.Trial) -> None:
        study.tell(one, state=TrialState.PRUNED)

    assert proposals(tmp_path / "resting", rest) == proposals(tmp_path / "pruned", prune)
    assert proposals(tmp_path / "running", lambda study, one: None) != proposals(tmp_path / "pruned", prune)


def _proposal(study: optuna.Study, searched: SearchParams) -> dict[str, Any]:
    study.sampler = build_sampler(searched, len(study.trials))
    one = study.ask()
    one.suggest_float("x", 0.0, 1.0)
    study.tell(one, state=TrialState.FAIL)
    return dict(one.params)


def test_lost_worker_counts_and_a_rest_does_not(tmp_path: Path) -> None:
    """Each attempt at trial 1 that goes on is lost once; it may be lost twice."""
    workers = Workers(lambda task, number: (10 - task.number + number) / 100 if task.number != 1 else 0.05)

    def script(task: Task) -> Script:
        if task.number == 0 and task.attempt in (1, 2):
            yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")
        yield from workers(task)

    study, pool = run(tmp_path, params(n_trials=6, space={}), script)
    assert states(study)[0] == "COMPLETE"
    assert pool.submitted[:3] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("limit", [{"timeout": 1e-6}, {"plateau": 1}])
def test_spent_budget_promotes_nothing_more(tmp_path: Path, limit: dict[str, Any]) -> None:
    values = [0.9, 0.8, 0.1, 0.2, 0.3, 0.4]
    workers = Workers(lambda task, number: values[task.number])
    searched = params(n_trials=6, space={}, **limit)
    study, _ = run(tmp_path, searched, workers)
    assert len(study.trials) == (0 if "timeout" in limit else 2)
    assert "RUNNING" not in states(study)


def test_time_with_a_worker_leaves_the_rests_out() -> None:
    start = datetime(2026, 1, 1)
    one = trial(0, 0.5, state="PRUNED")

    def at(seconds: int) -> datetime:
        return start + timedelta(seconds=seconds)

    one.datetime_start, one.datetime_complete = at(0), at(100)
    assert resting.sittings(one) == [(at(0), at(100))]
    one.user_attrs = {RESTS: [[at(10).isoformat(), at(30).isoformat()], [at(35).isoformat(), None]]}
    assert resting.sittings(one) == [(at(0), at(10)), (at(30), at(35))]
    one.user_attrs[RESTS][-1][1] = at(90).isoformat()
    assert resting.sittings(one) == [(at(0), at(10)), (at(30), at(35)), (at(90), at(100))]
    one.datetime_start = None
    assert resting.sittings(one) == [(at(30), at(35)), (at(90), at(100))]


def test_trained_in_parts_or_whole_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """What rested and went on has the curve of a trial that never rested."""
    prepared = tiny.prepare(tmp_path / "prepared")
    searched = params(n_trials=7, sampler="random", pruner_factor=2)

    def search(folder: Path, fields: dict[str, Any]) -> optuna.Study:
        changed = searched.model_copy(update=fields)
        study = open_study(open_storage(folder / "optuna.journal"), "search", changed, {})
        pool = open_inline(prepared, RuntimeParams(engine="inline", device="cpu"))
        base = tiny.recipe(train__shift=1, model__dropout=0.2)
        try:
            PromotionDriver(study, pool, changed, RuntimeParams(), base, folder / "ckpt", [Recorder()]).run()
        finally:
            pool.close()
        assert list((folder / "ckpt").glob("*")) == []
        return study

    parts = search(tmp_path / "parts", {})
    whole = curves(search(tmp_path / "whole", {"pruner_warmup": 50}))
    rested = [t.number for t in parts.trials if t.user_attrs.get(RESTS)]
    went_on = [t.number for t in parts.trials if any(until for _, until in t.user_attrs.get(RESTS, []))]
    assert rested
    assert went_on
    for number, (_, _, history) in curves(parts).items():
        assert history == whole[number][2][: len(history)]
