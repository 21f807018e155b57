"""When the trials of a search ran: from the study itself, since data/ holds nothing in which equal searches differ."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.tuning.journal import open_storage


@dataclass(frozen=True)
class Span:
    """One trial in time."""

    start: float
    """Seconds since the first trial began."""
    end: float
    epoch_seconds: float
    """Mean of an epoch; 0 where none ended."""
    reason: str
    """Why it failed; empty for others."""


@dataclass(frozen=True)
class Timing:
    """A study in time."""

    began: str
    """Local date and time of the first trial."""
    seconds: float
    """That the search ran, over all sessions."""
    spans: dict[int, Span]
    """By the trial's number."""

    def lanes(self) -> dict[int, int]:
        """A row for each trial so that none overlaps another: the workers, as far as times tell them apart."""
        free: list[float] = []
        lane: dict[int, int] = {}
        for number, span in sorted(self.spans.items(), key=lambda item: item[1].start):
            row = next((k for k, end in enumerate(free) if end <= span.start), len(free))
            free[row:] = [span.end, *free[row + 1 :]]
            lane[number] = row
        return lane

    def busy(self) -> float:
        """Seconds of all trials together."""
        return sum(span.end - span.start for span in self.spans.values())


def read_timing(journal: Path, name: str) -> Timing | None:
    """The times of the study `name`; None where `journal` does not hold it, such as on another machine."""
    if not journal.is_file():
        return None
    storage = open_storage(journal)
    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    ended = [
        t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "inherited_from" not in t.user_attrs
    ]
    moments = [t.datetime_start for t in ended if t.datetime_start is not None]
    if not moments:
        return None
    first = min(moments)
    spans = {t.number: span for t in ended if (span := _span(t, first.timestamp()))}
    return Timing(f"{first:%Y-%m-%d %H:%M}", float(study.user_attrs.get("seconds", 0.0)), spans)


def _span(trial: FrozenTrial, first: float) -> Span | None:
    start, end = trial.datetime_start, trial.datetime_complete
    if start is None or end is None:
        return None
    history = trial.user_attrs.get("history", [])
    mean = sum(epoch["seconds"] for epoch in history) / len(history) if history else 0.0
    reason = str(trial.user_attrs.get("reason", "no reason was recorded")) if trial.state == TrialState.FAIL else ""
    return Span(start.timestamp() - first, end.timestamp() - first, mean, reason)
