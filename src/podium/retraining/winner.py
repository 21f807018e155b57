"""The winner, trained once more on train and, by default, validation together, resumable at every step."""

import json
from pathlib import Path
from typing import Any

import torch

from podium import paths
from podium.closure import code_of, versions_of
from podium.config.params import Params, RetrainParams
from podium.config.recipe import Recipe
from podium.config.space import reachable
from podium.data.dataset import DatasetInfo, open_split
from podium.errors import InputError, PodiumError
from podium.locks import locked
from podium.models.networks import ImageSpec
from podium.models.weight_files import digests
from podium.profiling.diagnosis import markdown
from podium.profiling.measure import measure
from podium.retraining.ensemble import together
from podium.retraining.resumable import described, device_line, own_device, train
from podium.text import counted
from podium.tracking.retrain_run import RetrainRun
from podium.tracking.trackers import tensorboard
from podium.training.batches import Batches
from podium.training.compiling import compile_network
from podium.training.epochs import write_history
from podium.training.loop import TrainingRun
from podium.training.program import training
from podium.training.trained import TrainedModel
from podium.tuning.study import name_of

FINISHED = ".finished"
"""What the name of a finished retraining's last checkpoint ends with; `podium gc` frees them."""
MAX_FINISHED = 3
"""Finished retrainings whose last checkpoints stay."""


def retrain(params: Params, prepared: Path, selected: Path, out: Path) -> TrainedModel:
    """Train the configuration of `selected` on retrain.images; weights, history and profile go to `out`."""
    chosen = _read(selected / "config.json")
    recipe = together(Recipe().replace(chosen["recipe"]), params.retrain.members)
    where = own_device(params.runtime)
    torch.set_num_threads(params.runtime.threads)
    place = device_line(where, recipe, params.runtime)
    of_all = f" for {params.retrain.members} networks together" if params.retrain.members > 1 else ""
    epochs = counted(recipe.train.epochs, "epoch")
    print(f"retrain: trial {chosen['trial']} of {chosen['study']}, {epochs}{of_all} on {place}")
    info = DatasetInfo.read(prepared)
    facts = _facts(chosen, recipe, info, params.retrain, where)
    name = name_of("retrain", facts)
    with locked(paths.lock(name), purpose="the retraining"):  # one that waits resumes from what the holder leaves
        splits = [open_split(prepared / name) for name in params.retrain.splits]
        # Where others train, this process counts the images and profiles a few batches: memory is the ranks'.
        data = Batches.of(splits, where) if params.runtime.devices == 1 else Batches.mapped(splits, where)
        tags = _tags(chosen, facts, described(where, params.runtime)) | {"podium.source": info.source}
        tracked = RetrainRun.open(params.tracking, name, tags, recipe)
        images = ImageSpec.of(info)
        run = _run(recipe, images, params, where)
        path = paths.mlruns() / "checkpoints" / f"{name}.ckpt"
        with tracked.watching_the_machine():
            if (finished := path.with_suffix(FINISHED)).is_file():
                print("retrain: nothing that decides it has changed; it is taken from its last checkpoint")
                finished.replace(path)
            overhead = train(run, data, prepared, path, name, params, tracked)
        out.mkdir(parents=True, exist_ok=True)
        write_history(out / "history.csv", run.history)
        tensorboard.write(out / "scalars", run.history, recipe.flat())
        whole = _about(run, info, chosen, tracked.run_id, described(where, params.runtime), params.retrain.splits).save(
            out, run.result
        )
        if params.retrain.profile_steps and recipe.train.program is None:  # after the model is safe
            _profile(run, images, data, params.retrain.profile_steps, out, overhead)
        tracked.finish(run.history, whole.weights_digest, out)
        _retain(path)
        return whole


def _retain(path: Path) -> None:
    """Leave the last checkpoint for a stage that is repeated though nothing that decides it changed; and few others."""
    path.replace(path.with_suffix(FINISHED))
    every = sorted(path.parent.glob(f"*{FINISHED}"), key=lambda one: one.stat().st_mtime)
    for old in every[:-MAX_FINISHED]:
        old.unlink(missing_ok=True)


def _run(recipe: Recipe, images: ImageSpec, params: Params, where: torch.device) -> TrainingRun:
    if recipe.train.program is not None and params.runtime.devices > 1:
        raise InputError(
            "runtime.devices: an own training loop (train.program) runs on one device; set it to 1; got"
            f" {params.runtime.devices}"
        )
    if params.runtime.devices > 1:
        from podium.training.ranks import FollowingRun

        run: TrainingRun = FollowingRun(recipe, images, params.retrain.seed, where)
    else:
        run = training(recipe, images, params.retrain.seed, where)
        run.fit_into_memory()  # before it is compiled: what is measured goes operation by operation
    if params.retrain.compile and params.runtime.devices > 1:
        run.notes.append(
            f"retrain.compile: left out on {params.runtime.devices} devices; it goes with runtime.devices: 1"
        )
    elif params.retrain.compile and recipe.train.program is None:
        run.notes += compile_network(run.model, images.shape, recipe.train.batch_size, run.fast)
    for note in run.notes:
        print(f"retrain: {note}")
    return run


def _profile(
    run: TrainingRun, images: ImageSpec, data: Batches, steps: int, out: Path, overhead: dict[str, float]
) -> None:
    """Page and trace of a copy of `run`. Where it can't be measured, a message says so and the retraining stands."""
    trace = out / "profile"
    try:
        profile = measure(run.recipe, images, data, run.device, steps, trace, overhead)
    except PodiumError as error:
        print(f"retrain: no profile: {error}")
        return
    (out / "profile.md").write_text(markdown(profile, "Profile of the retraining", str(trace)), encoding="utf-8")


def _facts(
    chosen: dict[str, Any], recipe: Recipe, info: DatasetInfo, params: RetrainParams, where: torch.device
) -> dict[str, Any]:
    """All that decides the result: what has them all resumes with the same checkpoint and run."""
    facts = {
        "recipe": recipe.flat(),
        "seed": params.seed,
        "data": info.digest,
        "code": code_of(reachable(recipe, {})),
        "weights": digests(recipe, {}),
        "study": chosen["study"],
        "device": where.type,
        "versions": versions_of(reachable(recipe, {})),
    }
    # Only then: names from before these were asked stay.
    return (
        facts
        | ({"compile": True} if params.compile else {})
        | ({"images": "train"} if params.images == "train" else {})
    )


def _tags(chosen: dict[str, Any], facts: dict[str, Any], device: str) -> dict[str, str]:
    return {
        "podium.study": chosen["study"],
        "podium.trial": str(chosen["trial"]),
        "podium.seed": str(facts["seed"]),
        "podium.confirmation_seeds": ",".join(str(seed) for seed in chosen["seeds"]),
        "podium.data_digest": facts["data"],
        "podium.code_digest": facts["code"]["loop"],
        "podium.device": device,
    }


def _about(
    run: TrainingRun, info: DatasetInfo, chosen: dict[str, Any], run_id: str, device: str, splits: list[str]
) -> TrainedModel:
    return TrainedModel(
        recipe=run.recipe.resolved(),
        classes=info.classes,
        shape=info.shape,
        mean=info.mean,
        std=info.std,
        seed=run.seed,
        device=device,
        data_digest=info.digest,
        study=chosen["study"],
        trial=chosen["trial"],
        confirmation_seeds=chosen["seeds"],
        run_id=run_id,
        preprocess=info.preprocess,
        threads=torch.get_num_threads(),
        temperature=chosen.get("temperature", 1.0),
        splits=splits,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro select`")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
