"""What the page and MLflow's note show of a search for several metrics."""

import dataclasses
import json
from pathlib import Path

import pytest

from podium.report import mlflow_summary, sections
from podium.report.render import page_of, render
from podium.report.report_data import Folders, ReportData, gather
from report import sample

METRICS = "[accuracy, parameters, latency_ms]"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A search of 30 trials for accuracy alone, whose files are given two costs that follow from the trial's number."""
    root = tmp_path_factory.mktemp("front")
    settings = sample.params(METRICS)
    sample.write_search(root, 30, settings)
    sample.write_rest(root)
    selected = root / "data/selected/config.json"
    chosen = json.loads(selected.read_text(encoding="utf-8"))
    for one in (chosen, *chosen["candidates"]):
        one["means"] = one["metrics"] | {"accuracy": one["mean"]}
    lost = {"metric": "latency_ms", "by": 0.25, "trial": 3, "means": chosen["means"], "confirmed": False}
    chosen |= {"aims": list(chosen["means"]), "rule": "knee", "front": 7, "given_up": [lost]}
    chosen["search_best"] = json.loads((root / "data/search/best.json").read_text(encoding="utf-8"))["trial"]
    selected.write_text(json.dumps(chosen), encoding="utf-8")
    return sample.folders(root)


@pytest.fixture(scope="module")
def data(places: Folders) -> ReportData:
    return gather(places)


def test_trials_have_every_value_and_no_value_is_taken_for_a_searched_field(data: ReportData) -> None:
    complete = data.search.of("COMPLETE")
    assert all(len(t.values) == 3 and t.values[0] == t.value for t in complete)
    assert all(set(t.params) <= set(data.search.space) for t in complete)
    assert any(t.front for t in complete)
    assert "select" not in data.stale


def test_page_has_a_chart_of_the_front_for_each_other_metric_and_its_configurations(data: ReportData) -> None:
    page = page_of(data)
    charts = {chart.key: chart for chart in page.sections[0].charts}
    assert {"front-parameters", "front-latency_ms"} < charts.keys()
    chart = charts["front-latency_ms"]
    front = next(trace for trace in chart.data if trace["name"] == "Pareto front")
    assert sorted(front["customdata"]) == sorted(t.number for t in data.search.trials if t.front)
    assert ["latency_ms", chart.details[str(front["customdata"][0])][3][1]] in chart.details[
        str(front["customdata"][0])
    ]
    titles = dict(page.sections[0].tables)
    assert len(titles["The Pareto front"].rows) == len(front["customdata"])
    assert 'data-details="front-latency_ms"' in render(page)
    assert page.facts["front"] == sorted(front["customdata"])


def test_tables_that_do_not_show_all_say_so_and_name_what_does(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = render(page_of(data))
    assert "on the front. All" not in whole
    count = sum(trial.front for trial in data.search.trials)
    monkeypatch.setattr(sections, "ROWS", 2)
    page = page_of(data)
    assert len(dict(page.sections[0].tables)["The Pareto front"].rows) == 2
    html = render(page)
    assert f"The first 2 of {count} on the front. All of them: <code>data/search/trials.csv</code>" in html
    completed = len(data.search.ranked())
    assert f"The first {sections.TOP} of {completed} completed trials." in whole
    monkeypatch.setattr(sections, "TOP", 0)  # the file of errors has images, not pairs
    assert "pairs of classes. Counted from: <code>data/evaluated/confusion.csv</code>" in render(page_of(data))


def test_note_of_mlflow_that_is_cut_says_so(data: ReportData) -> None:
    page = page_of(data)
    long = dataclasses.replace(page.summary.cards[0], lines=["a line of some length"] * 300)
    summary = dataclasses.replace(page.summary, cards=[*page.summary.cards, long])
    note = mlflow_summary.note(dataclasses.replace(page, summary=summary))
    assert len(note) <= mlflow_summary.LIMIT
    assert note.endswith(mlflow_summary.MORE)
    assert not mlflow_summary.note(page).endswith(mlflow_summary.MORE)


def test_note_of_mlflow_takes_no_name_of_a_class_for_html(data: ReportData) -> None:
    page = page_of(data)
    odd = dataclasses.replace(page.summary.cards[0], answer="<img src=x>", lines=["a\n<b>line</b>"])
    note = mlflow_summary.note(dataclasses.replace(page, summary=dataclasses.replace(page.summary, cards=[odd])))
    assert "&lt;img src=x&gt;. a\\n&lt;b&gt;line&lt;/b&gt;" in note
    assert "<" not in note


def test_page_says_by_what_rule_it_was_chosen_and_what_was_given_up(data: ReportData) -> None:
    page = page_of(data)
    card = page.summary.cards[0]
    assert "by select.rule knee on the Pareto front" in card.answer
    assert any(line.startswith("Given up: latency_ms 0.2500 (trial 3") for line in card.lines)
    assert "2 of 7 on the Pareto front were confirmed (select.top_k)." in card.lines
    head = page.sections[1].tables[0][1].head
    assert "latency_ms in the search" in head
    assert "podium.front" in mlflow_summary.note(page)


def test_picture_of_the_front_is_drawn_for_several_metrics_only(data: ReportData, tmp_path: Path) -> None:
    several = [path.name for path in mlflow_summary.draw(data.search, tmp_path)]
    one = [path.name for path in mlflow_summary.draw(dataclasses.replace(data.search, others=[]), tmp_path)]
    assert (several, one) == (["history.png", "curves.png", "front.png"], ["history.png", "curves.png"])
