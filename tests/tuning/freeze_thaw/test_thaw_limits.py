"""search.limits in a freeze-thaw search: what is known to cost too much is not proposed, nothing over one is chosen."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from podium.config.params import SearchParams
from podium.tuning.feasibility import OVER, is_feasible
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.messages import Task
from podium.tuning.outcome import ranked
from tuning.freeze_thaw.thawing import SPACE, Sleepers, params_of, search

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
    assert {size: sizes.count(size) for size in (64, 128)} == {64: 1, 128: 1}
    assert sizes.count(16) + sizes.count(32) > 8
    assert len(workers.measured) == len(set(sizes)), "a known network is not measured again, by a resumed trial neither"
    over = [trial for trial in study.trials if not is_feasible(trial)]
    assert [trial.state for trial in over] == [TrialState.PRUNED] * 2
    assert all("(at most 400)" in trial.user_attrs[OVER] for trial in over)
    assert all(is_feasible(trial) for trial in ranked(study))


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


def _epochs_over(study: optuna.Study) -> int:
    over = [t for t in study.trials if t.params["train.learning_rate"] > 2e-3]
    return sum(max(trial.intermediate_values, default=0) for trial in over)
