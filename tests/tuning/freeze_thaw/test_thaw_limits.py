"""search.limits in a freeze-thaw search: what is known to cost too much is not proposed, nothing over one is chosen."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.errors import PodiumError
from podium.tracking.pareto_front import is_feasible
from podium.tuning.ending import ending_of
from podium.tuning.feasibility import COSTS, OVER
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.decisions import Decision
from podium.tuning.freeze_thaw.planner import CALM
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.messages import Task
from podium.tuning.outcome import _best, ranked
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.freeze_thaw.thawing import SPACE, Sleepers, params_of, search, value_of
from tuning.scripted import Recorder, ScriptedPool, epoch

NETWORKS = SPACE | {"model.hidden": {"choices": [16, 32, 64, 128]}}


def _sizes(study: optuna.Study) -> list[int]:
    return [int(trial.user_attrs["recipe"]["model.hidden"]) for trial in study.trials if "recipe" in trial.user_attrs]


def _large(max_epochs: int = 60, *, deterministic: bool = False) -> SearchParams:
    limits = {"parameters": 400}
    return params_of(limits=limits, space=NETWORKS, n_trials=20, max_epochs=max_epochs, deterministic=deterministic)


def test_network_known_to_be_too_large_is_not_proposed_again(tmp_path: Path) -> None:
    workers = Sleepers()
    study, _ = search(tmp_path, _large(), workers)
    sizes = _sizes(study)
    too_large = [size for size in sizes if size in (64, 128)]
    assert too_large
    assert len(too_large) == len(set(too_large))
    assert sizes.count(16) + sizes.count(32) > 8
    assert len(workers.measured) == len(set(sizes)), "a known network is not measured again, by a resumed trial neither"
    over = [trial for trial in study.trials if not is_feasible(trial)]
    assert [trial.state for trial in over] == [TrialState.PRUNED] * len(too_large)
    assert all("(at most 400)" in trial.user_attrs[OVER] for trial in over)
    assert all(is_feasible(trial) for trial in ranked(study))


@pytest.mark.parametrize(("log", "most"), [(True, 6), (False, 10)])
def test_networks_that_are_probably_too_large_are_hardly_proposed(tmp_path: Path, *, log: bool, most: int) -> None:
    """No two networks are alike, and of a linear range 96 % are over: 39 of 40 trials were, for nothing was known of
    their places. At random 23 of 40 would be on the logarithmic scale."""
    space = SPACE | {"model.hidden": {"low": 4, "high": 1024, "log": log}}
    params = params_of(limits={"parameters": 400}, space=space, n_trials=40, max_epochs=80, max_resting=30)
    study, _ = search(tmp_path, params)
    assert sum(size > 40 for size in _sizes(study)) <= most
    assert sum(len(trial.intermediate_values) for trial in study.trials) == 80


def test_space_in_which_every_network_is_too_large_ends(tmp_path: Path) -> None:
    params = params_of(limits={"parameters": 1}, space=NETWORKS, n_trials=30)
    study, ended = search(tmp_path, params)
    assert ended
    assert sorted(_sizes(study)) == [16, 32, 64, 128]
    assert not ranked(study)


@pytest.mark.parametrize("deterministic", [True, False])
def test_search_with_limits_goes_on_as_the_undisturbed_one(tmp_path: Path, *, deterministic: bool) -> None:
    params = _large(24, deterministic=deterministic)
    whole, _ = search(tmp_path / "whole", params)
    workers, left = Sleepers(), iter(range(5))
    _, ended = search(tmp_path / "stopped", params, workers, stopping=lambda: next(left, None) is None)
    assert not ended
    again, ended = search(tmp_path / "stopped", params, workers)
    assert ended
    assert decided.read(again) == decided.read(whole)
    assert [t.constraints for t in again.trials] == [t.constraints for t in whole.trials]


def _recall(task: Task, number: int) -> dict[str, float]:
    """The higher the learning rate, the lower: the best rate by the objective, 0.01, breaks the limit."""
    return {"val_min_recall": 0.5 if task.recipe["train"]["learning_rate"] > 2e-3 else 0.8}


def test_limit_of_a_metric_is_learnt_and_no_trial_over_it_is_chosen(tmp_path: Path) -> None:
    fields = {"n_trials": 30, "max_epochs": 80, "max_resting": 30}
    study, _ = search(tmp_path, params_of(limits={"min_recall": 0.7}, **fields), Sleepers(more=_recall))
    assert ranked(study)
    assert all(trial.params["train.learning_rate"] <= 2e-3 for trial in ranked(study))
    free, _ = search(tmp_path / "free", params_of(**fields), Sleepers(more=_recall))
    assert _epochs_over(study) < 0.9 * _epochs_over(free), "the search with the limit trains less of what breaks it"


def _late(task: Task, number: int) -> dict[str, float]:
    """It rises later than accuracy: after one epoch every trial misses the limit by the same."""
    return {"val_min_recall": value_of(task, number) * (number / int(task.recipe["train"]["epochs"])) ** 2}


def _none_yet(task: Task, number: int) -> dict[str, float]:
    """The rarest class is not found at all in the first epochs."""
    return {"val_min_recall": 0.0 if number < 3 else value_of(task, number) - 0.1}


@pytest.mark.parametrize("until", ["no_gain", "budget"])
@pytest.mark.parametrize("recall", [_late, _none_yet])
@pytest.mark.parametrize("seed", [0, 1])
def test_limit_that_no_first_epoch_keeps_is_reached_by_trials_that_go_on(
    tmp_path: Path, until: str, recall: Callable[[Task, int], dict[str, float]], seed: int
) -> None:
    fields = {"limits": {"min_recall": 0.4}, "n_trials": 40, "max_resting": 40, "seed": seed}
    study, ended = search(tmp_path, params_of(until=until, max_epochs=100, **fields), Sleepers(more=recall))
    assert ended
    assert ranked(study), "a whole training keeps the limit, so the search finds one that does"
    ended_early = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert ended_early, "not everything was trained to its end"


def test_search_that_ended_for_no_gain_with_nothing_complete_goes_on(tmp_path: Path) -> None:
    """As an earlier Podium left it: its last ten decisions expected nothing, and all that rested was pruned."""
    params = params_of(limits={"min_recall": 0.4}, until="no_gain", n_trials=30, max_epochs=12, max_resting=40)
    study, _ = search(tmp_path, params, Sleepers(more=_late))
    known = decided.read(study)
    for _ in range(CALM):
        decided.append(study, known, Decision(0, 1, "thaw", gain=0.0, noise=0.1))
    assert not ranked(study)
    with pytest.raises(PodiumError, match=r"raise search.max_epochs \(12\), relax search.limits \(min_recall: 0.4\)"):
        _best(study, params)
    again, ended = search(tmp_path, params.model_copy(update={"max_epochs": 120}), Sleepers(more=_late))
    assert ended
    assert ranked(again)


def test_message_names_the_trials_where_all_have_begun(tmp_path: Path) -> None:
    params = params_of(n_trials=4, max_epochs=4)
    study, _ = search(tmp_path, params)
    with pytest.raises(PodiumError, match=r"raise search.max_epochs \(4\), and search.n_trials \(4, all of which"):
        _best(study, params)


def _defined_late(task: Task, number: int) -> dict[str, float]:
    """A metric that some epochs do not have: no image of a class was predicted."""
    return {} if number < 6 else {"val_min_recall": value_of(task, number)}


def test_trial_whose_best_epoch_lacks_the_limited_metric_is_no_result_to_end_with(tmp_path: Path) -> None:
    """Before, it counted as one, the search ended for no gain, and then the trial failed."""
    params = params_of(limits={"min_recall": 0.1}, until="no_gain", n_trials=2, max_epochs=40)
    study = open_study(open_storage(tmp_path / "optuna.journal"), "search", params, {})
    base, folder = tiny.recipe(train__schedule="constant"), tmp_path / "checkpoints"
    pool = ScriptedPool(1, Sleepers(more=_defined_late).train)
    driver = ThawDriver(study, pool, params, RuntimeParams(), base, folder, [Recorder()])
    recipe = base.replace({"train.epochs": 12})
    for number, last in enumerate((5, 7)):
        trial = study.ask()
        task = Task(number, 1, 7, recipe.resolved(), "", 1e9)
        history = [epoch(e, e / 20) | _defined_late(task, e) for e in range(1, last + 1)]
        for one in history:
            trial.report(one["val_accuracy"], int(one["epoch"]))
        attributes = {"recipe": recipe.flat(), "seed": 7, "history": history, COSTS: {}}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        has_result = number == 1
        assert driver._has_result() is has_result
        frozen = study.get_trials(deepcopy=False)[number]
        found = ending_of(frozen, recipe, history, params, study.direction, whole=False)
        assert (found.epoch, found.is_result) == (last, has_result)
        assert found.problem == ("" if has_result else "search.limits: its last epoch has no min_recall")
        driver._let_go(frozen)
        assert study.trials[number].state == (TrialState.COMPLETE if has_result else TrialState.FAIL)


def _epochs_over(study: optuna.Study) -> int:
    over = [t for t in study.trials if t.params["train.learning_rate"] > 2e-3]
    return sum(max(trial.intermediate_values, default=0) for trial in over)
