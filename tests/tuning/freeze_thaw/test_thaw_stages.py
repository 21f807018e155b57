"""The stages search and select with a freeze-thaw search, over a real MLflow store."""

import csv
import json
from pathlib import Path

import pytest

import tiny
from podium.config.params import TrackingParams
from podium.errors import InputError
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.tuning.confirm import confirm
from podium.tuning.outcome import search

SETTINGS = """
method: thaw
n_trials: 10
max_epochs: 30
max_resting: 4
defaults_first: true
space: {train.learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true}, train.epochs: {low: 3, high: 6}, train.schedule: {choices: [constant, one_cycle]}}
"""  # noqa: E501


@pytest.mark.slow
def test_search_and_select_choose_a_number_of_epochs_and_mlflow_has_it_all(
    tmp_path: Path, store: TrackingParams
) -> None:
    params = tiny.params(store, SETTINGS)
    prepared, searched, selected = (tmp_path / name for name in ("prepared", "search", "selected"))
    study = search(params, tiny.prepare(prepared), searched)
    assert sum(len(trial.intermediate_values) for trial in study.trials) <= 30
    with (searched / "decisions.csv").open() as file:
        assert next(csv.DictReader(file))["how"] == "enqueued"
    with (searched / "trials.csv").open() as file:
        complete = [row for row in csv.DictReader(file) if row["state"] == "COMPLETE"]
    assert all(3 <= int(row["train.epochs"]) <= 6 for row in complete)
    assert differences(connect(store), study) == []
    tags = [run.data.tags for run in runs_of(connect(store), study)]
    assert any("podium.rested_at" in one for one in tags)
    chosen = confirm(params, prepared, searched, selected)
    ranking = json.loads((searched / "ranking.json").read_text())
    assert chosen["recipe"]["train.epochs"] in {entry["recipe"]["train.epochs"] for entry in ranking}
    assert len(chosen["values"]) == 2


@pytest.mark.slow
def test_search_with_fewer_epochs_than_a_training_is_refused_before_it_begins(
    tmp_path: Path, store: TrackingParams
) -> None:
    """It trained all of them and ended with nothing complete."""
    params = tiny.params(store, SETTINGS.replace("max_epochs: 30", "max_epochs: 2"))
    with pytest.raises(InputError, match="search.max_epochs must be at least 3, the epochs of the shortest training"):
        search(params, tiny.prepare(tmp_path / "prepared"), tmp_path / "search")
