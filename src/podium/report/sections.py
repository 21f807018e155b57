"""The report's sections below the summary, each from what its stages left."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from podium.data.audit.findings import KINDS
from podium.metrics.class_rows import by_recall
from podium.report import front, outcome_charts, search_charts, thaw_charts
from podium.report.chart import Chart
from podium.report.cost import NetworkCost, Spent, network_costs
from podium.report.interactions import interactions
from podium.report.report_data import Evaluated, ReportData, stale_notice
from podium.report.summary import duration
from podium.report.trials import Search, Trial
from podium.text import number

TOP = 10
"""Trials in the table of the best."""
NOTICEABLE = 0.005
"""Share of the variance below which interactions are not shown."""
ROWS = 200
"""Rows of any table: classes, failures."""
TRIALS = "data/search/trials.csv"
FOLDED, OPENED = 40, 25
"""A table of more rows shows the first OPENED of them before a click: 200 classes are eight screens."""


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    head: list[str]
    rows: list[list[str]]
    numbers: int = 0
    """So many of the last columns are numbers, aligned to the right."""
    marked: int | None = None
    """The index of a highlighted row."""
    pairs: bool = False
    """Two columns, shown as a list of name and value."""
    note: str = ""
    """What is not shown; empty: all is."""
    file: str = ""
    """The file of data/ that has the rest."""
    file_has: str = "All of them"
    """What that file is to the table."""

    @property
    def opened(self) -> int:
        """Rows that are shown before a click; the highlighted one is among them."""
        return len(self.rows) if len(self.rows) <= FOLDED else max(OPENED, (self.marked or 0) + 1)


def cut(table: Table, most: int, what: str, file: str = "", *, end: str = "first") -> Table:
    """`table` with at most `most` rows, and a note where there are more: "The `end` 200 of 345 `what`", and `file`."""
    if len(table.rows) <= most:
        return table
    note = f"The {end} {most:,} of {len(table.rows):,} {what}."
    return replace(table, rows=table.rows[:most], note=note, file=file)


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    charts: list[Chart]
    tables: list[tuple[str, Table]]
    """With a title each."""
    text: str = ""
    """Markdown; HTML in it is shown as text."""
    small: list[Chart] | None = None
    """Small charts in a grid."""
    small_title: str = ""
    pictures: list[tuple[str, list[dict[str, Any]]]] | None = None
    """Titles and entries of gallery.json."""
    missing: str = ""
    """What to run, if there is nothing to show."""


def sections(data: ReportData, spent: Spent) -> list[Section]:
    """In reading order."""
    return [
        _search(data),
        _confirmation(data),
        _test(data),
        _training(data),
        _data(data),
        _lineage(data, spent),
    ]


def _search(data: ReportData) -> Section:
    search = data.search
    chosen = data.selected["trial"] if data.selected else None
    charts = [*front.charts(search, chosen), search_charts.history(search), search_charts.curves(search)]
    if search.decisions:
        charts.append(thaw_charts.thawing(search))
        if (predicted := thaw_charts.forecast(search, data.timing)) is not None:
            charts.append(predicted)
    small = []
    if search.space and search.ranked():
        charts.append(search_charts.parallel(search))
        small = search_charts.slices(search)
    found = interactions(search)
    noticeable = found is not None and found.strongest >= NOTICEABLE
    if search.importances:
        charts.append(search_charts.importance(search, wide=not noticeable))
    if found is not None and noticeable:
        charts.append(search_charts.interaction(found))
    tables = [("The best trials", _best(search))]
    if search.others:
        marked = next((k for k, t in enumerate(front.front_of(search)) if t.number == chosen), None)
        table = cut(Table(front.head(search), front.rows(search), marked=marked), ROWS, "on the front", TRIALS)
        tables = [("The Pareto front", table), (f"The best trials by {search.metric.name}", _best(search))]
    if data.dataset is not None and search.ranked() and "train.program" not in search.fixed:  # it may have its own
        channels, height, width = data.dataset["shape"]
        networks = [search.network(trial) for trial in search.ranked()]
        measured = network_costs(networks, (channels, height, width), len(data.dataset["classes"]))
        charts += search_charts.cost_charts(search, measured)
        tables.append(("Cost of the networks", _costs(measured)))
    if data.timing is not None and not search.decisions:  # a trial that rests is with no worker
        charts.append(search_charts.timeline(search, data.timing))
    if search.of("FAIL"):
        tables.append(("Failed trials", _failures(data)))
    title = "Value by dimension, with its importance; the best tenth in green"
    return Section("search", "Search", charts, tables, small=small, small_title=title)


def _best(search: Search) -> Table:
    names = sorted(search.space, key=lambda n: -search.importances.get(n, 0.0))
    rows = [
        [str(t.number), f"{t.value:.4f}", *(formatted(t.params.get(name)) for name in names)] for t in search.ranked()
    ]
    head = ["trial", search.metric.name, *(name.split(".", 1)[1] for name in names)]
    return cut(Table(head, rows), TOP, "completed trials", TRIALS)


def _costs(measured: list[NetworkCost]) -> Table:
    rows = [
        [
            ", ".join(f"{key} {formatted(value)}" for key, value in cost.network.items() if value != ""),
            f"{cost.parameters:,}",
            f"{cost.milliseconds:.2f}",
        ]
        for cost in measured
    ]
    return cut(Table(["network", "parameters", "ms per image (one CPU thread)"], rows, numbers=2), TOP, "networks")


def _failures(data: ReportData) -> Table:
    """Reasons, the most frequent first; those that differ in numbers only are one."""
    spans = data.timing.spans if data.timing else {}
    groups: dict[str, list[Trial]] = {}
    for trial in data.search.of("FAIL"):
        reason = spans[trial.number].reason if trial.number in spans else "recorded in the study, which is not here"
        groups.setdefault(re.sub(r"\d+", "N", reason), []).append(trial)
    rows = [
        [spans[trials[0].number].reason if spans else reason, str(len(trials)), _numbers(trials)]
        for reason, trials in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return cut(Table(["reason", "trials", "numbers"], rows), TOP, "reasons")


def _numbers(trials: list[Trial]) -> str:
    return _some([str(trial.number) for trial in trials], TOP)


def _confirmation(data: ReportData) -> Section:
    chosen = data.selected
    if chosen is None:
        return _missing(data, "select", "confirmation", "Confirmation", "Not confirmed yet")
    others = chosen.get("aims", [])[1:]
    rows = [
        [
            str(c["trial"]),
            *map(_decimal, (c["value"], c["mean"], c["std"])),
            *(text for name in others for text in _of_other(c, name)),
            *(str(len(c["values"])), str(c["failed"])),
        ]
        for c in chosen["candidates"]
    ]
    marked = [c["trial"] for c in chosen["candidates"]].index(chosen["trial"])
    runs = ("mean of the folds", "folds") if chosen.get("folds") else ("mean of fresh seeds", "seeds")
    more = [text for name in others for text in (f"{name} in the search", f"{name}, mean")]
    head = ["trial", "in the search", runs[0], "standard deviation", *more, runs[1], "failed"]
    return Section(
        "confirmation",
        "Confirmation",
        [outcome_charts.confirmation(chosen)],
        [
            ("", Table(head, rows, numbers=len(head) - 1, marked=marked)),
            ("The chosen configuration", _recipe(chosen["recipe"])),
        ],
    )


def _of_other(candidate: dict[str, Any], name: str) -> tuple[str, str]:
    """A candidate's value and mean of another metric than the first."""
    mean = candidate.get("means", {}).get(name)
    return number(candidate["metrics"][name]), "" if mean is None else number(mean)


def _recipe(recipe: dict[str, Any]) -> Table:
    return Table([], [[name, formatted(value) or "none"] for name, value in recipe.items()], pairs=True)


def _test(data: ReportData) -> Section:
    evaluated = data.evaluated
    if evaluated is None:
        return _missing(data, "evaluate", "test", "Test set", "Not evaluated yet")
    charts = [
        outcome_charts.confusion(evaluated),
        outcome_charts.calibration(evaluated),
        *([covered] if (covered := outcome_charts.coverage(evaluated)) else []),
        outcome_charts.recalls(evaluated),
    ]
    names = {
        "worst": "Wrong predictions, lowest probability of the label first; below each, what led to the prediction",
        "surprising": "Correct predictions with the lowest probability",
    }
    pictures = [(title, [e for e in evaluated.gallery if e["kind"] == kind]) for kind, title in names.items()]
    return Section(
        "test",
        "Test set",
        charts,
        [(_title(evaluated), _classes(evaluated)), ("Most frequent errors", _mistakes(evaluated))],
        pictures=[(title, entries) for title, entries in pictures if entries],
    )


def _title(evaluated: Evaluated) -> str:
    """Of the table of classes."""
    count = len(evaluated.per_class)
    return f"Metrics of the {ROWS} of {count:,} classes with the lowest recall" if count > ROWS else "Metrics per class"


def _classes(evaluated: Evaluated) -> Table:
    rows = [
        [
            row["class"],
            row["support"],
            *(f"{float(row[name]):.4f}" for name in ("precision", "recall")),
            f"{float(row['recall_low']):.3f} to {float(row['recall_high']):.3f}",
            f"{float(row['f1']):.4f}",
        ]
        for row in by_recall(evaluated.per_class)
    ]
    head = ["class", "images", "precision", "recall", "interval of recall", "F1"]
    return cut(Table(head, rows, numbers=5), ROWS, "classes", "data/evaluated/per_class.csv")


def _mistakes(evaluated: Evaluated) -> Table:
    wrong = Counter(pair for pair in evaluated.confusion if pair[0] != pair[1])
    rows = [[actual, predicted, str(count)] for (actual, predicted), count in wrong.most_common()]
    table = Table(["actual", "predicted", "images"], rows or [["none", "", "0"]], numbers=1, file_has="Counted from")
    return cut(table, TOP, "pairs of classes", "data/evaluated/confusion.csv")


def _training(data: ReportData) -> Section:
    if data.model is None:
        return _missing(data, "retrain", "training", "Retraining", "Not retrained yet")
    splits = data.model.get("splits", ["train", "val"])
    charts = [outcome_charts.retraining(data.history, splits)] if data.history else []
    return Section("training", "Retraining", charts, [], text=data.profile)


def _data(data: ReportData) -> Section:
    audit = data.audit
    if audit is None:
        return _missing(data, "prepare", "data", "Images", "data/prepared is not here")
    parts = ("train", "val", "test")
    rows = [[name, *(f"{row[part]:,}" for part in parts)] for name, row in audit["counts"].items()]
    total = [sum(row[part] for row in audit["counts"].values()) for part in parts]
    more = (
        [[f"and {len(rows) - ROWS:,} more classes (data/prepared/audit.json)", "", "", ""]] if len(rows) > ROWS else []
    )
    head = ["class", "train", "validation", "test"]
    table = Table(head, [["all", *(f"{n:,}" for n in total)], *rows[:ROWS], *more], numbers=3)
    found = [
        [KINDS[f["kind"]], f["policy"], f"{f['groups']:,}", f"{f['images']:,}", _examples(f["examples"])]
        for f in audit["findings"]
    ]
    if not found:
        return Section("data", "Images", [], [("Counts", table)], text="The audit found nothing to report.")
    findings = Table(["finding", "policy", "groups", "files", "examples"], found)
    return Section("data", "Images", [], [("Findings", findings), ("Counts", table)])


def _examples(examples: list[dict[str, Any]]) -> str:
    shown = [f"{', '.join(e['classes'])}: {_some(e['files'], 4)}" for e in examples]
    return _some(shown, 3, "; ")


def _some(names: list[str], most: int, between: str = ", ") -> str:
    """At most so many of `names`, and that there are more."""
    return between.join([*names[:most], *(["..."] if len(names) > most else [])])


def _lineage(data: ReportData, spent: Spent) -> Section:
    search, model, version = data.search, data.model, data.registered
    rows = [["study", search.study], ["MLflow run of the search", search.parent_run_id or "not recorded"]]
    if data.timing is not None:
        rows.append(["started", data.timing.began])
    if spent.seconds is not None:
        rows.append(["duration of the search", duration(spent.seconds)])
    if data.dataset is not None:
        rows += [["data source", data.dataset["source"]], ["digest of the images", data.dataset["digest"]]]
    if model is not None:
        rows += [[name.replace("_", " "), formatted(model[name])] for name in ("trial", "seed", "confirmation_seeds")]
        rows += [["trained on", model["device"]], ["MLflow run of the retraining", model["run_id"]]]
        rows.append(["digest of the weights", model["weights_digest"]])
    if version is not None:
        rows += [["registered as", f"{version['name']} version {version['version']}"]]
        rows += [["model", version["model_uri"]], ["digest of the registered files", version["model_digest"]]]
    if "register" in data.stale:
        rows.append(["registered as", stale_notice(data.stale["register"])])
    return Section("lineage", "Lineage", [], [("", Table(["item", "value"], rows))])


def _missing(data: ReportData, stage: str, key: str, title: str, why: str) -> Section:
    """A section without content."""
    what = f"{why}: run `dvc repro {stage}`"
    if stage in data.stale:
        what = f"The files here are {stale_notice(data.stale[stage])}"
    return Section(key, title, [], [], missing=f"{what}.")


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def formatted(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(formatted, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
