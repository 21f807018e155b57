"""What the report and MLflow show of a freeze-thaw search."""

import csv
from pathlib import Path

import optuna
from optuna.trial import TrialState

from podium.report.cost import spent
from podium.report.report_data import gather
from podium.report.search_charts import curves, thawing
from podium.report.sections import sections
from podium.tracking.record import record_of, search_attributes
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.decisions import Decision
from podium.tuning.outcome import write
from report.sample import folders, params, write_search

MADE = [
    Decision(0, 4, "enqueued"),
    Decision(1, 1, "stratum", {"train.learning_rate": 0.01}),
    Decision(1, 2, "thaw", theta=[0.1], gain=0.2, noise=0.1),
    Decision(2, 1, "new", {"train.learning_rate": 0.02}, gain=0.05, noise=0.1),
]


def _thawed(root: Path) -> optuna.Study:
    study = write_search(root, 12)
    made: list[Decision] = []
    for one in MADE:
        decided.append(study, made, one)
    write(root / "data/search", study, params(), "")
    return study


def test_decisions_are_read_as_they_were_recorded(tmp_path: Path) -> None:
    assert decided.read(_thawed(tmp_path)) == MADE


def test_report_shows_what_rested_and_went_on(tmp_path: Path) -> None:
    _thawed(tmp_path)
    with (tmp_path / "data/search/decisions.csv").open() as file:
        assert [row["how"] for row in csv.DictReader(file)] == ["enqueued", "stratum", "thaw", "new"]
    data = gather(folders(tmp_path))
    chart = thawing(data.search)
    assert [trace["name"] for trace in chart.data] == ["own settings", "first strata", "new", "goes on"]
    assert "5% lower than the best" in chart.note
    assert "where it rested" in curves(data.search).note
    shown = {chart.key for section in sections(data, spent(data.search, data.timing)) for chart in section.charts}
    assert "thawing" in shown
    assert "timeline" not in shown, "a trial that rests is with no worker"
    assert spent(data.search, data.timing).busy is None


def test_search_without_rests_has_neither_file_nor_chart(tmp_path: Path) -> None:
    write_search(tmp_path, 12)
    assert not (tmp_path / "data/search/decisions.csv").exists()
    data = gather(folders(tmp_path))
    shown = {chart.key for section in sections(data, spent(data.search, data.timing)) for chart in section.charts}
    assert "timeline" in shown
    assert "thawing" not in shown


def test_run_says_where_its_trial_rested(tmp_path: Path) -> None:
    study = _thawed(tmp_path)
    trial = study.get_trials(states=(TrialState.COMPLETE,))[0]
    trial.user_attrs["rested_at"] = [1, 2, 4]
    assert record_of(study, trial, None, search_attributes).tags["podium.rested_at"] == "1, 2, 4"
