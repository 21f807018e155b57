"""The report's sections below the verdict, each from what its stages left."""

import re
from collections import Counter
from typing import Any

from podium.data.audit.findings import KINDS
from podium.report import earlier, outcome_charts, search_charts, space_charts
from podium.report.budget import Spent
from podium.report.cost import Cost, costs
from podium.report.gather import Evaluated, Story
from podium.report.interactions import interactions
from podium.report.page import Section, Table
from podium.report.trials import Search, Trial
from podium.report.verdict import duration

TOP = 10
"""Trials in the table of the best."""
NOTICEABLE = 0.005
"""Share below which no two dimensions are said to act together."""
ROWS = 200
"""Rows of any table: classes, failures."""


def sections(story: Story, spent: Spent) -> list[Section]:
    """In reading order."""
    return [
        _search(story),
        _confirmation(story),
        _test(story),
        _training(story),
        _data(story),
        _lineage(story, spent),
    ]


def _search(story: Story) -> Section:
    search = story.search
    charts = [search_charts.history(search), search_charts.curves(search)]
    small = []
    if search.space and search.ranked():
        charts.append(space_charts.parallel(search))
        small = space_charts.slices(search)
    if search.importances:
        charts.append(search_charts.importance(search))
    if (found := interactions(search)) and found.strongest >= NOTICEABLE:
        charts.append(search_charts.interaction(found))
    tables = [("The best trials", _best(search))]
    if story.dataset is not None and search.ranked():
        channels, height, width = story.dataset["shape"]
        networks = [search.network(trial) for trial in search.ranked()]
        measured = costs(networks, (channels, height, width), len(story.dataset["classes"]))
        charts += space_charts.cost_charts(search, measured)
        tables.append(("What the networks cost to use", _costs(measured)))
    if story.timing is not None:
        charts.append(search_charts.timeline(search, story.timing))
    if search.of("FAIL"):
        tables.append(("Failed trials", _failures(story)))
    title = "One dimension at a time: share of importance, the best tenth in green"
    return Section("search", "Search", charts, tables, small=small, small_title=title)


def _best(search: Search) -> Table:
    names = sorted(search.space, key=lambda n: -search.importances.get(n, 0.0))
    rows = [
        [str(t.number), f"{t.value:.4f}", *(said(t.params.get(name)) for name in names)] for t in search.ranked()[:TOP]
    ]
    return Table(["trial", search.metric, *(name.split(".", 1)[1] for name in names)], rows)


def _costs(measured: list[Cost]) -> Table:
    rows = [
        [
            ", ".join(f"{key} {said(value)}" for key, value in cost.network.items()),
            f"{cost.parameters:,}",
            f"{cost.milliseconds:.2f}",
        ]
        for cost in measured[:TOP]
    ]
    return Table(["network", "parameters", "ms an image (one CPU thread)"], rows, numbers=2)


def _failures(story: Story) -> Table:
    """Reasons, the most frequent first; numbers in them do not tell two apart."""
    spans = story.timing.spans if story.timing else {}
    groups: dict[str, list[Trial]] = {}
    for trial in story.search.of("FAIL"):
        reason = spans[trial.number].reason if trial.number in spans else "said by the study, which is not here"
        groups.setdefault(re.sub(r"\d+", "N", reason), []).append(trial)
    rows = [
        [spans[trials[0].number].reason if spans else reason, str(len(trials)), _numbers(trials)]
        for reason, trials in sorted(groups.items(), key=lambda item: -len(item[1]))[:TOP]
    ]
    return Table(["why", "trials", "which"], rows)


def _numbers(trials: list[Trial]) -> str:
    shown = ", ".join(str(trial.number) for trial in trials[:TOP])
    return shown + (", ..." if len(trials) > TOP else "")


def _confirmation(story: Story) -> Section:
    chosen = story.selected
    if chosen is None:
        return _missing(story, "select", "confirmation", "Confirmation", "Not confirmed yet")
    rows = [
        [str(c["trial"]), f"{c['value']:.4f}", said(c["mean"]), said(c["std"]), str(len(c["values"])), str(c["failed"])]
        for c in chosen["candidates"]
    ]
    marked = [c["trial"] for c in chosen["candidates"]].index(chosen["trial"])
    head = ["trial", "in the search", "mean of fresh seeds", "standard deviation", "seeds", "failed"]
    return Section(
        "confirmation",
        "Confirmation",
        [outcome_charts.confirmation(chosen)],
        [("", Table(head, rows, numbers=5, marked=marked)), ("The chosen configuration", _recipe(chosen["recipe"]))],
    )


def _recipe(recipe: dict[str, Any]) -> Table:
    return Table([], [[name, said(value)] for name, value in recipe.items()], pairs=True)


def _test(story: Story) -> Section:
    evaluated = story.evaluated
    if evaluated is None:
        return _missing(story, "evaluate", "test", "Sealed images", "Not evaluated yet")
    charts = [
        outcome_charts.confusion(evaluated),
        outcome_charts.calibration(evaluated),
        outcome_charts.recalls(evaluated),
    ]
    names = {
        "worst": "Wrong answers, the most surprising first",
        "surprising": "Right answers that came closest to being wrong",
    }
    pictures = [(title, [e for e in evaluated.gallery if e["kind"] == kind]) for kind, title in names.items()]
    return Section(
        "test",
        "Sealed images",
        [c for c in charts if c],
        [("Classes", _classes(evaluated)), ("Most frequent mistakes", _mistakes(evaluated))],
        pictures=[(title, entries) for title, entries in pictures if entries],
    )


def _classes(evaluated: Evaluated) -> Table:
    rows = [
        [
            row["class"],
            row["support"],
            *(f"{float(row[name]):.4f}" for name in ("precision", "recall")),
            f"{float(row['recall_low']):.3f} to {float(row['recall_high']):.3f}",
            f"{float(row['f1']):.4f}",
        ]
        for row in sorted(evaluated.per_class, key=lambda row: float(row["recall"]))[:ROWS]
    ]
    return Table(["class", "images", "precision", "recall", "interval of recall", "F1"], rows, numbers=5)


def _mistakes(evaluated: Evaluated) -> Table:
    wrong = Counter(pair for pair in evaluated.confusion if pair[0] != pair[1])
    rows = [[actual, predicted, str(count)] for (actual, predicted), count in wrong.most_common(TOP)]
    return Table(["actual", "answered", "images"], rows or [["none", "", "0"]], numbers=1)


def _training(story: Story) -> Section:
    if story.model is None:
        return _missing(story, "retrain", "training", "Retraining", "Not trained again yet")
    charts = [outcome_charts.retraining(story.history)] if story.history else []
    return Section("training", "Retraining", charts, [], text=story.profile)


def _data(story: Story) -> Section:
    audit = story.audit
    if audit is None:
        return _missing(story, "prepare", "data", "Images", "data/prepared is not here")
    parts = ("train", "val", "test")
    rows = [[name, *(f"{row[part]:,}" for part in parts)] for name, row in audit["counts"].items()]
    total = [sum(row[part] for row in audit["counts"].values()) for part in parts]
    head = ["class", "train", "validation", "test (sealed)"]
    table = Table(head, [["all", *(f"{n:,}" for n in total)], *rows[:ROWS]], numbers=3)
    found = [
        [KINDS[f["kind"]], f["policy"], f"{f['groups']:,}", f"{f['images']:,}", _examples(f["examples"])]
        for f in audit["findings"]
    ]
    if not found:
        return Section("data", "Images", [], [("Counts", table)], text="The doctor found nothing to report.")
    findings = Table(["finding", "policy", "groups", "files", "such as"], found)
    return Section("data", "Images", [], [("Findings", findings), ("Counts", table)])


def _examples(examples: list[dict[str, Any]]) -> str:
    shown = [f"{', '.join(e['classes'])}: {', '.join(e['files'][:4])}" for e in examples[:3]]
    return "; ".join(shown)


def _lineage(story: Story, spent: Spent) -> Section:
    search, model, version = story.search, story.model, story.registered
    rows = [["study", search.study], ["MLflow run of the search", search.parent_run_id or "not recorded"]]
    if story.timing is not None:
        rows.append(["began", story.timing.began])
    if spent.seconds is not None:
        rows.append(["searched for", duration(spent.seconds)])
    if story.dataset is not None:
        rows += [["images", story.dataset["source"]], ["digest of the images", story.dataset["digest"]]]
    if model is not None:
        rows += [[name.replace("_", " "), said(model[name])] for name in ("trial", "seed", "confirmation_seeds")]
        rows += [["trained on", model["device"]], ["MLflow run of the retraining", model["run_id"]]]
        rows.append(["digest of the weights", model["weights_digest"]])
    if version is not None:
        rows += [["registered as", f"{version['name']} version {version['version']}"]]
        rows += [["model", version["model_uri"]], ["digest of the registered files", version["model_digest"]]]
    if "register" in story.earlier:
        rows.append(["registered as", earlier.said(story.earlier["register"])])
    return Section("lineage", "Lineage", [], [("", Table(["what", "which"], rows))])


def _missing(story: Story, stage: str, key: str, title: str, why: str) -> Section:
    """A section without content."""
    what = f"{why}: run `dvc repro {stage}`"
    if stage in story.earlier:
        what = f"What lies here is {earlier.said(story.earlier[stage])}"
    return Section(key, title, [], [], missing=f"{what}.")


def said(value: Any) -> str:
    """A value as a table has it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(said, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
