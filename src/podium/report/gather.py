"""Everything that the report tells, read from data/ (and the times of trials from the study, where it is here)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium import paths
from podium.report.earlier import earlier
from podium.report.timing import Timing, read_timing
from podium.report.trials import Search, read_search

Table = list[dict[str, str]]


@dataclass(frozen=True)
class Folders:
    """Where the stages left what they made."""

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
        """Those of the project that this process stands in."""
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
    """What `evaluate` left."""

    metrics: dict[str, float]
    confidence: float | None
    """Level of the intervals; None where an earlier Podium did not write it down."""
    per_class: Table
    confusion: list[tuple[str, str]]
    """Actual and predicted class of each sealed image."""
    calibration: Table
    gallery: list[dict[str, Any]]

    def overconfidence(self) -> float:
        """Mean confidence minus accuracy; below 0 where the model is too modest."""
        rows = [(int(r["count"]), float(r["confidence"]) - float(r["accuracy"])) for r in self.calibration]
        return sum(count * gap for count, gap in rows) / max(sum(count for count, _ in rows), 1)


@dataclass(frozen=True)
class Story:
    """One run of the pipeline as far as it has come; a stage that has not run is None."""

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
    """Of the retraining, epoch by epoch."""
    profile: str
    """profile.md; empty where there is none."""
    evaluated: Evaluated | None
    registered: dict[str, Any] | None
    """version.json."""
    earlier: dict[str, str]
    """The stages that are None though their folders hold something, with what that is of, as `earlier` says."""


def gather(folders: Folders) -> Story:
    """Read what there is of the present search. Raises InputError where not even the search has run."""
    search = read_search(folders.search)
    selected, model = _json(folders.selected / "config.json"), _json(folders.retrained / "model.json")
    registered, evaluation = _json(folders.registered / "version.json"), _evaluation(folders.evaluated, model)
    old = earlier((search.study, search.best["trial"]), selected, model, evaluation, registered)
    trained = model is not None and "retrain" not in old
    return Story(
        search=search,
        timing=read_timing(folders.journal, search.study),
        dataset=_json(folders.prepared / "dataset.json"),
        audit=_json(folders.prepared / "audit.json"),
        selected=None if "select" in old else selected,
        model=model if trained else None,
        history=_table(folders.retrained / "history.csv") if trained else [],
        profile=_text(folders.retrained / "profile.md") if trained else "",
        evaluated=None if evaluation is None or "evaluate" in old else _evaluated(folders.evaluated, evaluation),
        registered=None if "register" in old else registered,
        earlier=old,
    )


def _evaluation(folder: Path, model: dict[str, Any] | None) -> dict[str, Any] | None:
    """evaluation.json. An earlier Podium wrote none, and what it evaluated is taken for the model that is there."""
    if not (folder / "metrics.json").is_file():
        return None
    found: dict[str, Any] | None = _json(folder / "evaluation.json")
    return {"weights_digest": (model or {}).get("weights_digest")} if found is None else found


def _evaluated(folder: Path, evaluation: dict[str, Any]) -> Evaluated:
    metrics = _json(folder / "metrics.json")
    pairs = [(row["actual"], row["predicted"]) for row in _table(folder / "confusion.csv")]
    tables = _table(folder / "per_class.csv"), pairs, _table(folder / "calibration.csv")
    return Evaluated(metrics, evaluation.get("confidence"), *tables, _json(folder / "gallery.json") or [])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table(path: Path) -> Table:
    if not path.is_file():
        return []
    # Not by str.splitlines: a class may be called by what that takes for the end of a line.
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
