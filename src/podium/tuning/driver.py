"""The driver: it alone asks and tells the study. Workers only train, and every pool of workers looks the same to it.

A trial's life: ask, hand to a worker, judge each reported epoch, tell. A trial that was running when the driver
died is taken up again under its own number, from its checkpoint, before anything new is asked.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.training.seeds import derive
from podium.tuning import study as studies
from podium.tuning.budget import Budget
from podium.tuning.budget import Clock
from podium.tuning.live import Live, Watcher
from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.pools import Pool
from podium.tuning.rungs import unjudged
from podium.tuning.space import suggest

TICK = 0.2
"""Seconds the driver waits for its workers before it looks at the clock and its signals again."""
LAST_WORDS = 10.0
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
    ) -> None:
        self.study = study
        self.pool = pool
        self.params = params
        self.runtime = runtime
        self.base = base
        self.budget = Budget.of(params)
        self.checkpoints = checkpoints
        self.watchers = watchers
        self.stopping = stopping
        self.live: dict[int, Live] = {}
        self.metric = "val_" + params.metric
        self._pausing = False
        self.clock = Clock(study)

    def run(self) -> bool:
        """Run what is missing of the budget. Returns False where a signal ended it early: its trials are saved.

        Raises PodiumError where too many trials in a row failed.
        """
        left_running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        unfinished = sorted(left_running, key=lambda t: t.number)
        try:
            while not self.stopping():
                self.clock.keep(now=False)
                self._fill(unfinished)
                if not self.live:
                    return True
                if self._handle_events():
                    self._end_when_nothing_works()
        except PodiumError:
            self._pause()
            raise
        self._pause()
        return False

    def _fill(self, unfinished: list[FrozenTrial]) -> None:
        """Give every free worker a trial: first those that were left running, then new ones."""
        while len(self.live) < self.pool.capacity and unfinished:
            self._submit(self._left_running(unfinished.pop(0)))
        while len(self.live) < self.pool.capacity and not self._spent():
            self._submit(self._prepare(studies.ask(self.study, self.params)))

    def _spent(self) -> str:
        return self.budget.spent(self.study.get_trials(deepcopy=False), self.study.direction, self.clock.seconds())

    def _submit(self, live: Live) -> None:
        self.live[live.task.number] = live
        self.pool.submit(live.task)

    def _prepare(self, trial: optuna.Trial, reported: frozenset[int] = frozenset()) -> Live:
        """`trial` with its configuration, ready for a worker."""
        number = trial.number
        recipe, seed = self._configuration(trial)
        path, calibrate = self.checkpoints / f"{number:06d}.ckpt", trial.user_attrs.get("calibrate", False)
        every, limit = self.runtime.checkpoint_seconds, self.params.trial_timeout
        task = Task(number, 1, seed, recipe.model_dump(), str(path), every, limit, calibrate)
        return Live(trial, task, reported)

    def _configuration(self, trial: optuna.Trial) -> tuple[Recipe, int]:
        """What a trial trains, on which seed: as recorded with it, or asked for now and recorded."""
        recorded = trial.user_attrs
        if "recipe" in recorded and "seed" in recorded:
            return self.base.replace(recorded["recipe"]), int(recorded["seed"])
        recipe = suggest(trial, self.params.space, self.base)
        seed = derive(self.params.seed, "trial", trial.number)
        trial.set_user_attr("seed", seed)
        trial.set_user_attr("recipe", recipe.flat())
        return recipe, seed

    def _left_running(self, frozen: FrozenTrial) -> Live:
        self._note(f"trial {frozen.number} was left running and goes on")
        trial = studies.take_up(self.study, self.params, frozen)
        live = self._prepare(trial, frozenset(frozen.intermediate_values))
        live.hear(frozen.user_attrs.get("history", []))
        return live

    def _handle_events(self) -> bool:
        """Act on what workers sent. Returns whether a trial failed."""
        failed = False
        for event in self.pool.events(TICK):
            live = self.live.get(event.number)
            if live is None or live.task.attempt != event.attempt:
                continue  # from a worker that was given up
            if isinstance(event, Report):
                self._judge(live, event)
            elif isinstance(event, Resumed):
                live.hear(event.history)
            elif isinstance(event, Ended):
                self._end(live, event)
            else:
                self._restart(live, event)
            ended = isinstance(event, Ended | Lost)
            failed = failed or (ended and self._frozen(live).state == TrialState.FAIL)
        return failed

    def _judge(self, live: Live, report: Report) -> None:
        """Record an epoch, and let the trial go on or prune it."""
        epoch = int(report.epoch["epoch"])
        live.hear([report.epoch])
        if epoch not in live.reported:
            live.trial.report(report.epoch[self.metric], epoch)
        self.pool.answer(report, self._goes_on(live, epoch))
        frozen, history = self._frozen(live), live.history
        for watcher in self.watchers:
            watcher.running(frozen, history)

    def _goes_on(self, live: Live, epoch: int) -> bool:
        if epoch >= live.task.recipe["train"]["epochs"] or epoch < max(live.reported, default=0):
            return True
        out_of_time = self.params.timeout is not None and self.clock.seconds() >= self.params.timeout
        return not out_of_time and not self._is_pruned(live)

    def _is_pruned(self, live: Live) -> bool:
        study, trial = unjudged(self.study, self._frozen(live), live.reported)
        return bool(study.pruner.prune(self._compared(study, trial.number), trial))

    def _compared(self, study: optuna.Study, number: int) -> optuna.Study:
        """What of `study` trial `number` is compared with."""
        return study

    def _end(self, live: Live, ended: Ended) -> None:
        for line in ended.notes:
            self._note(line)
        live.hear(ended.history)
        if ended.how == "interrupted":
            self._restart(live, Lost(ended.number, ended.attempt, "its worker was told to stop"))
        elif ended.how == "failed":
            if ended.diverged:
                live.trial.set_user_attr("diverged", True)
            self._fail(live, ended.reason, ended.trace)
        elif ended.how == "stopped":
            self._tell(live, TrialState.PRUNED)
        else:
            if ended.temperature is not None:
                live.trial.set_user_attr("temperature", ended.temperature)
            self._tell(live, TrialState.COMPLETE, live.history[-1][self.metric])

    def _restart(self, live: Live, lost: Lost) -> None:
        """Hand the trial of a lost worker to another one, from its checkpoint; a bounded number of times."""
        number = lost.number
        if self._pausing or self.stopping():
            self._leave(live)
            return
        if lost.attempt > self.runtime.max_restarts:
            self._fail(live, f"{lost.reason}, {lost.attempt} times (runtime.max_restarts {self.runtime.max_restarts})")
            return
        self._note(f"trial {number}: {lost.reason}; it goes on from its last checkpoint")
        task = replace(live.task, attempt=lost.attempt + 1)
        self.live[number] = Live(live.trial, task, live.reported | frozenset(live.epochs), live.epochs)
        self.pool.submit(task)

    def _fail(self, live: Live, reason: str, trace: str = "") -> None:
        live.trial.set_user_attr("reason", reason)
        if trace:
            live.trial.set_user_attr("traceback", trace)
        self._note(f"trial {live.task.number} failed: {reason}")
        self._tell(live, TrialState.FAIL)

    def _end_when_nothing_works(self) -> None:
        row = self.budget.failures(self.study.get_trials(deepcopy=False))
        if row:
            first = row[0].user_attrs.get("reason", "no reason was recorded")
            raise PodiumError(
                f"the last {len(row)} trials all failed (search.max_failures {self.params.max_failures});"
                f" the first of them, trial {row[0].number}, because: {first}"
            )

    def _tell(self, live: Live, state: TrialState, value: float | None = None) -> None:
        live.trial.set_user_attr("history", live.history)
        self.study.tell(live.trial, value, state=state)
        self.clock.keep()
        del self.live[live.task.number]
        Path(live.task.checkpoint).unlink(missing_ok=True)
        frozen = self._frozen(live)
        for watcher in self.watchers:
            watcher.ended(frozen)

    def _pause(self) -> None:
        """Have the running trials saved: each ends as interrupted, or as what it just became."""
        self._pausing = True
        deadline = time.monotonic() + LAST_WORDS
        while self.live and time.monotonic() < deadline:
            self.pool.pause()  # again and again: a worker that is just starting does not hear it yet
            self._handle_events()
        for live in list(self.live.values()):
            self._leave(live)
        self.clock.keep()

    def _leave(self, live: Live) -> None:
        """Let a trial stay RUNNING in the study, with what was heard of it: the next session takes it up."""
        del self.live[live.task.number]
        if live.epochs:
            live.trial.set_user_attr("history", live.history)

    def _frozen(self, live: Live) -> FrozenTrial:
        return self.study._storage.get_trial(live.trial._trial_id)

    def _note(self, line: str) -> None:
        for watcher in self.watchers:
            watcher.note(line)
