"""A worker's part of the search: train a trial, report each epoch, stop on request. No Optuna, no MLflow here."""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

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
from podium.own_code import RAISED, blame
from podium.training import checkpoint
from podium.training.batches import Batches, fits
from podium.training.device import release
from podium.training.epochs import Epoch
from podium.training.footprint import forget_peak, peak
from podium.training.loop import DivergedError, TrainingRun
from podium.training.memory_errors import out_of_memory
from podium.training.prediction import temperature_of
from podium.training.program import training
from podium.training.saver import Saver
from podium.training.streaming import Mapped
from podium.tuning.messages import Ended, Report, Resumed, Task


class StopTrial(BaseException):
    """The driver wants no more of this trial."""

    ENDS: ClassVar[Literal["stopped"]] = "stopped"


class RestTrial(BaseException):
    """The trial has come as far as it was to come for now, and is saved.

    An own training loop saves after it has reported: it leaves there, and `after_save` writes that.
    """

    ENDS: ClassVar[Literal["rested"]] = "rested"

    def __init__(self, after_save: Callable[[Any], None]) -> None:
        super().__init__()
        self.after_save = after_save


class PauseTrial(BaseException):
    """The trial is saved and can be resumed."""

    ENDS: ClassVar[Literal["interrupted"]] = "interrupted"


@dataclass(frozen=True)
class TrialData:
    """What every trial of a search shares: the images, held once."""

    train: Batches
    val: Batches
    images: ImageSpec
    device: torch.device

    @staticmethod
    def load(prepared: Path, device: torch.device, share: int | None = None) -> "TrialData":
        """The training and validation images of data/prepared, on `device`, of whose memory `share` bytes are ours."""
        info = DatasetInfo.read(prepared)
        return TrialData.of(info, open_split(prepared / "train"), open_split(prepared / "val"), device, share)

    @staticmethod
    def of(info: DatasetInfo, train: Split, val: Split, device: torch.device, share: int | None = None) -> "TrialData":
        """The images of splits that are open already, on `device`. Both are there whole, or both are streamed."""
        images = ImageSpec.of(info)
        resident = fits(train.images.nbytes + val.images.nbytes, device, 1, share)
        of = Batches.of if resident else Batches.mapped
        return TrialData(of([train], device), of([val], device), images, device)

    @cached_property
    def both(self) -> Batches:
        """The training and the validation images, one after the other. Raises InputError where they do not fit."""
        parts = self.train.images, self.val.images
        digest = f"{self.train.digest} {self.val.digest}"
        labels = torch.cat([self.train.labels, self.val.labels])
        if isinstance(parts[0], Tensor) and isinstance(parts[1], Tensor):
            return Batches(torch.cat([parts[0], parts[1]]), labels, digest)
        if any(isinstance(part, Mapped) and not part.fits for part in parts):
            count = len(self.train) + len(self.val)
            raise InputError(
                f"folds (select.folds, podium relabel) need all {count:,} images of train and val"
                " in memory, and the device has too little: set select.folds: 0, or a smaller prepare.size"
            )
        files = [one for part in parts for one in (part.parts if isinstance(part, Mapped) else [part])]
        return Batches(Mapped(files, self.device, fits=True), labels, digest)

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
    knows_peak = forget_peak(trial_data.device)
    parts = 1
    while True:
        ended = _attempt(task, trial_data, report, pausing, saved, resumed, parts)
        if not isinstance(ended, _TooLarge):
            if ended.how == "failed":
                _free(trial_data.device)
            return replace(ended, peak_memory=peak(trial_data.device) if knows_peak else None)
        parts = ended.parts
        _free(trial_data.device)


@dataclass(frozen=True)
class _TooLarge:
    """The first steps did not fit into the memory; nothing of them is left or was reported."""

    parts: int
    """Into how many parts each batch is to be divided instead."""


def _costs_of(task: Task, trial_data: TrialData) -> dict[str, float]:
    """What the configuration alone costs, as far as a limit or a metric asks for it."""
    wanted = list(dict.fromkeys([*task.limits, *task.measured]))
    return task.costs or costs(Recipe.model_validate(task.recipe).model, trial_data.images, wanted)


def _after_epoch(task: Task, saving: "_Checkpointer", report: Callable[[Report], bool], run: TrainingRun) -> None:
    """Report the epoch. Raises StopTrial or RestTrial where the trial is to end with it."""
    rests = task.until is not None and run.epoch >= task.until
    if rests:
        run.metrics.complete(run.history, run.notes)
        saving.before_rest(run)
    earlier, run.metrics.completed = run.metrics.completed, []
    if not report(Report(task.number, task.attempt, run.history[-1], earlier)):
        raise StopTrial
    if rests:
        raise RestTrial(saving.saver.save_now)
    saving.after_epoch(run)


def _attempt(
    task: Task,
    trial_data: TrialData,
    report: Callable[[Report], bool],
    pausing: Callable[[], bool],
    saved: Callable[[], None],
    resumed: Callable[[Resumed], None],
    parts: int,
) -> Ended | _TooLarge:
    notes: list[str] = []
    run: TrainingRun | None = None
    checkpointer: _Checkpointer | None = None
    begun = 0
    how = partial(Ended, task.number, task.attempt, notes=notes)
    try:
        known = _costs_of(task, trial_data)
        how = partial(how, costs=known)
        if any(beyond > 0 for beyond in excess(task.limits, known).values()):
            return how("infeasible")
        run = _open(task, trial_data, notes, parts)
        begun = run.epoch
        if run.history:
            resumed(Resumed(task.number, task.attempt, list(run.history)))
        checkpointer = saving = _Checkpointer(task, pausing, saved, run, notes)

        on_epoch = partial(_after_epoch, task, saving, report)
        if task.until is not None and run.epoch >= task.until:
            on_epoch(run)  # its worker or its driver died between the save and the report
        train, val = trial_data.divided(task.held_out)
        run.train(train, val, saving.after_step, on_epoch)
        temperature = temperature_of(run.result, val, run.fast) if task.calibrate else None
        _tell(task, run, notes)
        return how("finished", run.history, temperature=temperature, measured=run.measured)
    except (StopTrial, RestTrial, PauseTrial) as error:
        return how(error.ENDS, _history(run, notes))
    except (DivergedError, TimeoutError) as error:
        return how("failed", _history(run, notes), str(error), diverged=isinstance(error, DivergedError))
    except RAISED as error:
        too_large = _out_of_memory(error)
        if too_large and (run is None or run.epoch == begun) and (more := _more_parts(task, run, parts)):
            return _TooLarge(more)
        suspicious = not isinstance(error, InputError | SystemExit)
        return how(
            "failed", _history(run, notes), too_large or _reason(error), traceback.format_exc(), suspicious=suspicious
        )
    finally:
        if checkpointer is not None:
            checkpointer.saver.close()  # nothing may write to its checkpoint from now on


def _more_parts(task: Task, run: TrainingRun | None, parts: int) -> int:
    """Into how many parts a batch is divided next, after `parts` where there is no run yet; 0: it can't be."""
    parts = parts if run is None else run.parts
    return 2 * parts if parts < Recipe.model_validate(task.recipe).train.batch_size // 2 else 0


def _history(run: TrainingRun | None, notes: list[str]) -> list[Epoch]:
    """The epochs of `run`, as far as their metrics can be had; `notes` says why some can't."""
    if run is None:
        return []
    try:
        run.metrics.complete(run.history, run.notes)
    except RAISED as error:  # the trial has ended for another reason already
        notes.append(f"metrics of epochs that waited are missing: {_out_of_memory(error) or _reason(error)}")
    return run.history


def _reason(error: BaseException) -> str:
    """What went wrong: a sentence of ours, or the line of people's own code where it arose."""
    return str(error) if isinstance(error, InputError) else blame(error)


def component_of(metric: Any) -> Metric:
    """A metric as a task has it."""
    return scores.of(SearchParams.model_validate({"metric": metric}).metrics[0])


def _open(task: Task, trial_data: TrialData, notes: list[str], parts: int) -> TrainingRun:
    recipe = Recipe.model_validate(task.recipe)
    metric, *more = (component_of(one) for one in [task.metric, *task.more])
    logged = [component_of(one) for one in task.logged]
    run = training(recipe, trial_data.images, task.seed, trial_data.device, metric, more, logged)
    run.fit_into_memory(least=parts)
    state = None
    try:
        state = checkpoint.load(Path(task.checkpoint), task.identity)
        if state is not None:
            run.restore(state)
    except checkpoint.TornCheckpointError as error:
        notes.append(f"trial {task.number} starts again: {error}")
        state = None
    if task.compiles and (state is None or task.rested) and recipe.train.program is None:
        run.compile_where_it_pays(len(trial_data.divided(task.held_out)[0]), task.until)
    if task.rested and state is not None and not run.epoch and recipe.train.program is not None:
        notes.append(
            f"trial {task.number} trains its first {task.rested} epochs again: its own training loop saves nothing"
            " (run.save)"
        )
    elif state is not None and (run.epoch, run.step) != (task.rested, 0):
        notes.append(f"trial {task.number} resumes from epoch {run.epoch}, step {run.step}")
    elif state is None and task.rested:
        notes.append(f"trial {task.number} trains its first {task.rested} epochs again: its checkpoint is gone")
    _tell(task, run, notes)  # here, however it ends
    return run


def _tell(task: Task, run: TrainingRun, notes: list[str]) -> None:
    """Add to `notes` what `run` has noted since."""
    notes += [told for note in run.notes if (told := f"trial {task.number}: {note}") not in notes]


class _Checkpointer:
    """Saves a trial now and then, and at once when the search is about to pause.

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
        self.notes = notes
        path, every, share = Path(task.checkpoint), task.checkpoint_seconds, task.checkpoint_share
        self.saver = Saver(path, task.identity, every, share, on_save, self._note)
        self.begun = time.monotonic()
        self.at = (run.epoch, run.step)
        """The epochs and steps that the checkpoint had when this worker began."""
        # The trial's own time: what it took before it was interrupted counts.
        self.started = self.begun - run.seconds - sum(epoch["seconds"] for epoch in run.history)

    def after_step(self, run: TrainingRun) -> None:
        if self.pausing():
            self.saver.save_now(run)
            raise PauseTrial
        self.after_epoch(run)
        now = time.monotonic()
        if self.task.stop_after is not None and now - self.begun >= self.task.stop_after:
            raise StopTrial
        limit = self.task.timeout
        if limit is not None and now - self.started > limit:
            raise TimeoutError(f"search.trial_timeout: {limit:g} s passed in epoch {run.epoch + 1}")

    def before_rest(self, run: TrainingRun) -> None:
        """Save the trial, unless it came from this very point; before the report, so that who hears of it has it."""
        if (run.epoch, run.step) != self.at:
            self.saver.save_now(run)

    def after_epoch(self, run: TrainingRun) -> None:
        if self.saver.is_due(run):
            self.saver.save(run)

    def _note(self, error: OSError) -> None:
        note = f"trial {self.task.number} continues without checkpoints: {self.task.checkpoint}: {error.strerror}"
        if note not in self.notes:
            self.notes.append(note)


def _out_of_memory(error: BaseException) -> str:
    """The reason where the machine or its device has no more memory."""
    return f"out of memory: {error}" if out_of_memory(error) else ""


def _free(device: torch.device) -> None:
    """Give back what an ended trial held: networks and optimizers refer to each other, and wait for the collector."""
    gc.collect()
    release(device)
