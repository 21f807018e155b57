"""The Pareto front of a study for several metrics, computed once for each number of trials that have ended.

Optuna's `study.best_trials` copies the whole study each time: with 2,000 trials 0.45 s, which each redraw of the
progress and each run that is recorded would wait for.
"""

from weakref import WeakKeyDictionary

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_known: WeakKeyDictionary[optuna.Study, tuple[int, list[FrozenTrial]]] = WeakKeyDictionary()
"""The front that a study had when so many trials had ended."""


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether `trial` keeps every limit that it was judged by: Optuna has each as a constraint."""
    return all(value <= 0 for value in trial.constraints.values())


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials on the front by number, those that keep their constraints only; not to be changed, they are no copies.

    None that completed is at least as good in every metric and better in one: equal ones are all on it.
    """
    trials = study.get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    known = _known.get(study)
    if known is None or known[0] != ended:
        known = _known[study] = ended, _front(trials, study.directions)
    return list(known[1])


def _front(trials: list[FrozenTrial], directions: list[StudyDirection]) -> list[FrozenTrial]:
    complete = [t for t in trials if t.state == TrialState.COMPLETE and is_feasible(t)]
    if not complete:
        return []
    signs = np.array([-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions])
    losses = signs * np.array([trial.values for trial in complete], dtype=float)
    return [trial for trial, best in zip(complete, _undominated(losses), strict=True) if best]


def _undominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of the rows of `losses` (n, metrics) those that no other is below, (n,)."""
    order = np.lexsort(losses.T[::-1])  # none is below one that comes before it
    best = np.zeros(len(losses), dtype=bool)
    found = np.empty_like(losses)
    count = 0
    for row in order:
        below = (found[:count] <= losses[row]).all(1) & (found[:count] < losses[row]).any(1)
        if not below.any():
            best[row] = True
            found[count] = losses[row]
            count += 1
    return best
