"""Everything that the report shows, read from data/ (and the times of trials from the study, if it is here)."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podium import paths
from podium.metrics.scores import Objective
from podium.report.trials import Search, Timing, read_search, read_timing
from podium.tuning.outcome import REFERENCE
from podium.tuning.reference_lines import Lines, lines_of

Json = dict[str, Any]
Table = list[dict[str, str]]


@dataclass(frozen=True)
class Folders:
    """The folders of the stages' outputs."""

    prepared: Path
    search: Path
    selected: Path
    retrained: Path
    evaluated: Path
    registered: Path
    journal: Path
    """Optuna's journal, for times."""

    @staticmethod
    def of_project() -> "Folders":
        """Those of the project in the current folder."""
        return Folders(
            prepared=paths.PREPARED,
            search=paths.SEARCH,
            selected=paths.SELECTED,
            retrained=paths.RETRAINED,
            evaluated=paths.EVALUATED,
            registered=paths.REGISTERED,
            journal=paths.mlruns() / "optuna.journal",
        )


@dataclass(frozen=True)
class Evaluated:
    """The output of `evaluate`."""

    metrics: dict[str, float]
    confidence: float | None
    """Level of the intervals; None if an earlier Podium did not write it."""
    per_class: Table
    confusion: list[tuple[str, str]]
    """Actual and predicted class of each test image."""
    calibration: Table
    gallery: list[dict[str, Any]]
    metric: Objective | None = None
    """search.metric, where that is not accuracy."""
    coverage: Table = field(default_factory=list)
    """coverage.csv; empty: the model answers every image."""
    abstain: dict[str, Any] | None = None
    """abstain.json."""

    @property
    def is_by_metric(self) -> bool:
        """Whether there is a figure of search.metric besides the accuracy."""
        return self.metric is not None and self.metric.name in self.metrics

    def overconfidence(self) -> float:
        """Mean confidence minus accuracy; below 0 if the model is underconfident."""
        rows = [(int(r["count"]), float(r["confidence"]) - float(r["accuracy"])) for r in self.calibration]
        return sum(count * gap for count, gap in rows) / max(sum(count for count, _ in rows), 1)


@dataclass(frozen=True)
class ReportData:
    """One run of the pipeline so far; a stage that has not run is None."""

    search: Search
    timing: Timing | None
    dataset: dict[str, Any] | None
    """dataset.json."""
    audit: dict[str, Any] | None
    """audit.json."""
    selected: dict[str, Any] | None
    """config.json."""
    model: dict[str, Any] | None
    """model.json of the retraining."""
    history: Table
    """Of the retraining, one row per epoch."""
    profile: str
    """profile.md; empty if there is none."""
    evaluated: Evaluated | None
    registered: dict[str, Any] | None
    """version.json."""
    lines: Lines | None
    """Reference lines; None if the search of an earlier Podium did not measure them."""
    stale: dict[str, str]
    """The stages that are None because their files belong to an earlier run, as `stale_stages` has them."""

    @property
    def achieved(self) -> float:
        """What is compared with the reference lines: the mean on fresh seeds, or the best trial before there is one."""
        chosen = self.selected or {}
        mean = None if chosen.get("folds") else chosen.get("mean")  # folds are judged on other images than the lines
        return float(self.search.best["value"] if mean is None else mean)


def gather(folders: Folders) -> ReportData:
    """Read what exists of the current search. Raises InputError if not even the search has run."""
    search = read_search(folders.search)
    selected, model = _json(folders.selected / "config.json"), _json(folders.retrained / "model.json")
    registered, evaluation = _json(folders.registered / "version.json"), _evaluation(folders.evaluated, model)
    stale = stale_stages((search.study, search.best["trial"]), selected, model, evaluation, registered)
    trained = model is not None and "retrain" not in stale
    return ReportData(
        search=search,
        timing=read_timing(folders.journal, search.study),
        dataset=_json(folders.prepared / "dataset.json"),
        audit=_json(folders.prepared / "audit.json"),
        selected=None if "select" in stale else selected,
        model=model if trained else None,
        history=_table(folders.retrained / "history.csv") if trained else [],
        profile=_text(folders.retrained / "profile.md") if trained else "",
        evaluated=None if evaluation is None or "evaluate" in stale else _evaluated(folders.evaluated, evaluation),
        registered=None if "register" in stale else registered,
        lines=lines_of(_json(folders.search / REFERENCE)),
        stale=stale,
    )


def stale_stages(
    search: tuple[str, int],
    selected: Json | None,
    model: Json | None,
    evaluation: Json | None,
    registered: Json | None,
) -> dict[str, str]:
    """The stages whose files belong to an earlier run, each with the earlier thing: search, selection or training.

    `search`: the study and its best trial; the others are config.json, model.json, evaluation.json and version.json.
    A study keeps its name when it gets more trials, so a selection belongs to a best trial too.
    """
    found: dict[str, str] = {}
    study, best = search
    if selected is not None:  # of several metrics the first candidate need not be the best by the first one
        searched = selected.get("search_best", selected["candidates"][0]["trial"])
        if (selected["study"], searched) != (study, best):
            found["select"] = "search"
    if model is not None:
        if model["study"] != study or "select" in found:
            found["retrain"] = "search"
        elif selected is not None and model["trial"] != selected["trial"]:
            found["retrain"] = "selection"
    for stage, made in (("evaluate", evaluation), ("register", registered)):
        if made is not None and (model is None or made.get("weights_digest") != model["weights_digest"]):
            found[stage] = found.get("retrain", "training")
        elif made is not None and "retrain" in found:
            found[stage] = found["retrain"]
    return found


def stale_notice(what: str) -> str:
    """What the page says of a stale stage."""
    return f"of an earlier {what}: run `dvc repro`"


def _evaluation(folder: Path, model: dict[str, Any] | None) -> dict[str, Any] | None:
    """evaluation.json. An earlier Podium wrote none; then the present model is taken for the one it evaluated."""
    if not (folder / "metrics.json").is_file():
        return None
    found: dict[str, Any] | None = _json(folder / "evaluation.json")
    return {"weights_digest": (model or {}).get("weights_digest")} if found is None else found


def _evaluated(folder: Path, evaluation: dict[str, Any]) -> Evaluated:
    metrics = _json(folder / "metrics.json")
    pairs = [(row["actual"], row["predicted"]) for row in _table(folder / "confusion.csv")]
    tables = _table(folder / "per_class.csv"), pairs, _table(folder / "calibration.csv")
    metric = Objective.of(evaluation) if "metric" in evaluation else None
    shown = _json(folder / "gallery.json") or []
    answering = _table(folder / "coverage.csv"), _json(folder / "abstain.json")
    return Evaluated(metrics, evaluation.get("confidence"), *tables, shown, metric, *answering)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table(path: Path) -> Table:
    if not path.is_file():
        return []
    # Not by str.splitlines: a class name may hold a character that it takes for the end of a line.
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
