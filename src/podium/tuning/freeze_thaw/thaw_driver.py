"""The driver of a freeze-thaw search: what trains next is decided slice by slice, and trials rest in between.

A resting trial is RUNNING in the study and has a checkpoint. Every decision is recorded before it is acted on, so a
driver that was killed between any two writes finds what it would have done; a checkpoint that is missing or older costs
the time to train its epochs again, and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from podium.tracking.pareto_front import is_feasible
from podium.training.seeds import derive
from podium.tuning import search_errors
from podium.tuning.driver import Driver
from podium.tuning.ending import ending_of
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.decisions import Decision, rests, spent, trained
from podium.tuning.freeze_thaw.planner import Planner, no_gain
from podium.tuning.inherit import is_own
from podium.tuning.messages import Ended, Resumed
from podium.tuning.optuna_private import contains, resume
from podium.tuning.trial import RunningTrial


class Proposed(BaseSampler):
    """Gives a trial the values that were decided for it; what was left open, such as by an enqueued one, at random."""

    def __init__(self, values: dict[str, Any], seed: int, number: int) -> None:
        self._values, self._name = values, (seed, "ask", number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value that was decided, or a random one."""
        value = self._values.get(param_name)
        if value is not None and contains(param_distribution, value):
            return value
        random = RandomSampler(seed=derive(*self._name, param_name))
        return random.sample_independent(study, trial, param_name, param_distribution)


class ThawDriver(Driver):
    """Runs slices of trials until the search's budget is spent; then every trial that rests ends."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.planner = Planner(self.params, self.base, self.study.direction)
        self.decisions = decided.read(self.study)
        self._queue: list[RunningTrial] = []
        """Trials that were decided on and have no worker yet."""
        self._attempts: dict[int, int] = {}
        """The last attempt at each trial: the next slice has another number, so late messages are known as such."""
        self._begun = self._batched = False
        """Whether this session has looked at what is left of earlier ones, and whether it has had a batch."""
        self._failed: set[int] = set()
        """The trials that failed in this session: what ended earlier ones may be mended."""
        self._libraries = ThreadpoolController()

    def _fill(self, unfinished: list[FrozenTrial]) -> None:
        if not self._begun:
            self._begin(unfinished)
        while self._is_worker_free() and (running := self._next()):
            self._submit(running)

    def _workerless(self) -> list[RunningTrial]:
        return super()._workerless() + self._queue

    def _begin(self, unfinished: list[FrozenTrial]) -> None:
        """Queue what was decided and not done when the last session ended."""
        self._begun = True
        self._queue += [self._left_running(trial) for trial in unfinished if not rests(self.decisions, trial)]
        unfinished.clear()
        for decision in decided.not_begun(self.decisions, self._trials()):
            self._queue.append(self._carry_out(decision))
        if self.params.deterministic and self.decisions:
            self._fill_batch(self._last_batch())

    def _next(self) -> RunningTrial | None:
        """The next trial for a worker; None: there is nothing to do for now, or at all."""
        if not self._queue:
            if not self.params.deterministic:
                decision = self._decide(None)
                return self._carry_out(decision) if decision else None
            if not (self.running or self._waiting):
                self._next_batch()
        return self._queue.pop(0) if self._queue else None

    def _next_batch(self) -> None:
        if self._batched:
            self._check_failures()
        self._batched = True
        self._fill_batch(1 + self._last_batch())

    def _last_batch(self) -> int:
        return -1 if not self.decisions or self.decisions[-1].batch is None else self.decisions[-1].batch

    def _fill_batch(self, batch: int) -> None:
        """Make all decisions of a batch that are missing, before the first is acted on.

        So they follow from what earlier batches have shown, whichever worker was quicker. A batch is smaller than
        search.batch where there is nothing else to decide on; then there is not after a kill in its middle either.
        """
        while sum(one.batch == batch for one in self.decisions) < self.params.batch:
            decision = self._decide(batch)
            if decision is None:
                break
            self._queue.append(self._carry_out(decision))

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _resting(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """The trials that rest and that nobody is about to train."""
        aside = (one for one, _ in self._aside)
        busy = {*self.running, *(one.number for one in (*self._queue, *self._waiting, *aside))}
        left = [t for t in trials if t.state == TrialState.RUNNING and t.number not in busy]
        return [trial.number for trial in left if rests(self.decisions, trial)]

    def _decide(self, batch: int | None) -> Decision | None:
        """The next decision, recorded; None where the budget is spent or nothing is left to do.

        `batch`: the one that it is to belong to, in a deterministic search.
        """
        trials = self._trials()
        epochs = None
        if self.params.max_epochs is not None:
            epochs = self.params.max_epochs - spent(self.decisions, trials)
        if self._over():
            return None
        with self._libraries.limit(limits=1, user_api="blas"):  # a second thread would take a core from a worker
            decision = self._planned(trials, batch, epochs)
        if decision is not None:
            decided.append(self.study, self.decisions, decision)
        return decision

    def _planned(self, trials: list[FrozenTrial], batch: int | None, epochs: int | None) -> Decision | None:
        """What the planner decides, after what may rest no longer was let go."""
        taken = {one.trial for one in self.decisions if batch is not None and one.batch == batch}
        resting = [number for number in self._resting(trials) if number not in taken]
        if not taken:
            for number in self.planner.surplus(trials, self.decisions, resting):
                self._let_go(trials[number])
                resting.remove(number)
        decision = self.planner.decide(trials, self.decisions, resting, epochs)
        return decision and replace(decision, batch=batch)

    def _over(self) -> bool:
        """Whether no further slice is to begin, whatever could be trained."""
        timeout = self.params.timeout
        out_of_time = timeout is not None and self.clock.seconds() >= timeout
        return out_of_time or (self.params.until == "no_gain" and no_gain(self.decisions) and self._has_result())

    def _has_result(self) -> bool:
        """Whether the search, ended now, has a complete trial that keeps the limits.

        Until then no gain is what a model expects that has seen no whole training: it may be wrong for all of them.
        """
        trials = self._trials()
        if any(trial.state == TrialState.COMPLETE and is_feasible(trial) for trial in trials):
            return True
        return any(self._would_complete(trial) for trial in trials if trial.state == TrialState.RUNNING)

    def _would_complete(self, trial: FrozenTrial) -> bool:
        """Whether `trial` is complete and keeps the limits if it ends where it rested last."""
        if "recipe" not in trial.user_attrs:
            return False
        recipe, history = self.base.replace(trial.user_attrs["recipe"]), trial.user_attrs.get("history", [])
        return ending_of(trial, recipe, history, self.params, self.study.direction, whole=False).is_result

    def _carry_out(self, decision: Decision) -> RunningTrial:
        """The trial of `decision`, ready for a worker."""
        known = [t for t in self._trials() if t.number == decision.trial and t.state == TrialState.RUNNING]
        if known:
            return self._again(known[0])
        self._set_up(decision.trial)
        return self._prepare(self.study.ask())

    def _set_up(self, number: int) -> None:
        """What proposes the values of trial `number`: they follow from the decision to begin it."""
        first = next((one for one in self.decisions if one.trial == number), None)
        self.study.sampler = Proposed((first and first.values) or {}, self.params.seed, number)
        self.study.pruner = NopPruner()

    def _again(self, frozen: FrozenTrial) -> RunningTrial:
        self._set_up(frozen.number)
        running = self._prepare(resume(self.study, frozen), frozenset(frozen.intermediate_values))
        running.log(frozen.user_attrs.get("history", []))
        return running

    def _prepare(self, trial: optuna.Trial, reported: frozenset[int] = frozenset()) -> RunningTrial:
        running = super()._prepare(trial, reported)
        until: int | None = decided.until(self.decisions, running.frozen)
        total = int(running.task.recipe["train"]["epochs"])
        attempt = self._attempts.get(running.number, 0) + 1
        rested = max(reported, default=0)
        until = until if until and until < total else None  # 0: nothing was decided, somebody else asked for it
        running.task = replace(running.task, attempt=attempt, until=until, rested=rested)
        return running

    def _submit(self, running: RunningTrial) -> None:
        self._attempts[running.number] = running.task.attempt
        super()._submit(running)

    def _resumed(self, running: RunningTrial, event: Resumed) -> None:
        """Record epochs that only the checkpoint knows: a power cut may take the last second of the study alone."""
        for epoch in event.history:
            running.reported |= {running.report(epoch, self.metric)}

    def _goes_on(self, running: RunningTrial, epoch: int) -> bool:
        if epoch >= (running.task.until or running.task.recipe["train"]["epochs"]) or epoch < max(
            running.reported, default=0
        ):
            return True
        return self.params.timeout is None or self.clock.seconds() < self.params.timeout

    def _end(self, running: RunningTrial, ended: Ended) -> bool:
        if ended.how != "rested":
            return super()._end(running, ended)
        for line in ended.notes:
            self._note(line)
        running.log(ended.history)
        self._costs.learn(running.trial, ended.costs)
        at = [one.until for one in self.decisions if one.trial == running.number and one.until]
        running.trial.set_user_attr(decided.RESTED, [epoch for epoch in at if epoch <= len(running.history)])
        running.leave()  # written last: it makes the trial one that rests
        del self.running[running.number]
        for watcher in self.watchers:
            watcher.rested(running.frozen, running.history)
        return False

    def _let_go(self, frozen: FrozenTrial) -> None:
        """End a trial that rests: it is pruned, or complete where what it has trained is a whole training."""
        running = self._again(frozen)
        self.running[running.number] = running
        self._finish(running, whole=False)

    def _close(self) -> None:
        """End every trial that rests: nothing more is to be trained."""
        super()._close()
        trials = self._trials()
        for number in self._resting(trials):
            self._let_go(trials[number])

    def _end_when_nothing_works(self) -> None:
        if not self.params.deterministic:  # which trial of a batch failed first is chance
            self._check_failures()

    def _fail(self, running: RunningTrial, ended: Ended) -> bool:
        self._failed.add(running.number)
        return super()._fail(running, ended)

    def _check_failures(self) -> None:
        """Raise PodiumError where too many trials in a row failed; one that rested before did not, then.

        And where as many failed later, at epochs beyond which no trial has got: each new one that rests breaks a row.
        """
        row: list[FrozenTrial] = []
        own = [trial for trial in self._trials() if is_own(trial)]
        for trial in reversed(own):
            if trial.state == TrialState.FAIL and decided.RESTED not in trial.user_attrs:
                row.insert(0, trial)
            elif trial.state.is_finished() or trained(trial):
                break
        if len(row) >= self.params.max_failures:
            raise search_errors.all_failed(row, self.params.max_failures)
        furthest = max((trained(trial) for trial in own if trial.state != TrialState.FAIL), default=0)
        stuck = [trial for trial in own if trial.number in self._failed and trained(trial) >= furthest > 0]
        if len(stuck) >= self.params.max_failures:
            raise search_errors.none_gets_further(stuck, max(map(trained, stuck)), self.params.max_failures)
