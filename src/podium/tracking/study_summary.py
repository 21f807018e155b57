"""The result of a study, as its run in MLflow shows it: metrics, and a page in Markdown."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.text import counted, number
from podium.tracking.pareto_front import best_trials, is_feasible
from podium.tracking.run_names import LIMIT, PEAK_MEMORY, TITLE, key_of, run_name

OWN_METRICS = frozenset(
    {"trial_number", "duration_seconds", "epochs", "objective", "last_reported", "reported", "feasible", PEAK_MEMORY}
)
"""Metrics of a run that come from here; a person's have other names."""
TOP = 5
"""Trials in the table of a study's note."""
HELP = """\
Trials are the runs below this one: FINISHED ran to their end, KILLED were pruned, FAILED failed. Sort by `objective`,
which only trials that ran to their end have; or select some and press Compare: `trial_number` is an axis there."""


HELP_FRONT = """\
Trials are the runs below this one: FINISHED ran to their end, KILLED were pruned, FAILED failed. Those on the Pareto
front have the tag `podium.front` = yes (search for `tags."podium.front" = "yes"`): no other trial is as good in every
metric and better in one. `figures/front.png` shows them; select some and press Compare."""


def help_of(several: bool) -> str:
    """How to compare the trials of a study, with one metric or with several."""
    return HELP_FRONT if several else HELP


def title_of(study: optuna.Study) -> str:
    """What people call `study`, such as `digits · 2026-11-29 · 3f2a`; its name where it was made without a title."""
    title = study.user_attrs.get(TITLE)
    return run_name(title if isinstance(title, str) and title else study.study_name)


def objectives(study: optuna.Study) -> list[str]:
    """What the metrics of a study's values are called: objective, or objective_0, ... or as the study names them."""
    count = len(study.directions)
    if count == 1:
        return ["objective"]
    plain = [f"objective_{place}" for place in range(count)]
    names = study.metric_names or []
    if len(set(names)) != count:
        return plain
    taken = [name in OWN_METRICS or name.startswith(("objective", "constraint_")) for name in names]
    return [other if own else key_of(name) for name, other, own in zip(names, plain, taken, strict=True)]


def summary_of(study: optuna.Study) -> dict[str, float]:
    """The result of a study in a few metrics: how many trials ended how, the best value, the size of the front."""
    trials = study.get_trials(deepcopy=False)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    values: dict[str, float] = {
        f"trials_{state.name.lower()}": sum(t.state == state for t in trials) for state in states
    }
    best = best_of(study)
    if len(study.directions) > 1:
        values["trials_on_front"] = len(best)
    elif best and best[0].values:
        values |= {"best_objective": best[0].values[0], "best_trial": best[0].number}
    return values


def best_of(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or the trials on the front of several objectives; none where none completed or is feasible."""
    if len(study.directions) > 1:
        return best_trials(study)
    try:
        return [study.best_trial]
    except ValueError:
        return []


def note_of(study: optuna.Study, *, fronts: bool = False) -> str:
    """The page of a study's parent run in Markdown: counts, the best trials, how to compare them.

    `fronts`: it is a search of Podium's, whose trials say whether they are on the Pareto front of several metrics.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    states = Counter(t.state for t in trials)
    complete, pruned, failed = (states[s] for s in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    counts = f"{counted(len(trials), 'trial')}: {complete} ran to their end, {pruned} were pruned, {failed} failed."
    best = _ranking(study, trials)
    shown_as = help_of(fronts and len(study.directions) > 1)
    lines = [f"### {title_of(study)}", "", counts, "", *_table(objectives(study), best), "", shown_as]
    text = "\n".join(lines)
    return text if len(text) <= LIMIT else "\n".join([*lines[:4], shown_as])  # hundreds of parameters


def _ranking(study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        return best_of(study)[:TOP]
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    # Of a pruned trial Optuna keeps the last reported value as its value, which is no objective.
    valued = [t for t in trials if t.state == TrialState.COMPLETE and is_feasible(t)]
    return sorted(valued, key=lambda t: (-sign * (t.value or 0), t.number))[:TOP]


def _table(names: list[str], best: list[FrozenTrial]) -> list[str]:
    params = sorted({name for trial in best for name in trial.params}, key=str)
    if not best:
        return []
    head = ["trial", *names, *(f"`{name}`" for name in params)]
    rows = [
        [str(t.number), *map(number, t.values or ()), *(_shown(t.params.get(name, "")) for name in params)]
        for t in best
    ]
    marks = ["---:"] * (1 + len(names)) + ["---"] * len(params)
    return [_row(head), _row(marks), *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
