"""Asynchronous successive halving that resumes what it stopped: which trials rest, at which rung, and which go on.

A trial that rests is saved, has no worker, and is RUNNING in the study. Its rests stand with it, and the rungs follow
from what the trials reported: so nothing has to be remembered beside the study, and a killed search knows all of it.

ASHA: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020.
"""

import copy
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.search.views import View, seen

RESTS = "rests"
"""The attribute of a trial with its rests, in order: each [from, to] in ISO format; to is null while it rests."""


def rests(trial: FrozenTrial) -> bool:
    """Whether `trial` is saved at a rung and has no worker."""
    spans = trial.user_attrs.get(RESTS, [])
    return trial.state == TrialState.RUNNING and bool(spans) and spans[-1][1] is None


def lie_down(trial: optuna.Trial) -> None:
    """From now on `trial` rests."""
    trial.set_user_attr(RESTS, [*trial.user_attrs.get(RESTS, []), [datetime.now().isoformat(), None]])


def get_up(trial: optuna.Trial) -> None:
    """From now on `trial` is trained again."""
    *earlier, (since, _) = trial.user_attrs[RESTS]
    trial.set_user_attr(RESTS, [*earlier, [since, datetime.now().isoformat()]])


def sittings(trial: FrozenTrial) -> list[tuple[datetime, datetime]]:
    """When a trial that has ended was with a worker, from and to: once, and once more after each rest."""
    start, complete = trial.datetime_start, trial.datetime_complete
    found = []
    for since, until in trial.user_attrs.get(RESTS, []):
        if start is not None:
            found.append((start, datetime.fromisoformat(since)))
        start = datetime.fromisoformat(until) if until else None
    return [*found, (start, complete)] if start is not None and complete is not None else found


def as_pruned(study: optuna.Study) -> optuna.Study:
    """`study` as a sampler is to see it: what rests counts as pruned, not as one of the trials that are under way.

    TPE's constant liar takes a trial under way for a bad one, and would forget every value it has reported.
    """
    return seen(study, View(study._storage, _pruned))


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    if not rests(trial):
        return trial
    other = copy.copy(trial)
    other.state = TrialState.PRUNED
    return other


@dataclass(frozen=True)
class Rungs:
    """Rungs after first * factor^k epochs; of the trials that came to one, the best in `factor` go on.

    Of fewer than `factor` the best one does, so that a search of few trials has one that is complete.
    """

    first: int
    factor: int
    sign: int
    """1 where a higher value is better, -1 where a lower one is."""

    @staticmethod
    def of(first: int, factor: int, direction: StudyDirection) -> "Rungs":
        """The rungs of a study in `direction`."""
        return Rungs(max(1, first), factor, 1 if direction == StudyDirection.MAXIMIZE else -1)

    def __contains__(self, epoch: int) -> bool:
        """Whether there is a rung after `epoch`."""
        while epoch > self.first and epoch % self.factor == 0:
            epoch //= self.factor
        return epoch == self.first

    def best(self, trials: Iterable[FrozenTrial], epoch: int) -> list[FrozenTrial]:
        """Those of `trials` that go on, or went on, from the rung after `epoch`; the best first."""
        there = [t for t in trials if epoch in t.intermediate_values]
        there.sort(key=lambda t: (-self.sign * t.intermediate_values[epoch], t.number))
        return there[: max(1, len(there) // self.factor)]

    def promoted(self, trials: Sequence[FrozenTrial], busy: Container[int] = ()) -> FrozenTrial | None:
        """The resting trial that goes on next, from the highest rung that has one; none of those `busy` being saved."""
        resting = {trial.last_step for trial in trials if rests(trial)}
        for epoch in sorted((e for e in resting if e is not None and e in self), reverse=True):
            for trial in self.best(trials, epoch):
                if rests(trial) and trial.last_step == epoch and trial.number not in busy:
                    return trial
        return None
