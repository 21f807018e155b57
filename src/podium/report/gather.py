"""Everything that the report tells, read from data/ (and the times of trials from the study, where it is here)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium import paths
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


def gather(folders: Folders) -> Story:
    """Read what there is. Raises InputError where not even the search has run."""
    search = read_search(folders.search)
    return Story(
        search=search,
        timing=read_timing(folders.journal, search.study),
        dataset=_json(folders.prepared / "dataset.json"),
        audit=_json(folders.prepared / "audit.json"),
        selected=_json(folders.selected / "config.json"),
        model=_json(folders.retrained / "model.json"),
        history=_table(folders.retrained / "history.csv"),
        profile=_text(folders.retrained / "profile.md"),
        evaluated=_evaluated(folders.evaluated),
        registered=_json(folders.registered / "version.json"),
    )


def _evaluated(folder: Path) -> Evaluated | None:
    metrics = _json(folder / "metrics.json")
    if metrics is None:
        return None
    pairs = [(row["actual"], row["predicted"]) for row in _table(folder / "confusion.csv")]
    tables = _table(folder / "per_class.csv"), pairs, _table(folder / "calibration.csv")
    return Evaluated(metrics, *tables, _json(folder / "gallery.json") or [])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table(path: Path) -> Table:
    return list(csv.DictReader(_text(path).splitlines()))
