import json
from typing import Any

import optuna
import pytest

import trials
from podium.config.params import TrackingParams
from podium.tracking import view
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.run_names import LIMIT
from podium.tracking.store import connect


@pytest.mark.parametrize(("direction", "ascending"), [("minimize", True), ("maximize", False)])
def test_view_has_the_best_first_and_every_searched_parameter(direction: Any, ascending: bool) -> None:
    study = optuna.create_study(direction=direction)
    study.optimize(lambda trial: trial.suggest_float("train.learning_rate", 0, 1) + trial.suggest_int("b%", 0, 1), 2)
    content: dict[str, Any] = json.loads(view.view_of(study))
    assert (content["orderByKey"], content["orderByAsc"]) == ("metrics.`objective`", ascending)
    columns = content["selectedColumns"]
    assert columns[:2] == ["metrics.`objective`", "tags.`podium.state`"]
    assert "params.`train.learning_rate`" in columns
    assert len(columns) == 4


def test_view_of_hundreds_of_parameters_fits_a_tag() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: sum(trial.suggest_float(f"parameter.number.{k}", 0, 1) for k in range(400)), 1)
    text = view.view_of(study)
    assert len(text) <= LIMIT
    assert json.loads(text)["selectedColumns"][0] == "metrics.`objective`"


def test_address_leads_to_the_view_once_a_search_has_saved_it(store: TrackingParams) -> None:
    tracking = connect(store)
    page = f"/#/experiments/{tracking.experiment_id}/runs?workflowType=machine_learning"
    assert view.address(tracking).endswith(page)
    Mirror(trials.study_of_each_kind(), store, Parent("search-1234", {})).close()
    assert view.address(tracking).endswith(f"{page}&viewStateShareKey=podium")


@pytest.mark.parametrize(("chosen", "shown"), [(None, "objective"), ("size", "size")])
def test_charts_begin_with_the_objective_unless_a_person_chose(
    store: TrackingParams, chosen: str | None, shown: str
) -> None:
    tracking = connect(store)
    if chosen:
        tracking.client.set_experiment_tag(tracking.experiment_id, view.PRIMARY_METRIC, chosen)
    view.save(tracking, trials.study_of_each_kind())
    assert tracking.client.get_experiment(tracking.experiment_id).tags[view.PRIMARY_METRIC] == shown
