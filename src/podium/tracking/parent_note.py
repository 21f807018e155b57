"""What the page of a search's parent run in MLflow says, in Markdown: a pure function of the study."""

from collections import Counter
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

TOP = 5
"""Trials in the table."""
HELP = """\
Trials are the runs below this one: FINISHED ran to their end, KILLED were pruned, FAILED failed. Sort by `objective`,
which only trials that ran to their end have; or select some and press Compare: `trial_number` is an axis there."""


def note_of(study: optuna.Study) -> str:
    """The story of `study` so far: counts, the best trials, how to compare them."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    states = Counter(t.state for t in trials)
    complete, pruned, failed = (states[s] for s in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    counts = f"{len(trials)} trials: {complete} ran to their end, {pruned} were pruned, {failed} failed."
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    best = sorted((t for t in trials if t.value is not None), key=lambda t: (-sign * (t.value or 0), t.number))[:TOP]
    lines = [f"### {study.study_name}", "", counts, "", *_table(best), "", HELP]
    return "\n".join(lines)


def _table(best: list[FrozenTrial]) -> list[str]:
    names = sorted({name for trial in best for name in trial.params})
    if not best:
        return []
    head = ["trial", "objective", *(f"`{name}`" for name in names)]
    rows = [[str(t.number), f"{t.value:.4f}", *(_said(t.params.get(name, "")) for name in names)] for t in best]
    return [_row(head), _row(["---:", "---:", *["---"] * len(names)]), *map(_row, rows)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
