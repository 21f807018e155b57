"""The winner, trained once more on train and validation together, resumable at every step."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from podium import checkpoint, cluster, device, paths
from podium.batches import Batches
from podium.closure import code_digest
from podium.compiling import compile_network
from podium.dataset import DatasetInfo, open_split
from podium.errors import InputError, InterruptedSearchError, PodiumError
from podium.fit import DivergedError, Images, TrainingRun
from podium.history import write_history
from podium.locks import locked
from podium.params import Params, RuntimeParams
from podium.profiling.measure import measure
from podium.profiling.page import markdown
from podium.recipe import Recipe
from podium.retrain_run import RetrainRun
from podium.search.study import name_of
from podium.signals import stop_signals
from podium.trained import TrainedModel
from podium.weights import digests

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class _Lines:
    """A line now and then where there is no terminal for a bar."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str, *, last: bool) -> None:
        if not sys.stderr.isatty() and (last or time.monotonic() - self._said >= LINE_EVERY):
            self._said = time.monotonic()
            print(text, flush=True)


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
        self.saving = self.logging = 0.0
        """Seconds in all."""

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
        started = time.monotonic()
        checkpoint.save(self.path, self.identity, run.state())
        self._saved = time.monotonic()
        self.on_save(run)
        self.saving += self._saved - started
        self.logging += time.monotonic() - self._saved


def retrain(params: Params, prepared: Path, selected: Path, out: Path) -> TrainedModel:
    """Train the configuration of `selected` on train and validation; weights, history and profile go to `out`."""
    chosen = _read(selected / "config.json")
    recipe = Recipe().replace(chosen["recipe"])
    where = _own_device(params.runtime)
    torch.set_num_threads(params.runtime.threads)
    place = _say(where, recipe, params.runtime)
    print(f"retrain: trial {chosen['trial']} of {chosen['study']}, {recipe.train.epochs} epochs on {place}")
    info = DatasetInfo.read(prepared)
    images = _images(info)
    splits = [open_split(prepared / "train"), open_split(prepared / "val")]
    data = Batches.of(splits, where)
    facts = {
        "recipe": recipe.flat(),
        "seed": params.retrain.seed,
        "data": info.digest,
        "code": code_digest("podium.fit"),
        "weights": digests(recipe, {}),
        "study": chosen["study"],
        "device": where.type,
    }
    name = name_of("retrain", facts)
    tags = _tags(chosen, facts, params, where) | {"podium.source": info.source}
    tracked = RetrainRun.open(params.tracking, name, tags, recipe)
    run = TrainingRun(recipe, images, params.retrain.seed, where)
    if params.retrain.compile and params.runtime.devices == 1:
        run.notes += compile_network(run.model, images.shape, recipe.train.batch_size, run.fast)
    for note in run.notes:
        print(f"retrain: {note}")
    path = paths.mlruns() / "checkpoints" / f"{name}.ckpt"
    with tracked.watching_the_machine():
        beside = _train(run, data, prepared, path, name, params, tracked)
    out.mkdir(parents=True, exist_ok=True)
    write_history(out / "history.csv", run.history)
    if params.retrain.profile_steps:
        profile = measure(recipe, images, data, where, params.retrain.profile_steps, out / "profile", beside)
        text = markdown(profile, "Profile of the retraining", str(out / "profile"))
        (out / "profile.md").write_text(text, encoding="utf-8")
    about = TrainedModel(
        recipe=recipe.model_dump(),
        classes=info.classes,
        shape=info.shape,
        mean=info.mean,
        std=info.std,
        seed=params.retrain.seed,
        device=_described(where, params.runtime),
        data_digest=info.digest,
        study=chosen["study"],
        trial=chosen["trial"],
        confirmation_seeds=chosen["seeds"],
        run_id=tracked.run_id,
        preprocess=info.preprocess,
        threads=torch.get_num_threads(),
    )
    whole = about.save(out, run.result)
    tracked.finish(run.history, whole.weights_digest, out)
    path.unlink(missing_ok=True)
    return whole


def _images(info: DatasetInfo) -> Images:
    channels, height, width = info.shape
    return Images((channels, height, width), len(info.classes), tuple(info.mean), tuple(info.std))


def _train(
    run: TrainingRun, data: Batches, prepared: Path, path: Path, name: str, params: Params, tracked: RetrainRun
) -> dict[str, float]:
    """Train `run` to its end, from its checkpoint where there is one; seconds an epoch of what is done beside steps."""
    try:
        state = checkpoint.load(path, name)
    except checkpoint.TornCheckpointError as error:
        print(f"retrain starts again: {error}")
        state = None
    if state is not None:
        run.restore(state)
        print(f"retrain goes on from epoch {run.epoch}, step {run.step}")
    epochs, first = run.recipe.train.epochs, run.epoch
    line = _Lines()
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
            said = f"loss {last['train_loss']:.4f}, {len(data) / last['seconds']:,.0f} images/s"
            bar.set_postfix_str(said)
            bar.update(run.epoch - bar.n)
            line(f"retrain: epoch {run.epoch}/{epochs}, {said}", last=run.epoch == epochs)

        try:
            if params.runtime.devices > 1:
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
    keeper: _Keeper,
    on_epoch: Callable[[TrainingRun], None],
) -> None:
    """Train on several devices; this process keeps what the ranks send, and `run` is where they are."""
    cluster.prepare(params.runtime)
    from podium import ray_training

    seen = run.epoch

    def on_news(run: TrainingRun) -> None:
        nonlocal seen
        if run.epoch > seen:  # by many, where epochs are short
            seen = run.epoch
            on_epoch(run)
        else:
            keeper.save(run)

    ray_training.train(run, name, prepared, params.runtime, lambda: bool(keeper.received), on_news)
    if run.epoch < run.recipe.train.epochs:
        keeper.after_step(run)  # a signal came: says so


def _tags(chosen: dict[str, Any], facts: dict[str, Any], params: Params, where: torch.device) -> dict[str, str]:
    return {
        "podium.study": chosen["study"],
        "podium.trial": str(chosen["trial"]),
        "podium.seed": str(params.retrain.seed),
        "podium.confirmation_seeds": ",".join(str(seed) for seed in chosen["seeds"]),
        "podium.data_digest": facts["data"],
        "podium.code_digest": facts["code"],
        "podium.device": _described(where, params.runtime),
    }


def _own_device(runtime: RuntimeParams) -> torch.device:
    """The device of this process; where others train, they need a GPU and this one does not."""
    return device.pick("auto" if runtime.devices > 1 and runtime.device == "cuda" else runtime.device)


def _described(where: torch.device, runtime: RuntimeParams) -> str:
    return device.describe(where) if runtime.devices == 1 else f"{runtime.devices} devices (Ray Train)"


def _say(where: torch.device, recipe: Recipe, runtime: RuntimeParams) -> str:
    if runtime.devices > 1:
        least = f"{runtime.min_devices} to " if runtime.min_devices else ""
        return f"{least}{runtime.devices} devices of {runtime.address or 'this machine'} (Ray Train)"
    if where.type == "cpu":
        threads = torch.get_num_threads()
        count = f"{threads} thread" + ("s" if threads > 1 else "")
        return f"the CPU ({count}; torch sees no CUDA device or runtime.device is cpu)"
    precision = "float32" if recipe.train.precision == "float32" else "bf16 autocast"
    return f"{device.describe(where)} ({precision}, channels_last)"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro select`")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
