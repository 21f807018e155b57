"""Freeze-thaw searches over scripted workers: budgets, states, kills before any write."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from podium.config.params import SearchParams
from podium.errors import PodiumError
from podium.training.epochs import Epoch
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.planner import STRATA
from podium.tuning.inherit import SOURCE
from podium.tuning.messages import Task
from tuning.freeze_thaw.thawing import SPACE, Sleepers, params_of, search, value_of
from tuning.killing import KilledError, kill_before, table
from tuning.scripted import Recorder, states


def _epochs(study: optuna.Study) -> list[int]:
    return [len(trial.intermediate_values) for trial in study.trials]


def test_search_begins_with_an_epoch_of_each_stratum(tmp_path: Path) -> None:
    study, _ = search(tmp_path, params_of(n_trials=30, max_epochs=STRATA))
    assert _epochs(study) == [1] * STRATA
    rates = sorted(trial.params["train.learning_rate"] for trial in study.trials)
    edges = [1e-4 * 10 ** (3 * k / STRATA) for k in range(STRATA + 1)]
    assert all(low <= rate < high for low, rate, high in zip(edges, rates, edges[1:], strict=False))


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("epochs", [1, 9, 60])
def test_budget_of_epochs_is_exact(tmp_path: Path, epochs: int, capacity: int, *, deterministic: bool) -> None:
    params = params_of(n_trials=30, max_epochs=epochs, deterministic=deterministic, max_resting=50)
    study, done = search(tmp_path, params, capacity=capacity)
    assert done
    assert sum(_epochs(study)) == epochs
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_trials_rest_and_go_on_and_few_have_a_checkpoint(tmp_path: Path) -> None:
    recorder = Recorder()
    study, _ = search(tmp_path, params_of(max_epochs=80), recorder=recorder)
    assert len(recorder.rests) > len({number for number, _ in recorder.rests}), "some rested more than once"
    assert {"COMPLETE", "PRUNED"} == set(states(study))
    assert len(study.trials) == 12


@pytest.mark.parametrize(("seconds", "least"), [(0.01, 10), (0.04, 3), (0.5, 1)])
def test_slice_of_short_epochs_lasts_longer_than_its_decision(tmp_path: Path, seconds: float, least: int) -> None:
    """A decision took longer than an epoch of a head on features, and each decided on one."""
    space = SPACE | {"train.epochs": {"low": 30, "high": 40}}
    params = params_of(max_epochs=200, space=space, max_resting=20)
    study, _ = search(tmp_path, params, Sleepers(seconds=seconds), train__schedule="constant")
    made, before = decided.read(study), dict[int, int]()
    for one in made:
        if one.by_model and one is not made[-1]:
            assert one.until is not None
            assert one.until >= min(40, before.get(one.trial, 0) + least)
        before[one.trial] = one.until or 0
    assert sum(one.by_model for one in made) >= 5
    assert sum(_epochs(study)) == 200


def test_search_that_is_deterministic_counts_epochs_however_short(tmp_path: Path) -> None:
    params = params_of(max_epochs=40, deterministic=True)
    short, long = (search(tmp_path / str(s), params, Sleepers(seconds=s))[0] for s in (0.01, 1.0))
    assert decided.read(short) == decided.read(long)


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_trials_rest_than_may(tmp_path: Path, most: int) -> None:
    counts: list[int] = []

    class Counting(Recorder):
        def rested(self, trial: Any, history: Any) -> None:
            counts.append(len(opened[0].get_trials(deepcopy=False, states=(TrialState.RUNNING,))))

    opened: list[optuna.Study] = []
    search(tmp_path, params_of(max_epochs=80, max_resting=most), recorder=Counting(), before=opened.append)
    assert max(counts[STRATA:]) <= max(most + 1, 2)
    assert max(counts) <= STRATA


def test_first_guess_trains_to_its_own_end_before_anything_else(tmp_path: Path) -> None:
    guess = {"train.learning_rate": 0.01, "train.epochs": 7, "train.optimizer": "adamw"}
    study, _ = search(
        tmp_path, params_of(max_epochs=30), before=lambda study: study.enqueue_trial(guess), train__schedule="constant"
    )
    first = decided.read(study)[0]
    assert (first.trial, first.until, first.how) == (0, 7, "enqueued")
    assert {name: study.trials[0].params[name] for name in ("train.learning_rate", "train.optimizer")} == {
        "train.learning_rate": 0.01,
        "train.optimizer": "adamw",
    }


def test_what_an_enqueued_trial_leaves_open_is_drawn(tmp_path: Path) -> None:
    study, _ = search(
        tmp_path, params_of(max_epochs=30), before=lambda study: study.enqueue_trial({"train.optimizer": "sgd"})
    )
    assert {"train.learning_rate", "train.momentum"} <= set(study.trials[0].params)


def test_inherited_trials_are_seen_and_cost_nothing(tmp_path: Path) -> None:
    source, _ = search(tmp_path / "source", params_of())

    def before(study: optuna.Study) -> None:
        for trial in source.trials:
            trial.user_attrs[SOURCE] = f"other/{trial.number}"
            study.add_trial(trial)

    study, _ = search(tmp_path / "new", params_of(max_epochs=20), before=before)
    made = decided.read(study)
    assert {one.how for one in made} <= {"new", "thaw"}
    assert min(one.trial for one in made) == len(source.trials)
    assert sum(_epochs(study)[len(source.trials) :]) == 20


@pytest.mark.parametrize("deterministic", [False, True])
def test_failed_trials_are_left_alone_and_rests_break_their_row(tmp_path: Path, *, deterministic: bool) -> None:
    workers = Sleepers(fails=lambda task, number: task.number % 3 == 1)
    study, _ = search(tmp_path, params_of(max_failures=2, max_epochs=40, deterministic=deterministic), workers)
    assert states(study).count("FAIL") >= 3


@pytest.mark.parametrize("deterministic", [False, True])
def test_search_in_which_nothing_works_ends(tmp_path: Path, *, deterministic: bool) -> None:
    workers = Sleepers(fails=lambda task, number: True)
    with pytest.raises(PodiumError, match=r"trials all failed .*trial 0, because: ValueError: no 0"):
        search(tmp_path, params_of(max_failures=4, deterministic=deterministic), workers)


@pytest.mark.parametrize("deterministic", [False, True])
def test_search_in_which_no_trial_gets_on_after_its_rest_ends(tmp_path: Path, *, deterministic: bool) -> None:
    """New ones rest well, so the last trials never failed all: one after the other did, to the search's end."""
    fails = Sleepers(fails=lambda task, number: number == 3)
    params = params_of(n_trials=100, max_epochs=400, max_failures=4, deterministic=deterministic, max_resting=50)
    with pytest.raises(PodiumError, match=r"trials failed, and none has trained more than 2 epochs .*because: Val"):
        search(tmp_path, params, fails)
    study, done = search(tmp_path, params.model_copy(update={"max_epochs": 170}))
    assert done, "what was mended is no reason to end the next session"
    assert "COMPLETE" in states(study)


def test_trials_that_fail_late_end_no_search_in_which_others_go_on(tmp_path: Path) -> None:
    """They are the last ones by number, and rested before."""
    late = Sleepers(fails=lambda task, number: task.number >= 8 and number == 4)
    study, done = search(tmp_path, params_of(n_trials=12, max_epochs=150, max_failures=3, max_resting=50), late)
    assert done
    assert states(study)[8:].count("FAIL") >= 3
    assert states(study)[:8].count("COMPLETE") >= 1


def test_budget_raised_goes_on_with_new_trials(tmp_path: Path) -> None:
    study, _ = search(tmp_path, params_of(max_epochs=20, n_trials=9))
    before = table(study)
    study, _ = search(tmp_path, params_of(max_epochs=30, n_trials=20))
    assert table(study)[: len(before)] == before
    assert sum(_epochs(study)) == 30


def test_budget_lowered_ends_what_rests(tmp_path: Path) -> None:
    seen: list[int] = []

    def stopping() -> bool:
        seen.append(1)
        return len(seen) > 60

    study, done = search(tmp_path, params_of(), stopping=stopping)
    assert not done
    assert "RUNNING" in states(study)
    study, done = search(tmp_path, params_of(max_epochs=5))
    assert done
    assert "RUNNING" not in states(study)


def test_timeout_ends_what_rests(tmp_path: Path) -> None:
    params = params_of(max_epochs=None, timeout=1000.0)
    study, done = search(tmp_path, params, before=lambda study: study.set_user_attr("seconds", 1000.0))
    assert done
    assert study.trials == []


class Recovering(Sleepers):
    """The metric of every third trial has no finite value before its fourth epoch."""

    def _epoch(self, task: Task, number: int) -> Epoch:
        never = task.number % 3 == 0 and number < 4
        return super()._epoch(task, number) | ({"val_accuracy": math.nan} if never else {})


def test_trials_without_a_finite_value_are_let_go_first(tmp_path: Path) -> None:
    opened: list[optuna.Study] = []
    ended_before: list[int] = []

    class Watching(Recorder):
        def rested(self, trial: Any, history: Any) -> None:
            states = {t.number: t.state for t in opened[0].get_trials(deepcopy=False)}
            if any(states.get(number) == TrialState.RUNNING for number in (0, 3, 6)):
                ended_before.extend(n for n, state in states.items() if state == TrialState.PRUNED and n % 3)

    params = params_of(max_epochs=40, max_resting=6, n_trials=16)
    study, done = search(tmp_path, params, Recovering(), recorder=Watching(), before=opened.append)
    assert done
    assert {"COMPLETE", "PRUNED"} >= set(states(study))
    assert ended_before == []


def test_trials_without_a_finite_value_go_on_where_nothing_else_can(tmp_path: Path) -> None:
    space = SPACE | {"train.epochs": {"low": 5, "high": 6}}
    params = params_of(max_epochs=1000, n_trials=9, space=space, shared_epochs=False, max_resting=40)
    study, done = search(tmp_path, params, Recovering())
    assert done
    assert states(study) == ["COMPLETE"] * 9


def test_all_trials_at_their_ends_end_the_search(tmp_path: Path) -> None:
    space = SPACE | {"train.epochs": {"low": 2, "high": 3}}
    study, done = search(tmp_path, params_of(max_epochs=1000, n_trials=9, space=space, shared_epochs=False))
    assert done
    assert set(states(study)) <= {"COMPLETE", "PRUNED"}
    assert states(study).count("COMPLETE") >= 5


def test_search_until_no_gain_ends_by_itself(tmp_path: Path) -> None:
    params = params_of(n_trials=500, max_epochs=3000, until="no_gain")
    study, done = search(tmp_path, params)
    assert done
    assert sum(_epochs(study)) < 3000


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_search_comes_near_the_best_rate(tmp_path: Path, metric: str) -> None:
    study, _ = search(tmp_path, params_of(n_trials=40, max_epochs=200, metric=metric))
    assert 0.005 < study.best_trial.params["train.learning_rate"] < 0.02


def test_metric_that_begins_below_zero_is_searched_by_as_any_other(tmp_path: Path) -> None:
    def agreement(task: Task, number: int) -> dict[str, float]:
        return {"val_mcc": -0.02 if number == 1 and task.number == 0 else value_of(task, number)}

    study, _ = search(tmp_path, params_of(n_trials=40, max_epochs=120, metric="mcc"), Sleepers(more=agreement))
    assert 0.005 < study.best_trial.params["train.learning_rate"] < 0.02


def test_one_training_serves_all_epochs(tmp_path: Path) -> None:
    study, _ = search(tmp_path, params_of(), train__schedule="constant")
    assert all("train.epochs" not in trial.params for trial in study.trials)
    complete = [len(t.intermediate_values) >= 4 for t in study.trials]
    assert [state == "COMPLETE" for state in states(study)] == complete


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"train.batch_size": {"choices": [16, 32, 64, 128]}},
        {"train.learning_rate": {"low": 0.001, "high": 0.011, "step": 0.002}},
        {"model.hidden": {"low": 4, "high": 64, "log": True}, "train.flip": {"choices": [True, False]}},
        {"train.epochs": {"low": 2, "high": 12, "step": 5}, "train.ema": {"low": 0.5, "high": 0.5}},
        {"train.schedule": {"choices": ["constant", "cosine"]}, "train.epochs": {"choices": [3, 9]}},
    ],
)
def test_any_kind_of_dimension_is_searched(tmp_path: Path, space: dict[str, Any]) -> None:
    study, done = search(tmp_path, params_of(space=space, max_epochs=40), train__epochs=6)
    assert done
    assert sum(_epochs(study)) == 40


def _kill_everywhere(folder: Path, params: SearchParams, every: int, *, checkpoints: bool) -> None:
    fails = lambda task, number: task.number == 5  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        count = kill_before(-1, patch)
        undisturbed, _ = search(folder / "undisturbed", params, Sleepers(fails=fails))
        writes = count()
    assert {"PRUNED", "FAIL"} <= set(states(undisturbed))
    wrong = []
    for write in range(0, writes, every):
        workers = Sleepers(checkpoints=checkpoints, fails=fails)
        with pytest.MonkeyPatch.context() as patch:
            kill_before(write, patch)
            with pytest.raises(KilledError, match=r"^$"):
                search(folder / str(write), params, workers)
        study, _ = search(folder / str(write), params, workers)
        if table(study) != table(undisturbed) or decided.read(study) != decided.read(undisturbed):
            wrong.append(write)
    assert wrong == [], f"out of {writes} writes"


@pytest.mark.parametrize("checkpoints", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_killed_search_is_the_same_search(tmp_path: Path, *, deterministic: bool, checkpoints: bool) -> None:
    params = params_of(max_epochs=24, deterministic=deterministic, batch=3)
    _kill_everywhere(tmp_path, params, every=29, checkpoints=checkpoints)


@pytest.mark.slow
@pytest.mark.parametrize(("deterministic", "checkpoints"), [(True, False), (False, True)])
def test_search_killed_before_every_other_write_is_the_same_search(
    tmp_path: Path, *, deterministic: bool, checkpoints: bool
) -> None:
    params = params_of(max_epochs=24, deterministic=deterministic, batch=3)
    _kill_everywhere(tmp_path, params, every=2, checkpoints=checkpoints)


def test_deterministic_search_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    params = params_of(deterministic=True, batch=4)
    first, *others = (search(tmp_path / str(n), params, capacity=n)[0] for n in (1, 2, 3, 7))
    assert all(table(other) == table(first) for other in others)


def test_trial_that_somebody_else_asked_for_is_trained_to_its_end(tmp_path: Path) -> None:
    def somebody(study: optuna.Study) -> None:
        study.ask()

    study, done = search(tmp_path, params_of(n_trials=4), before=somebody)
    assert done
    first = study.trials[0]
    assert first.state.name == "COMPLETE"
    assert len(first.user_attrs["history"]) == first.params["train.epochs"]
