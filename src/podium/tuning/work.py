"""A worker's part of the search: train a trial, report each epoch, stop on request. No Optuna, no MLflow here."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from podium.config.limits import excess
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.data.dataset import DatasetInfo, Split, open_split
from podium.errors import InputError
from podium.metrics import scores
from podium.metrics.scores import Metric
from podium.models.network_costs import costs
from podium.models.networks import ImageSpec
from podium.own_code import blame
from podium.training import checkpoint
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.loop import DivergedError, TrainingRun
from podium.training.prediction import temperature_of
from podium.training.program import training
from podium.tuning.messages import Ended, Report, Resumed, Task


class StopTrial(BaseException):
    """The driver wants no more of this trial."""


class PauseTrial(BaseException):
    """The trial is saved and can be resumed."""


@dataclass(frozen=True)
class TrialData:
    """What every trial of a search shares: the images, held once."""

    train: Batches
    val: Batches
    images: ImageSpec
    device: torch.device

    @staticmethod
    def load(prepared: Path, device: torch.device) -> "TrialData":
        """The training and validation images of data/prepared, on `device`."""
        info = DatasetInfo.read(prepared)
        return TrialData.of(info, open_split(prepared / "train"), open_split(prepared / "val"), device)

    @staticmethod
    def of(info: DatasetInfo, train: Split, val: Split, device: torch.device) -> "TrialData":
        """The images of splits that are open already, on `device`."""
        images = ImageSpec.of(info)
        return TrialData(Batches.of([train], device), Batches.of([val], device), images, device)

    @cached_property
    def both(self) -> Batches:
        """The training and the validation images, one after the other. Raises InputError where they do not fit."""
        parts = self.train.images, self.val.images
        if not (isinstance(parts[0], Tensor) and isinstance(parts[1], Tensor)):
            raise InputError(
                f"select.folds must be 0: {len(self.train) + len(self.val):,} images don't fit into the device's memory"
            )
        digest = f"{self.train.digest} {self.val.digest}"
        return Batches(torch.cat([parts[0], parts[1]]), torch.cat([self.train.labels, self.val.labels]), digest)

    def divided(self, held_out: list[int]) -> tuple[Batches, Batches]:
        """What is trained on and what judges: the splits, or all but the rows `held_out` of both, and these."""
        if not held_out:
            return self.train, self.val
        judges = torch.zeros(len(self.both), dtype=torch.bool)
        judges[held_out] = True
        train, val = (self.both.taken(torch.nonzero(which)[:, 0]) for which in (~judges, judges))
        return train, val


def run_trial(
    task: Task,
    trial_data: TrialData,
    report: Callable[[Report], bool],
    pausing: Callable[[], bool] = lambda: False,
    saved: Callable[[], None] = lambda: None,
    resumed: Callable[[Resumed], None] = lambda resumed: None,
) -> Ended:
    """Train `task` from its checkpoint or from the start.

    `report` is called with each epoch's end and returns whether to continue. Where `pausing` turns true the trial is
    saved at its next step. `saved` is called whenever the checkpoint has been written, `resumed` where one was found:
    a worker that dies before its next epoch ends has reported the earlier ones. Whatever goes wrong in a trial is its
    own failure and comes back as such.
    """
    notes: list[str] = []
    run: TrainingRun | None = None
    how = partial(Ended, task.number, task.attempt, notes=notes)
    try:
        recipe = Recipe.model_validate(task.recipe)
        known = task.costs or costs(recipe.model, trial_data.images, task.limits)
        how = partial(how, costs=known)
        if any(beyond > 0 for beyond in excess(task.limits, known).values()):
            return how("infeasible")
        run = _open(task, trial_data, notes)
        if run.history:
            resumed(Resumed(task.number, task.attempt, list(run.history)))
        checkpointer = _Checkpointer(task, pausing, saved, run, notes)

        def on_epoch(run: TrainingRun) -> None:
            if not report(Report(task.number, task.attempt, run.history[-1])):
                raise StopTrial
            checkpointer.after_epoch(run)

        train, val = trial_data.divided(task.held_out)
        run.train(train, val, checkpointer.after_step, on_epoch)
        temperature = temperature_of(run.result, val, run.fast) if task.calibrate else None
        notes += [f"trial {task.number}: {note}" for note in run.notes if f"trial {task.number}: {note}" not in notes]
        return how("finished", run.history, temperature=temperature)
    except StopTrial:
        return how("stopped", _history(run))
    except PauseTrial:
        return how("interrupted", _history(run))
    except (DivergedError, TimeoutError) as error:
        return how("failed", _history(run), str(error), diverged=isinstance(error, DivergedError))
    except Exception as error:
        reason = _out_of_memory(error) or _reason(error)
        return how("failed", _history(run), reason, traceback.format_exc())


def _history(run: TrainingRun | None) -> list[Epoch]:
    return [] if run is None else run.history


def _reason(error: Exception) -> str:
    """What went wrong: a sentence of ours, or the line of people's own code where it arose."""
    return str(error) if isinstance(error, InputError) else blame(error)


def component_of(metric: Any) -> Metric:
    """A metric as a task has it."""
    return scores.of(SearchParams.model_validate({"metric": metric}).metric)


def _open(task: Task, trial_data: TrialData, notes: list[str]) -> TrainingRun:
    recipe = Recipe.model_validate(task.recipe)
    metric, *more = (component_of(one) for one in [task.metric, *task.more])
    run = training(recipe, trial_data.images, task.seed, trial_data.device, metric, more)
    notes += [f"trial {task.number}: {note}" for note in run.notes]
    try:
        state = checkpoint.load(Path(task.checkpoint), task.identity)
    except checkpoint.TornCheckpointError as error:
        notes.append(f"trial {task.number} starts again: {error}")
        state = None
    if state is not None:
        run.restore(state)
        notes.append(f"trial {task.number} resumes from epoch {run.epoch}, step {run.step}")
    return run


class _Checkpointer:
    """Saves a trial every few seconds, and at once when the search is about to pause.

    A disk that takes nothing costs a trial its checkpoints, not its life: the configuration is not to blame.
    """

    def __init__(
        self,
        task: Task,
        pausing: Callable[[], bool],
        on_save: Callable[[], None],
        run: TrainingRun,
        notes: list[str],
    ) -> None:
        self.task = task
        self.pausing = pausing
        self.on_save = on_save
        self.notes = notes
        self.saved = time.monotonic()
        # The trial's own time: what it took before it was interrupted counts.
        self.started = self.saved - run.seconds - sum(epoch["seconds"] for epoch in run.history)

    def after_step(self, run: TrainingRun) -> None:
        if self.pausing():
            self._save(run)
            raise PauseTrial
        now = time.monotonic()
        if now - self.saved >= self.task.checkpoint_seconds:
            self._save(run)
        limit = self.task.timeout
        if limit is not None and now - self.started > limit:
            raise TimeoutError(f"search.trial_timeout: {limit:g} s passed in epoch {run.epoch + 1}")

    def after_epoch(self, run: TrainingRun) -> None:
        if run.history[-1]["seconds"] >= self.task.checkpoint_seconds:
            self._save(run)

    def _save(self, run: TrainingRun) -> None:
        try:
            checkpoint.save(Path(self.task.checkpoint), self.task.identity, run.state())
            self.on_save()
        except OSError as error:
            note = f"trial {self.task.number} continues without checkpoints: {self.task.checkpoint}: {error.strerror}"
            if note not in self.notes:
                self.notes.append(note)
        self.saved = time.monotonic()


def _out_of_memory(error: Exception) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return f"out of memory: {error}"
    return ""
