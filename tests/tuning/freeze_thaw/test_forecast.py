"""What is expected of the trials that a freeze-thaw search leaves at rest."""

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import tiny
from podium.tuning.freeze_thaw.forecast import SHOWN, forecast
from podium.tuning.freeze_thaw.observed import Errors
from tuning.freeze_thaw.thawing import params_of, search


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """A search that its budget ended, with trials left at rest."""
    return search(tmp_path_factory.mktemp("forecast"), params_of(max_epochs=40))[0]


def test_curves_go_on_where_the_trials_rested_to_their_last_epochs(study: optuna.Study) -> None:
    found = forecast(study, params_of(max_epochs=40), tiny.recipe())
    assert found is not None
    assert 1 <= len(found["trials"]) <= SHOWN
    for one in found["trials"]:
        trial = study.trials[one["trial"]]
        assert trial.state != TrialState.FAIL
        assert one["epochs"] == one["epoch"][0] == max(trial.intermediate_values)
        assert one["epoch"][-1] == trial.user_attrs["recipe"]["train.epochs"]
        assert one["low"] < one["expected"] < one["high"]
        assert one["high"][-1] - one["low"][-1] > one["high"][0] - one["low"][0], "the further off, the less is known"
        assert one["low"][0] - 0.05 < trial.intermediate_values[one["epochs"]] < one["high"][0] + 0.05


def test_gains_never_fall_with_more_epochs_and_the_forecast_is_the_same_again(study: optuna.Study) -> None:
    found, again = (forecast(study, params_of(max_epochs=40), tiny.recipe()) for _ in range(2))
    assert found == again
    assert found is not None
    gains = [one["gain"] for one in found["gains"]]
    assert min(gains) >= 0
    assert gains == sorted(gains)
    assert gains[-1] > gains[0]


@pytest.mark.parametrize("seconds", [0.001, 25.0, 90.0])
def test_minute_has_as_many_epochs_as_end_within_it(study: optuna.Study, seconds: float) -> None:
    timed = optuna.create_study(direction=study.direction)
    for one in study.get_trials():
        of_trial = seconds * (1 + one.number % 2)
        history = [epoch | {"seconds": of_trial} for epoch in one.user_attrs.get("history", [])]
        one.user_attrs |= {"history": history}
        timed.add_trial(one)
    for key, value in study.user_attrs.items():
        timed.set_user_attr(key, value)
    found = forecast(timed, params_of(max_epochs=40, deterministic=False), tiny.recipe())
    assert found is not None
    minute = found["minute"]
    trial = timed.trials[minute["trial"]]
    left = trial.user_attrs["recipe"]["train.epochs"] - max(trial.intermediate_values)
    assert 1 <= minute["epochs"] <= left
    of_epoch = seconds * (1 + trial.number % 2)
    assert minute["epochs"] == min(left, max(1, int(60 // of_epoch)))
    assert minute["seconds"] == pytest.approx(minute["epochs"] * of_epoch)
    assert "minute" not in (forecast(timed, params_of(max_epochs=40, deterministic=True), tiny.recipe()) or {})


def test_study_of_another_method_has_no_forecast() -> None:
    assert forecast(optuna.create_study(), params_of(), tiny.recipe()) is None


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
@pytest.mark.parametrize("values", [[0.5, 0.75, 1.0], [-3.0, 8.0, 2.5]], ids=["fractions", "any numbers"])
def test_values_follow_from_the_logarithms_of_their_errors(direction: StudyDirection, values: list[float]) -> None:
    errors = Errors.of(np.array(values), direction)
    assert errors.values(errors.log(np.array(values))) == pytest.approx(values)
