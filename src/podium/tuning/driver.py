"""The driver: it alone calls ask and tell of the study. Workers only train, and all pools look the same to it.

A trial's life: ask, hand to a worker, judge each reported epoch, tell. A trial that was running when the driver
died is resumed under its own number, from its checkpoint, before anything new is asked; after that where its workers
died too often (`search_errors`). One whose worker died or is broken is handed to the next free worker.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.components import Choice
from podium.config import limits
from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.metrics.scores import carried
from podium.text import counted
from podium.tracking.run_names import PEAK_MEMORY
from podium.tuning import feasibility, search_errors
from podium.tuning import study as studies
from podium.tuning.budget import Budget, Clock
from podium.tuning.ending import ending_of
from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.optuna_private import unjudged
from podium.tuning.pools import Pool
from podium.tuning.search_errors import ASIDE
from podium.tuning.shared_epochs import BEST
from podium.tuning.trial import RunningTrial, Watcher, configure

TICK = 0.2
"""Seconds the driver waits for its workers before it looks at the clock and its signals again."""
FILL_FOR = 1.0
"""Seconds for which the driver hands out one trial after another before it looks at what workers have sent."""
STOPPED = "stopped_by_sampler"
"""User attribute of a study whose sampler has stopped it."""
UNUSABLE = 10
"""So many workers in a row that could not begin a trial, while no other trial got on, end the search."""
LATE = 5.0
"""Seconds after search.timeout, besides an epoch, in which workers have to end their trials: then they are killed."""
GRACE_PERIOD = 10.0
"""Seconds in which workers have to save their trials when the search pauses."""


class Driver:
    """Runs trials of one study until its budget is spent."""

    def __init__(
        self,
        study: optuna.Study,
        pool: Pool,
        params: SearchParams,
        runtime: RuntimeParams,
        base: Recipe,
        checkpoints: Path,
        watchers: list[Watcher],
        stopping: Callable[[], bool] = lambda: False,
        metrics: Sequence[Choice] = (),
        began: float | None = None,
    ) -> None:
        """`metrics`: what every epoch has besides search.metric; `began`: when the session did (time.monotonic)."""
        self.study = study
        self.pool = pool
        self.params = params
        self.runtime = runtime
        self.base = base
        self.budget = Budget.of(params)
        self.checkpoints = checkpoints
        self.watchers = watchers
        self.stopping = stopping
        self.running: dict[int, RunningTrial] = {}
        """The trials that are with a worker."""
        self._waiting: list[RunningTrial] = []
        """Trials whose workers were lost and that need another one."""
        self._aside: list[tuple[RunningTrial, Ended]] = []
        """Trials whose workers died too often while nothing else got on, and how each fails once something does."""
        self._signs = 0
        """Epochs and ends that workers have sent: signs that one works."""
        self._first: dict[int, int] = {}
        """How many there were when a trial was handed out first, by its number."""
        self.aims = params.aims
        self.metric = self.aims[0].key
        self._unusable = 0
        """How many workers in a row could not begin a trial."""
        decides = [*params.metrics, *(one for one in limits.metrics_of(params.limits) if one not in params.metrics)]
        self._metric, *self._more = (carried(one).model_dump() for one in decides)
        self._logged = [carried(one).model_dump() for one in metrics if one not in decides]
        self._costs = feasibility.Costs(study, params)
        self._pausing = False
        self.clock = Clock(study, began)
        self._filling = 0.0
        """When the driver began to hand out trials, the last time."""
        vars(study)["stop"] = self._stop  # Optuna's own works within Study.optimize only

    def _stop(self) -> None:
        """A sampler has nothing more to suggest, as GridSampler after its last point: the study stays ended."""
        if self.study.user_attrs.get(STOPPED):
            return
        self.study.set_user_attr(STOPPED, True)
        self._note(f"search.sampler: {self.params.sampler.name} has no further suggestion: no further trial begins")

    def run(self) -> bool:
        """Run what is missing of the budget. Returns False where a signal ended it early: its trials are saved.

        Raises PodiumError where too many trials in a row failed, or no worker can begin one.
        """
        left_running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        unfinished = sorted(left_running, key=lambda t: (ASIDE in t.user_attrs, t.number))
        try:
            while not self.stopping():
                self.clock.save(now=False)
                self._filling = time.monotonic()
                self._hand_on()
                self._fill(unfinished)
                if not self.running:
                    self._fail_aside()
                    self._end_workerless(unfinished)
                    self._close()
                    return True
                if self._handle_events():
                    self._end_when_nothing_works()
                self._end_late()
        except PodiumError:
            self._pause()
            raise
        self._pause()
        return False

    def _end_workerless(self, unfinished: list[FrozenTrial]) -> None:
        """End trials that no worker is left for: all were killed well after search.timeout."""
        for running in self._workerless() + [self._again(frozen) for frozen in unfinished]:
            self.running[running.number] = running
            self._finish(running, whole=running.is_whole)

    def _workerless(self) -> list[RunningTrial]:
        return self._waiting

    def _close(self) -> None:
        """What else is to do when the budget is spent."""
        self.clock.save()  # also of a session in which no trial ended: the time may be what was spent

    def _hand_on(self) -> None:
        """Give free workers the trials of lost ones, which may have to wait: a place that was given up has no other."""
        while self._is_worker_free() and self._waiting:
            self._submit(self._waiting.pop(0))

    def _fill(self, unfinished: list[FrozenTrial]) -> None:
        """Give every free worker a trial: those that were left running, new ones, those that were set aside."""
        while self._is_worker_free() and unfinished and ASIDE not in unfinished[0].user_attrs:
            self._submit(self._left_running(unfinished.pop(0)))
        while self._is_worker_free() and not self._spent():
            self._submit(self._prepare(studies.ask(self.study, self.params)))
        while self._is_worker_free() and unfinished:
            self._submit(self._left_running(unfinished.pop(0)))

    def _is_worker_free(self) -> bool:
        """Whether a trial can be handed out now. Workers that wait for an answer come first: on a busy machine each of
        64 may take seconds to start.
        """
        in_time = not self.running or time.monotonic() - self._filling < FILL_FOR
        return len(self.running) < self.pool.capacity and in_time

    def _spent(self) -> str:
        if self.study.user_attrs.get(STOPPED):
            return "search.sampler: it has nothing more to suggest"
        return self.budget.spent(self.study.get_trials(deepcopy=False), self.study.directions, self.clock.seconds())

    def _submit(self, running: RunningTrial) -> None:
        self.running[running.number] = running
        self._first.setdefault(running.number, self._signs)
        left = None if self.params.timeout is None else self.params.timeout - self.clock.seconds()
        if left is not None and left <= 0 and len(running.history) >= max(running.reported, default=0):
            self._finish(running, whole=running.is_whole)  # a worker would start for nothing
        else:
            self.pool.submit(running.within(left))

    def _end_late(self) -> None:
        """End the trials of workers that have not ended them by themselves well after search.timeout: one may hang
        wherever it is, or be loading still.
        """
        late = 0.0 if self.params.timeout is None else self.clock.seconds() - self.params.timeout
        ended = [one for one in self.running.values() if late >= LATE + 1.5 * one.longest_epoch] if late > 0 else []
        if not ended:
            return
        self.pool.abandon([one.number for one in ended])
        many = f"{counted(len(ended), 'worker')} still busy {late:.0f} s after search.timeout: killed"
        self._note(f"{many} (trials {', '.join(str(one.number) for one in ended)})")
        for running in ended:
            self._finish(running, whole=running.is_whole)

    def _prepare(self, trial: optuna.Trial, reported: frozenset[int] = frozenset()) -> RunningTrial:
        """`trial` with its configuration, ready for a worker."""
        number = trial.number
        recipe, seed = configure(trial, self.params, self.base)
        path, calibrate = self.checkpoints / f"{number:06d}.ckpt", trial.user_attrs.get("calibrate", False)
        every, share = self.runtime.checkpoint_seconds, self.runtime.checkpoint_share
        limit, held_out = self.params.trial_timeout, trial.user_attrs.get("held_out", [])
        about = number, 1, seed, recipe.resolved(), str(path), every, limit, calibrate
        costs, measured = self._costs.of(trial)
        task = Task(
            *(*about, self._metric, self._more, held_out, *costs),
            checkpoint_share=share,
            compiles=self.params.compile,
            measured=measured,
            logged=self._logged,
        )
        return RunningTrial(self.study, trial, task, reported)

    def _left_running(self, frozen: FrozenTrial) -> RunningTrial:
        self._note(f"trial {frozen.number} was left running and resumes")
        return self._again(frozen)

    def _again(self, frozen: FrozenTrial) -> RunningTrial:
        """A trial that has trained before."""
        trial = studies.resume_trial(self.study, self.params, frozen)
        running = self._prepare(trial, frozenset(frozen.intermediate_values))
        running.log(frozen.user_attrs.get("history", []))
        return running

    def _handle_events(self) -> bool:
        """Act on what workers sent. Returns whether a trial failed."""
        failed = False
        for event in self.pool.events(TICK):
            running = self.running.get(event.number)
            if running is None or running.task.attempt != event.attempt:
                continue  # from a worker that was given up
            if not isinstance(event, Lost):
                self._unusable = 0
            if isinstance(event, Report | Ended) and not self._pausing:
                self._signs += 1
                failed = self._fail_aside() or failed
            if isinstance(event, Report):
                self._judge(running, event)
            elif isinstance(event, Resumed):
                self._resumed(running, event)
            elif isinstance(event, Ended):
                failed = self._end(running, event) or failed
            else:
                failed = self._restart(running, event) or failed
        return failed

    def _resumed(self, running: RunningTrial, event: Resumed) -> None:
        """A worker has found a trial's checkpoint, and what epochs it is of."""
        running.log(event.history)

    def _judge(self, running: RunningTrial, report: Report) -> None:
        """Record an epoch, and let the trial continue or prune it."""
        epoch = running.report(report.epoch, self.metric if len(self.aims) == 1 else None, report.earlier)
        self.pool.answer(report, self._goes_on(running, epoch))
        frozen, history = running.frozen, running.history
        for watcher in self.watchers:
            watcher.running(frozen, history)

    def _goes_on(self, running: RunningTrial, epoch: int) -> bool:
        if epoch >= running.task.recipe["train"]["epochs"] or epoch < max(running.reported, default=0):
            return True
        out_of_time = self.params.timeout is not None and self.clock.seconds() >= self.params.timeout
        return not out_of_time and not self._is_pruned(running)

    def _is_pruned(self, running: RunningTrial) -> bool:
        study, trial = unjudged(self.study, running.frozen, running.reported)
        return bool(study.pruner.prune(self._compared(study, trial.number), trial))

    def _compared(self, study: optuna.Study, number: int) -> optuna.Study:
        """What of `study` trial `number` is compared with."""
        return study

    def _end(self, running: RunningTrial, ended: Ended) -> bool:
        """Record what became of a trial. Returns whether it failed."""
        for line in ended.notes:
            self._note(line)
        running.log(ended.history)
        self._costs.learn(running.trial, ended.costs)
        if ended.how == "interrupted":
            return self._restart(running, Lost(ended.number, ended.attempt, "its worker was stopped"))
        if ended.peak_memory is not None:
            running.trial.set_user_attr(PEAK_MEMORY, round(ended.peak_memory / 1e6, 1))
        if ended.how == "failed":
            return self._fail(running, ended)
        if ended.measured:
            running.trial.set_user_attr(feasibility.MEASURED, ended.measured)
        if ended.temperature is not None:
            running.trial.set_user_attr("temperature", ended.temperature)
        return self._finish(running, whole=ended.how == "finished")

    def _finish(self, running: RunningTrial, *, whole: bool) -> bool:
        """Record the result of a trial that trains no further; `whole`: its last epoch has ended.

        Returns whether it failed: it did where its result lacks what search.limits looks at.
        """
        recipe = Recipe.model_validate(running.task.recipe)
        direction = self.study.directions[0]
        found = ending_of(running.frozen, recipe, running.history, self.params, direction, whole=whole)
        if found.epoch is None:
            feasibility.record(running.trial, limits.of_costs(self.params.limits), found.figures)
            self._tell(running, TrialState.PRUNED)
            return False
        if found.shared:
            running.trial.set_user_attr(BEST, found.epoch)
        if found.problem:
            return self._fail(running, Ended(running.number, running.task.attempt, "failed", reason=found.problem))
        feasibility.record(running.trial, self.params.limits, found.figures)
        self._tell(running, TrialState.COMPLETE, found.values[0] if len(self.aims) == 1 else found.values)
        return False

    def _restart(self, running: RunningTrial, lost: Lost) -> bool:
        """Have the trial of a lost worker handed to another one, from its checkpoint; a bounded number of times.

        It stays the same trial: neither the budget nor `search.max_failures` counts the attempts. Returns whether there
        were too many, so that it failed.
        """
        if self._pausing or self.stopping():
            self._leave(running)
            return False
        if not lost.charged:
            self._check_any_can_begin(running, lost)
        elif running.restarts >= self.runtime.max_restarts:
            reason = f"{lost.reason}, {running.restarts + 1} times (runtime.max_restarts {self.runtime.max_restarts})"
            return self._fail_unless_nothing_works(running, Ended(lost.number, lost.attempt, "failed", reason=reason))
        self._note(f"trial {lost.number}: {lost.reason}; it resumes from its last checkpoint")
        del self.running[lost.number]
        self._waiting.append(running.next_attempt(charged=lost.charged))
        return False

    def _check_any_can_begin(self, running: RunningTrial, lost: Lost) -> None:
        """Raise PodiumError where one worker after the other can't begin. Its trials stay as they are."""
        self._unusable += 1
        if self._unusable >= UNUSABLE:
            self._leave(running)
            raise search_errors.no_worker_begins(self._unusable, lost)

    def _fail_unless_nothing_works(self, running: RunningTrial, ended: Ended) -> bool:
        """Fail a trial whose workers died too often; not yet where nothing has got on since it was first handed out:
        every device may have gone, unless that was so in an earlier session too. Returns whether it failed.

        Raises PodiumError where as many trials as search.max_failures wait for that. They stay as they are.
        """
        again, got_on = ASIDE in running.frozen.user_attrs, self._first[running.number] != self._signs
        if self.params.deterministic or got_on or again:
            return self._fail(running, ended)
        del self.running[running.number]
        self._aside.append((running, ended))
        running.trial.set_user_attr(ASIDE, True)
        if len(self._aside) >= self.params.max_failures:
            raise search_errors.no_worker_survives([failed for _, failed in self._aside])
        return False

    def _fail_aside(self) -> bool:
        """Fail the trials whose failure waited for a sign that something works. Returns whether there were any."""
        aside, self._aside = self._aside, []
        for running, ended in aside:
            self.running[running.number] = running
            self._fail(running, ended)
        return bool(aside)

    def _fail(self, running: RunningTrial, ended: Ended) -> bool:
        running.fail(ended)
        self._note(f"trial {running.number} failed: {ended.reason}")
        self._tell(running, TrialState.FAIL)
        return True

    def _end_when_nothing_works(self) -> None:
        if row := self.budget.failures(self.study.get_trials(deepcopy=False)):
            raise search_errors.all_failed(row, self.params.max_failures)

    def _tell(self, running: RunningTrial, state: TrialState, value: float | Sequence[float] | None = None) -> None:
        frozen = running.tell(state, value)
        self.clock.save()
        del self.running[running.number]
        for watcher in self.watchers:
            watcher.ended(frozen)

    def _pause(self) -> None:
        """Have the running trials saved: each ends as interrupted, or as what it just became."""
        self._pausing = True
        deadline = time.monotonic() + GRACE_PERIOD
        while self.running and time.monotonic() < deadline:
            self.pool.pause()  # again and again: a worker that is just starting does not receive it yet
            self._handle_events()
        for running in [*self.running.values(), *self._waiting, *(one for one, _ in self._aside)]:
            self._leave(running)
        self.clock.save()

    def _leave(self, running: RunningTrial) -> None:
        self.running.pop(running.number, None)
        running.leave()

    def _note(self, line: str) -> None:
        for watcher in self.watchers:
            watcher.note(line)
