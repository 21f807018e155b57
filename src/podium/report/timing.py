"""When the trials of a search ran: from the study itself, since data/ holds nothing in which equal searches differ."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.search.resting import sittings
from podium.search.study import open_storage


@dataclass(frozen=True)
class Span:
    """One trial in time."""

    sittings: tuple[tuple[float, float], ...]
    """When it was with a worker, in seconds since the first trial began: more than once where it rested in between."""
    epoch_seconds: float
    """Mean of an epoch; 0 where none ended."""
    reason: str
    """Why it failed; empty for others."""

    @property
    def seconds(self) -> float:
        """That it was with a worker."""
        return sum(end - start for start, end in self.sittings)


@dataclass(frozen=True)
class Timing:
    """A study in time."""

    began: str
    """Local date and time of the first trial."""
    seconds: float
    """That the search ran, over all sessions."""
    spans: dict[int, Span]
    """By the trial's number."""

    def lanes(self) -> dict[tuple[int, int], int]:
        """A row for each trial's sittings, by its number and theirs, so that none overlaps another.

        They are the workers, as far as times tell them apart.
        """
        free: list[float] = []
        lane: dict[tuple[int, int], int] = {}
        every = [(sitting, number, k) for number, s in self.spans.items() for k, sitting in enumerate(s.sittings)]
        for (start, end), number, k in sorted(every, key=lambda one: one[0][0]):
            row = next((index for index, until in enumerate(free) if until <= start), len(free))
            free[row:] = [end, *free[row + 1 :]]
            lane[number, k] = row
        return lane

    def busy(self) -> float:
        """Seconds of all trials together."""
        return sum(span.seconds for span in self.spans.values())


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
    spans = tuple((start.timestamp() - first, end.timestamp() - first) for start, end in sittings(trial))
    if not spans:
        return None
    history = trial.user_attrs.get("history", [])
    mean = sum(epoch["seconds"] for epoch in history) / len(history) if history else 0.0
    reason = str(trial.user_attrs.get("reason", "no reason was recorded")) if trial.state == TrialState.FAIL else ""
    return Span(spans, mean, reason)
