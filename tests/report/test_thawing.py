"""What the report and MLflow show of a freeze-thaw search."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import optuna
import pytest
from optuna.trial import TrialState

from podium.report.cost import spent
from podium.report.mlflow_summary import draw
from podium.report.report_data import gather
from podium.report.search_charts import curves
from podium.report.sections import sections
from podium.report.thaw_charts import HOW, forecast, thawing
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


def test_report_shows_own_settings_that_train_to_their_end(tmp_path: Path) -> None:
    """Where train.epochs is not searched, the decision names no epoch."""
    study = write_search(tmp_path, 12)
    decided.append(study, [], Decision(0, None, "enqueued"))
    write(tmp_path / "data/search", study, params(), "")
    chart = thawing(gather(folders(tmp_path)).search)
    assert [(trace["name"], trace["y"]) for trace in chart.data] == [
        ("own settings", [len(study.trials[0].user_attrs["history"])])
    ]


def test_each_way_to_decide_has_a_name_of_its_own_in_the_chart() -> None:
    assert set(HOW) == set(get_args(get_type_hints(Decision)["how"]))
    assert len({name for name, _ in HOW.values()}) == len(HOW)


FORECAST = {
    "best": 0.95,
    "trials": [
        {"trial": n, "epochs": 2, "epoch": [2, 3, 4], "expected": [0.8, 0.85, 0.9], "low": [0.79, 0.8, 0.8],
         "high": [0.81, 0.9, 0.96]} for n in (2, 5)
    ],
    "gains": [{"epochs": 1, "trial": 2, "gain": 0.0001}, {"epochs": 50, "trial": 5, "gain": 0.1}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (None, "50 more epochs of trial 5 are expected to lower the best error by 10%."),
        (1.0, "50 more epochs (about 50 s of one worker) of trial 5 are expected to lower the best error by 10%."),
        (60.0, "1 more epoch (about 60 s of one worker) of trial 2 is expected to lower the best error by less than"),
    ],
    ids=["time not known", "a minute is many epochs", "a minute is one epoch"],
)
def test_report_shows_predicted_curves_and_what_a_minute_gains(
    tmp_path: Path, pace: float | None, expected: str
) -> None:
    _thawed(tmp_path)
    (tmp_path / "data/search/forecast.json").write_text(json.dumps(FORECAST))
    data = gather(folders(tmp_path))
    timing = data.timing and replace(data.timing, epoch_seconds=pace)
    chart = forecast(data.search, timing)
    assert chart is not None
    assert expected in chart.note
    first = chart.data[:4]
    assert [trace["name"] for trace in first] == ["trial 2"] * 4
    assert (first[1]["y"], first[2]["y"], first[3]["y"]) == ([0.81, 0.9, 0.96], [0.79, 0.8, 0.8], [0.8, 0.85, 0.9])
    assert first[2]["fill"] == "tonexty", "the band lies between the traces of its ends"
    assert first[0]["x"] == [1, 2], "what was trained"
    shown = {chart.key for section in sections(data, spent(data.search, timing)) for chart in section.charts}
    assert "forecast" in shown
    assert [path.name for path in draw(data.search, tmp_path)] == ["history.png", "curves.png", "forecast.png"]


def test_report_says_what_a_minute_gains_by_the_time_of_its_trial(tmp_path: Path) -> None:
    _thawed(tmp_path)
    minute = {"minute": {"trial": 5, "epochs": 12, "seconds": 58.2, "gain": 0.1}}
    (tmp_path / "data/search/forecast.json").write_text(json.dumps(FORECAST | minute))
    data = gather(folders(tmp_path))
    chart = forecast(data.search, data.timing)
    assert chart is not None
    text = (
        "In another minute: 12 more epochs (about 58 s of one worker) of trial 5 are expected to lower the best error"
    )
    assert f"{text} by 10%." in chart.note


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
