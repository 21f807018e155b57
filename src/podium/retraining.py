"""The winner, trained once more on train and validation together, resumable at every step."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from podium import checkpoint, device, paths
from podium.batches import Batches
from podium.closure import code_digest
from podium.dataset import DatasetInfo, open_split
from podium.errors import InputError, InterruptedSearchError, PodiumError
from podium.fit import DivergedError, Images, TrainingRun
from podium.history import write_history
from podium.locks import locked
from podium.params import Params
from podium.profiling import profile_training
from podium.recipe import Recipe
from podium.retrain_run import RetrainRun
from podium.search.study import name_of
from podium.signals import stop_signals
from podium.trained import TrainedModel


@dataclass
class _Keeper:
    """Saves the run every few seconds and at every epoch, and ends it when a signal came."""

    path: Path
    identity: str
    every: float
    received: list[int]
    on_save: Callable[[TrainingRun], None]

    def __post_init__(self) -> None:
        self._saved = time.monotonic()

    def after_step(self, run: TrainingRun) -> None:
        if self.received:
            self.save(run)
            raise InterruptedSearchError(
                f"stopped in epoch {run.epoch + 1} of {run.recipe.train.epochs}, saved; `dvc repro` goes on from here",
                self.received[0],
            )
        if time.monotonic() - self._saved >= self.every:
            self.save(run)

    def save(self, run: TrainingRun) -> None:
        checkpoint.save(self.path, self.identity, run.state())
        self._saved = time.monotonic()
        self.on_save(run)


def retrain(params: Params, prepared: Path, selected: Path, out: Path) -> TrainedModel:
    """Train the configuration of `selected` on train and validation; weights, history and profile go to `out`."""
    chosen = _read(selected / "config.json")
    recipe = Recipe().replace(chosen["recipe"])
    where = device.pick(params.runtime.device)
    torch.set_num_threads(params.runtime.threads)
    print(f"retrain: trial {chosen['trial']} of {chosen['study']}, {recipe.train.epochs} epochs on {_say(where)}")
    info = DatasetInfo.read(prepared)
    channels, height, width = info.shape
    images = Images((channels, height, width), len(info.classes), tuple(info.mean), tuple(info.std))
    splits = [open_split(prepared / "train"), open_split(prepared / "val")]
    data = Batches.of(splits, where)
    facts = {
        "recipe": recipe.flat(),
        "seed": params.retrain.seed,
        "data": info.digest,
        "code": code_digest("podium.fit"),
        "study": chosen["study"],
        "device": where.type,
    }
    name = name_of("retrain", facts)
    tracked = RetrainRun.open(params.tracking, name, _tags(chosen, facts, params, where), recipe)
    run = TrainingRun(recipe, images, params.retrain.seed, where)
    path = paths.mlruns() / "checkpoints" / f"{name}.ckpt"
    _train(run, data, path, name, params, tracked)
    out.mkdir(parents=True, exist_ok=True)
    write_history(out / "history.csv", run.history)
    if params.retrain.profile_steps:
        profile_training(recipe, images, data, where, params.retrain.profile_steps, out)
    about = TrainedModel(
        recipe=recipe.model_dump(),
        classes=info.classes,
        shape=info.shape,
        mean=info.mean,
        std=info.std,
        seed=params.retrain.seed,
        device=device.describe(where),
        data_digest=info.digest,
        study=chosen["study"],
        trial=chosen["trial"],
        confirmation_seeds=chosen["seeds"],
        run_id=tracked.run_id,
        preprocess=info.preprocess,
        threads=torch.get_num_threads(),
    )
    whole = about.save(out, run.model)
    tracked.finish(run.history, whole.weights_digest, out)
    path.unlink(missing_ok=True)
    return whole


def _train(run: TrainingRun, data: Batches, path: Path, name: str, params: Params, tracked: RetrainRun) -> None:
    """Train `run` to its end, from its checkpoint where there is one."""
    try:
        state = checkpoint.load(path, name)
    except checkpoint.TornCheckpointError as error:
        print(f"retrain starts again: {error}")
        state = None
    if state is not None:
        run.restore(state)
        print(f"retrain goes on from epoch {run.epoch}, step {run.step}")
    epochs = run.recipe.train.epochs
    with (
        locked(paths.lock(name), purpose="the retraining"),
        stop_signals() as received,
        tqdm(total=epochs, initial=run.epoch, desc="retrain", unit="epoch", disable=None) as bar,
    ):
        keeper = _Keeper(
            path, name, params.runtime.checkpoint_seconds, received, lambda run: tracked.update(run.history)
        )

        def on_epoch(run: TrainingRun) -> None:
            last = run.history[-1]
            keeper.save(run)
            bar.set_postfix_str(f"loss {last['train_loss']:.4f}, {len(data) / last['seconds']:,.0f} images/s")
            bar.update()

        try:
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


def _tags(chosen: dict[str, Any], facts: dict[str, Any], params: Params, where: torch.device) -> dict[str, str]:
    return {
        "podium.study": chosen["study"],
        "podium.trial": str(chosen["trial"]),
        "podium.seed": str(params.retrain.seed),
        "podium.confirmation_seeds": ",".join(str(seed) for seed in chosen["seeds"]),
        "podium.data_digest": facts["data"],
        "podium.code_digest": facts["code"],
        "podium.device": device.describe(where),
    }


def _say(where: torch.device) -> str:
    if where.type == "cpu":
        threads = torch.get_num_threads()
        count = f"{threads} thread" + ("s" if threads > 1 else "")
        return f"the CPU ({count}; torch sees no CUDA device or runtime.device is cpu)"
    return f"{device.describe(where)} (bf16 autocast, channels_last)"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro select`")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
