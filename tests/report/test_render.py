"""The page: its numbers are the stores', its text is escaped, and it is small and quick for a thousand trials."""

import csv
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from podium.errors import InputError
from podium.report.outcome_charts import MATRIX
from podium.report.render import build
from podium.report.sections import OPENED, ROWS
from report import sample

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_of(root: Path) -> str:
    return build(sample.folders(root), root / "out").read_text(encoding="utf-8")


def ours(page: str) -> str:
    """The page without plotly.js, which is long and names many addresses that it never asks for."""
    start = page.index("<script>/*")
    return page[:start] + page[page.index("</script>", start) :]


def embedded(page: str, name: str) -> dict[str, Any]:
    """The JSON in the script element `name`."""
    start = page.index(f'id="{name}">') + len(f'id="{name}">')
    found: dict[str, Any] = json.loads(page[start : page.index("</script>", start)])
    return found


def facts(page: str) -> dict[str, Any]:
    return embedded(page, "facts")


def figures(page: str) -> dict[str, Any]:
    return embedded(page, "figures")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of 60 trials whose classes are called like trouble."""
    folder = tmp_path_factory.mktemp("report")
    sample.write_search(folder, 60)
    sample.write_rest(folder, (EVIL, "@best", "right & <i>wrong</i>"))
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return page_of(root)


def test_report_numbers_are_those_of_the_study_and_of_the_files(root: Path, page: str) -> None:
    import optuna

    from podium.tuning.storage import open_storage

    study = optuna.load_study(study_name=sample.STUDY, storage=open_storage(root / "optuna.journal"))
    shown = facts(page)
    last = [t.intermediate_values[t.last_step or 0] for t in study.trials]
    assert shown["trials"] == [
        [t.number, t.state.name, t.value, last[t.number], len(t.user_attrs["history"])] for t in study.trials
    ]
    assert shown["best"] == {"trial": study.best_trial.number, "value": study.best_value}
    assert shown["metrics"] == json.loads((root / "data/evaluated/metrics.json").read_text(encoding="utf-8"))
    assert f'<p class="headline">{100 * shown["metrics"]["accuracy"]:.2f}%</p>' in page
    drawn = [v for trace in figures(page)["history"]["data"][:2] for v in trace["y"]]
    counted = [v for t, v in zip(study.trials, last, strict=True) if t.state.name != "FAIL"]
    assert sorted(drawn) == pytest.approx(sorted(counted), rel=1e-5)


def test_report_has_every_chart_and_section(page: str) -> None:
    keys = {"history", "curves", "parallel", "importance", "timeline", "confirmation", "confusion", "calibration"}
    assert keys | {"retraining", "recalls", "slice-train.learning_rate"} <= set(figures(page))
    ids = {attributes.get("id") for _, attributes in Elements(ours(page)).found}
    assert {"summary", "search", "confirmation", "test", "training", "data", "lineage"} <= ids


def test_report_of_a_model_that_may_be_unsure_has_the_curve_with_exact_thresholds(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 3)
    sample.write_rest(tmp_path)
    assert "coverage" not in figures(page_of(tmp_path))
    for threshold, said in ((0.9999875426292419, "Unsure below a probability of 0.9999875426292419"), (0.0, "Never")):
        sample.write_abstain(tmp_path, threshold)
        page = page_of(tmp_path)
        bound, error, promised, chosen = figures(page)["coverage"]["data"]
        assert (error["x"], error["y"][0], error["y"][2], bound["y"][1]) == ([0.25, 0.5, 1.0], 0.0, 0.1, 0.149)
        assert error["text"][0] == "from 0.9999999: 25.0% answered, error 0.0000 (at most 0.1810)"
        assert (promised["y"], chosen["x"], chosen["y"]) == ([0.05, 0.05], [0.5], [pytest.approx(1 / 30)])
        low, high = figures(page)["coverage"]["layout"]["yaxis"]["range"]
        assert low == 0 <= max(bound["y"][1:]) < high  # the bound is seen, at least from the chosen threshold on
        assert said in page
        assert "Where it may abstain it answers 50.0% of the test images, with an error of 0.0333" in page


def test_report_fetches_nothing(page: str) -> None:
    """What Chromium asks for is in tests/test_browser.py; this is what it could."""
    sources = [v for _, a in Elements(ours(page)).found for k, v in a.items() if k in ("src", "href", "action", "data")]
    assert all(v is not None and v.startswith(("data:", "#")) for v in sources)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", ours(page))


def test_report_text_from_outside_is_escaped(page: str) -> None:
    elements = Elements(ours(page))
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 3  # facts, figures, and ours after plotly's, which is left out here
    assert "alert" not in "".join(str(attributes) for _, attributes in elements.found)
    pictures = [str(a["src"]) for t, a in elements.found if t == "img"]
    assert pictures
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert figures(page)["confusion"]["layout"]["xaxis"]["ticktext"][0].startswith("&lt;/script&gt;")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page  # of the profile: shown, not obeyed


def test_report_before_the_other_stages_says_what_to_run(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 12)
    page = page_of(tmp_path)
    for stage in ("select", "retrain", "evaluate"):
        assert f"dvc repro {stage}" in page
    assert facts(page)["metrics"] is None
    assert "best validation accuracy of the search" in page


def change(root: Path, name: str, **values: Any) -> None:
    """Replace values of a JSON file of data/."""
    path = root / "data" / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


OTHER = {"weights_digest": "b" * 64}


@pytest.mark.parametrize(
    ("changed", "old"),
    [
        ({}, {}),
        (
            {"search/best.json": {"study": "search-2"}},
            dict.fromkeys(("select", "retrain", "evaluate", "register"), "search"),
        ),
        (  # a study goes on under its name: another trial is the best of it now
            {"search/best.json": {"trial": 10**6}},
            dict.fromkeys(("select", "retrain", "evaluate", "register"), "search"),
        ),
        (
            {"search/best.json": {"study": "search-2"}, "selected/config.json": {"study": "search-2"}},
            dict.fromkeys(("retrain", "evaluate", "register"), "search"),
        ),
        (
            {"retrained/model.json": {"trial": 10**6}},
            dict.fromkeys(("retrain", "evaluate", "register"), "selection"),
        ),
        ({"retrained/model.json": OTHER}, dict.fromkeys(("evaluate", "register"), "training")),
        ({"retrained/model.json": OTHER, "evaluated/evaluation.json": OTHER}, {"register": "training"}),
    ],
)
def test_report_leaves_out_what_is_of_an_earlier_run_and_says_so(
    tmp_path: Path, changed: dict[str, dict[str, Any]], old: dict[str, str]
) -> None:
    sample.write_search(tmp_path, 12)
    sample.write_rest(tmp_path)
    for name, values in changed.items():
        change(tmp_path, name, **values)
    page = page_of(tmp_path)
    shown = facts(page)
    assert shown["earlier"] == old
    for stage, key in (("select", "selected"), ("evaluate", "metrics"), ("register", "registered")):
        assert (shown[key] is None) == (stage in old)
    assert ("retraining" in figures(page)) == ("retrain" not in old)
    assert ("alert(1)" in ours(page)) == ("retrain" not in old)  # of the profile
    assert ("tiny-classifier version 3" in page) == ("register" not in old)
    for what in old.values():
        assert f"of an earlier {what}: run `dvc repro`" in page


def test_report_of_a_model_that_is_gone_leaves_out_its_evaluation(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 12)
    sample.write_rest(tmp_path)
    (tmp_path / "data/retrained/model.json").unlink()
    assert facts(page_of(tmp_path))["earlier"] == {"evaluate": "training", "register": "training"}


def test_report_says_the_level_that_the_interval_was_computed_with(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 12)
    sample.write_rest(tmp_path)
    assert "<span>90% confidence interval: " in page_of(tmp_path)
    (tmp_path / "data/evaluated/evaluation.json").unlink()  # as an earlier Podium left it
    assert "<span>interval: " in page_of(tmp_path)


def test_report_of_classes_called_like_ends_of_lines_has_them_whole(tmp_path: Path) -> None:
    names = ("a\u2028b", "c\x85d", "e\x0bf")
    sample.write_search(tmp_path, 12)
    sample.write_rest(tmp_path, names)
    assert figures(page_of(tmp_path))["confusion"]["layout"]["xaxis"]["ticktext"] == ["a b", "c d", "e f"]


def test_report_before_the_search_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="best.json is missing: run `dvc repro search`"):
        build(sample.folders(tmp_path), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_report_of_few_trials_is_made(tmp_path: Path, count: int) -> None:
    sample.write_search(tmp_path, count)
    sample.write_rest(tmp_path)
    assert len(facts(page_of(tmp_path))["trials"]) == count


def test_report_of_a_search_for_low_loss_takes_the_lowest_for_the_best(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 30, sample.params("loss"))
    shown = facts(page_of(tmp_path))
    assert shown["best"]["value"] == min(value for _, _, value, _, _ in shown["trials"] if value is not None)
    best = figures(page_of(tmp_path))["history"]["data"][-1]["y"]
    assert best == sorted(best, reverse=True)


def test_learning_curves_are_drawn_up_to_their_highest_point(tmp_path: Path) -> None:
    """A trial may have been better in the middle than at its end, which its value is."""
    sample.write_search(tmp_path, 30)
    file = tmp_path / "data/search/curves.csv"
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    rows[0]["val_accuracy"] = "0.9999"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    low, high = figures(page_of(tmp_path))["curves"]["layout"]["yaxis"]["range"]
    assert low < 0.9 < 0.9999 < high


def test_report_without_a_space_is_made(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 5, sample.params(space="{}"))
    assert "slice" not in " ".join(figures(page_of(tmp_path)))


def test_report_of_hundred_classes_shows_those_confused_most_and_counts_recalls(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 10)
    sample.write_rest(tmp_path, tuple(f"class {k}" for k in range(100)), 400)
    page = page_of(tmp_path)
    matrix = figures(page)["confusion"]["layout"]["xaxis"]["ticktext"]
    assert len(matrix) == MATRIX == len(set(matrix))
    assert "The 30 of 100 classes with the most errors among each other" in page
    assert sum(figures(page)["recalls"]["data"][0]["y"]) == 100
    assert page.count("<td>class 99</td>") >= 1


def test_report_of_more_classes_than_rows_shows_the_weakest_that_have_test_images(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 10)
    sample.write_rest(tmp_path, tuple(f"class {k}" for k in range(500)), 250)
    with (sample.folders(tmp_path).evaluated / "per_class.csv").open(encoding="utf-8") as file:
        classes = [row for row in csv.DictReader(file) if int(row["support"])]
    weakest = sorted(classes, key=lambda row: float(row["recall"]))[:ROWS]
    page = page_of(tmp_path)
    table = page[page.index("Metrics of the 200 of 500 classes with the lowest recall") :]
    shown, _, rest = table.partition("<details>")
    more, _, _ = rest.partition("</details>")
    names = [f"<td>{row['class']}</td>" for row in weakest]
    assert len(names) > 100
    assert all(name in shown for name in names[:OPENED])
    assert f"<summary>{len(names) - OPENED} more rows</summary>" in more
    assert all(name in more for name in names[OPENED:])


@pytest.mark.slow
def test_report_of_a_thousand_trials_is_small_and_quick(tmp_path: Path) -> None:
    space = (
        sample.SPACE
        + "\n    model.width: {low: 4, high: 64}\n    train.weight_decay: {low: 1.0e-6, high: 1.0e-2, log: true}"
    )
    sample.write_search(tmp_path, 1000, sample.params(space=space))
    sample.write_rest(tmp_path, tuple("0123456789"), 2000)
    page_of(tmp_path)  # imports
    started = time.process_time()
    page = page_of(tmp_path)
    assert time.process_time() - started < 10  # of the processor: a busy machine takes longer by the clock
    assert len(page.encode()) < 10_000_000
    assert len(facts(page)["trials"]) == 1000
