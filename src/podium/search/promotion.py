"""A search by asynchronous successive halving whose trials go on from their checkpoints (`search.pruner: asha`).

Optuna's pruners end a trial for good by what is known when it comes to a rung. Here it rests, saved, and goes on when
enough trials have come to its rung to show that it belongs to the best. What still rests at the end is pruned.
"""

from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from podium.search import resting
from podium.search import study as studies
from podium.search.driver import Driver
from podium.search.live import Live
from podium.search.messages import Lost


class PromotionDriver(Driver):
    """A driver whose free workers go on with the best of the resting trials before they begin another one.

    `search.n_trials` counts trials that were begun; resting ones are promoted until none is left among its rung's best.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.rungs = resting.Rungs.of(self.params.pruner_warmup, self.params.pruner_factor, self.study.direction)
        self._resting: dict[int, Live] = {}
        """Those that came to rest in this session, with what was heard of them."""

    def _fill(self, unfinished: list[FrozenTrial]) -> None:
        unfinished[:] = [trial for trial in unfinished if not resting.rests(trial)]
        super()._fill(unfinished)

    def _next(self) -> Live | None:
        trials = resting.as_pruned(self.study).get_trials(deepcopy=False)
        if self.budget.over(trials, self.study.direction, self.watch.seconds()):
            return None
        frozen = self.rungs.promoted(self.study.get_trials(deepcopy=False), busy=self.live)
        return super()._next() if frozen is None else self._get_up(frozen)

    def _get_up(self, frozen: FrozenTrial) -> Live:
        live = self._taken_up(frozen)
        resting.get_up(live.trial)
        task = replace(live.task, attempt=live.task.attempt + 1)
        return Live(live.trial, task, live.reported | frozenset(live.epochs), live.epochs, live.restarts)

    def _taken_up(self, frozen: FrozenTrial) -> Live:
        """A resting trial; of one that came to rest in an earlier session the study says what was heard of it."""
        live = self._resting.pop(frozen.number, None)
        if live is None:
            trial = studies.take_up(self.study, self.params, frozen)
            live = self._prepare(trial, frozenset(frozen.intermediate_values))
            live.hear(frozen.user_attrs.get("history", []))
        return live

    def _goes_on(self, live: Live, epoch: int) -> bool:
        goes_on = super()._goes_on(live, epoch)
        if not goes_on:  # written before the worker hears of it, and saves: what is saved at a rung has been judged
            self._keep_history(live)
            resting.lie_down(live.trial)
        return goes_on

    def _is_pruned(self, live: Live) -> bool:
        frozen = self._frozen(live)
        epoch = frozen.last_step
        if epoch is None or epoch not in self.rungs:
            return False
        best = self.rungs.best(self.study.get_trials(deepcopy=False), epoch)
        return all(trial.number != frozen.number for trial in best)

    def _keep_history(self, live: Live) -> None:
        if len(live.history) > len(self._frozen(live).user_attrs.get("history", [])):
            live.trial.set_user_attr("history", live.history)

    def _stopped(self, live: Live) -> None:
        self._keep_history(live)  # of a trial that an earlier session began the worker tells more
        self._resting[live.task.number] = self.live.pop(live.task.number)

    def _restart(self, live: Live, lost: Lost) -> None:
        if resting.rests(self._frozen(live)):
            self._stopped(live)  # its worker was lost while it saved: it goes on from an earlier checkpoint
        else:
            super()._restart(live, lost)

    def _finish(self) -> None:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._tell(self._taken_up(frozen), TrialState.PRUNED)
