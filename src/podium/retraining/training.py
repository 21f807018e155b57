"""The retraining itself: from its checkpoint where there is one, to its end or to a signal."""

import math
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from podium import cluster
from podium.config.params import Params
from podium.errors import InterruptedSearchError, PodiumError
from podium.process import stop_signals
from podium.retraining.keeping import Keeper, Lines
from podium.tracking.retrain_run import RetrainRun
from podium.training import checkpoint
from podium.training.batches import Batches
from podium.training.loop import DivergedError, TrainingRun


def train(
    run: TrainingRun, data: Batches, prepared: Path, path: Path, name: str, params: Params, tracked: RetrainRun
) -> dict[str, float]:
    """Train `run` to its end, from its checkpoint where there is one; seconds an epoch of what is done beside steps.

    The caller holds the lock of `name`: nobody else writes the checkpoint.
    """
    try:
        state = checkpoint.load(path, name)
    except checkpoint.TornCheckpointError as error:
        print(f"retrain starts again: {error}")
        state = None
    if state is not None:
        run.restore(state)
        print(f"retrain goes on from epoch {run.epoch}, step {run.step}")
    epochs, first = run.recipe.train.epochs, run.epoch
    line = Lines()
    with (
        stop_signals() as received,
        tqdm(total=epochs, initial=run.epoch, desc="retrain", unit="epoch", disable=None) as bar,
    ):
        keeper = Keeper(
            path, name, params.runtime.checkpoint_seconds, received, lambda run: tracked.update(run.history)
        )

        def on_epoch(run: TrainingRun) -> None:
            last = run.history[-1]
            keeper.save(run)
            said = f"loss {last.get('train_loss', math.nan):.4f}, {len(data) / last['seconds']:,.0f} images/s"
            bar.set_postfix_str(said)
            bar.update(run.epoch - bar.n)
            line(f"retrain: epoch {run.epoch}/{epochs}, {said}", last=run.epoch == epochs)

        try:
            if params.runtime.devices > 1 and run.epoch < epochs:
                _train_on_ranks(run, name, prepared, params, keeper, on_epoch)
            else:
                run.train(data, None, keeper.after_step, on_epoch)
        except InterruptedSearchError:
            tracked.leave(run.history, "KILLED")
            raise
        except DivergedError as error:
            tracked.leave(run.history, "FAILED")
            raise PodiumError(f"the retraining diverged: {error}; try another retrain.seed") from None
        except Exception:
            tracked.leave(run.history, "FAILED")
            raise
    trained = max(epochs - first, 1)
    return {"checkpoint": keeper.saving / trained, "logging": keeper.logging / trained}


def _train_on_ranks(
    run: TrainingRun,
    name: str,
    prepared: Path,
    params: Params,
    keeper: Keeper,
    on_epoch: Callable[[TrainingRun], None],
) -> None:
    """Train on several devices; this process keeps what the ranks send, and `run` is where they are."""
    cluster.prepare(params.runtime)
    from podium.retraining import several

    seen = run.epoch

    def on_news(run: TrainingRun) -> None:
        nonlocal seen
        if run.epoch > seen:  # by many, where epochs are short
            seen = run.epoch
            on_epoch(run)
        else:
            keeper.save(run)

    several.train(run, name, prepared, params.runtime, lambda: bool(keeper.received), on_news)
    if run.epoch < run.recipe.train.epochs:
        keeper.after_step(run)  # a signal came: says so
