"""The retraining itself: from its checkpoint if there is one, to its end or to a signal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from podium import cluster
from podium.config.params import Params, RuntimeParams
from podium.config.recipe import Recipe
from podium.errors import InterruptedSearchError, PodiumError
from podium.own_code import RAISED
from podium.process import stop_signals
from podium.text import counted
from podium.tracking.retrain_run import RetrainRun
from podium.training import checkpoint, device
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.loop import DivergedError, TrainingRun
from podium.training.precision import auto
from podium.training.saver import Saver

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class Lines:
    """A line now and then where there is no terminal for a bar."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def __call__(self, text: str, *, last: bool) -> None:
        """Print `text` if it is time, or the last."""
        if not sys.stderr.isatty() and (last or time.monotonic() - self._printed >= LINE_EVERY):
            self._printed = time.monotonic()
            print(text, flush=True)


class Checkpointer:
    """Saves the run now and then, and ends it when a signal came."""

    def __init__(self, path: Path, identity: str, runtime: RuntimeParams, received: list[int]) -> None:
        self.saver = Saver(path, identity, runtime.checkpoint_seconds, runtime.checkpoint_share)
        self.received = received

    def after_step(self, run: TrainingRun) -> None:
        """Save where it is time. Raises InterruptedSearchError, the run saved, where a signal came."""
        if self.received:
            self.saver.save_now(run)
            raise InterruptedSearchError(
                f"stopped in epoch {run.epoch + 1} of {run.recipe.train.epochs}, saved; `dvc repro` resumes from here",
                self.received[0],
            )
        self.save_if_due(run)

    def save_if_due(self, run: TrainingRun) -> None:
        """Save where it is time."""
        if self.saver.is_due(run):
            self.saver.save(run)


def own_device(runtime: RuntimeParams) -> torch.device:
    """The device of this process; where others train, they need a GPU and this one does not."""
    where = device.pick(device.own_kind(runtime.device, runtime.devices))
    return torch.device("cpu") if runtime.devices > 1 and where.type == "mps" else where


def described(where: torch.device, runtime: RuntimeParams) -> str:
    """Where it is trained, as the run's tag has it."""
    return device.describe(where) if runtime.devices == 1 else f"{runtime.devices} devices (Ray Train)"


def device_line(where: torch.device, recipe: Recipe, runtime: RuntimeParams) -> str:
    """Where it is trained, for the console, and why not on CUDA."""
    if runtime.devices > 1:
        least = f"{runtime.min_devices} to " if runtime.min_devices else ""
        return f"{least}{runtime.devices} devices of {runtime.address or 'this machine'} (Ray Train)"
    if where.type == "cpu":
        count = counted(torch.get_num_threads(), "thread")
        return f"the CPU ({count}; torch sees no other device or runtime.device is cpu)"
    precision = auto(where) if recipe.train.precision == "auto" else recipe.train.precision
    return f"{device.describe(where)} ({precision}{', channels_last' if where.type == 'cuda' else ''})"


def train(
    run: TrainingRun, data: Batches, prepared: Path, path: Path, name: str, params: Params, tracked: RetrainRun
) -> dict[str, float]:
    """Train `run` to its end, from its checkpoint if there is one; returns the overhead, seconds per epoch.

    The caller holds the lock of `name`: nobody else writes the checkpoint.
    """
    _restore(run, path, name)
    epochs, first = run.recipe.train.epochs, run.epoch
    line = Lines()
    with (
        stop_signals() as received,
        tqdm(total=epochs, initial=run.epoch, desc="retrain", unit="epoch", disable=None) as bar,
    ):
        checkpointer = Checkpointer(path, name, params.runtime, received)
        logging = 0.0

        def on_epoch(run: TrainingRun) -> None:
            nonlocal logging
            last = run.history[-1]
            if run.epoch == epochs:
                checkpointer.saver.save_now(run)  # what a later `dvc repro` finds instead of training again
            else:
                checkpointer.save_if_due(run)
            started = time.monotonic()
            tracked.update(run.history)
            logging += time.monotonic() - started
            text = epoch_text(last, len(data))
            bar.set_postfix_str(text)
            bar.update(run.epoch - bar.n)
            line(f"retrain: epoch {run.epoch}/{epochs}, {text}", last=run.epoch == epochs)

        with closing(checkpointer.saver), _left_as_it_ended(run, tracked):
            if params.runtime.devices > 1 and run.epoch < epochs:
                _train_on_ranks(run, name, prepared, params, checkpointer, on_epoch)
            else:
                run.train(data, None, checkpointer.after_step, on_epoch)
    trained = max(epochs - first, 1)
    return {"checkpoint": checkpointer.saver.spent / trained, "logging": logging / trained}


def _restore(run: TrainingRun, path: Path, name: str) -> None:
    """Go on from the checkpoint, if there is a whole one of `name`."""
    try:
        state = checkpoint.load(path, name)
        if state is not None:
            run.restore(state)
            print(f"retrain resumes from epoch {run.epoch}, step {run.step}")
    except checkpoint.TornCheckpointError as error:
        print(f"retrain starts again: {error}")


@contextmanager
def _left_as_it_ended(run: TrainingRun, tracked: RetrainRun) -> Iterator[None]:
    """Leave the run in MLflow with the state of a training that does not come to its end."""
    try:
        yield
    except InterruptedSearchError:
        tracked.leave(run.history, "KILLED")
        raise
    except DivergedError as error:
        tracked.leave(run.history, "FAILED")
        raise PodiumError(f"the retraining diverged: {error}; try another retrain.seed") from None
    except RAISED:
        tracked.leave(run.history, "FAILED")
        raise


def epoch_text(epoch: Epoch, images: int) -> str:
    """Loss and speed of an epoch of so many images; an own training loop need not report a loss."""
    loss = f"loss {epoch['train_loss']:.4f}, " if "train_loss" in epoch else ""
    return f"{loss}{images / max(epoch['seconds'], 1e-4):,.0f} images/s"  # rounded, so it may be 0


def _train_on_ranks(
    run: TrainingRun,
    name: str,
    prepared: Path,
    params: Params,
    checkpointer: Checkpointer,
    on_epoch: Callable[[TrainingRun], None],
) -> None:
    """Train on several devices; this process saves what the ranks send, and `run` follows them."""
    cluster.prepare(params.runtime)
    from podium.retraining import distributed

    seen = run.epoch

    def on_news(run: TrainingRun) -> None:
        nonlocal seen
        begun_again = run.epoch < seen
        seen = run.epoch if begun_again else seen
        if run.epoch > seen or (begun_again and run.history):  # by many epochs, where they are short
            seen = run.epoch
            on_epoch(run)
        else:
            checkpointer.save_if_due(run)

    splits = params.retrain.splits
    distributed.train(run, name, prepared, params.runtime, lambda: bool(checkpointer.received), on_news, splits)
    if run.epoch < run.recipe.train.epochs:
        checkpointer.after_step(run)  # a signal came: raises
