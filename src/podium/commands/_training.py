"""One training without a search: logged to MLflow, validated, and taken on to a registered version where asked."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from podium import paths
from podium.api import prepared_data, train
from podium.closure import code_of
from podium.config.params import Params
from podium.config.space import reachable
from podium.data.dataset import DatasetInfo, write_json
from podium.errors import InterruptedSearchError, PodiumError
from podium.metrics.scores import carried
from podium.models.weight_files import digests
from podium.process import stop_signals
from podium.retraining.resumable import Lines
from podium.retraining.winner import retrain
from podium.stages.evaluate import evaluate_by
from podium.stages.register import Folders, register_stage
from podium.text import counted
from podium.tracking.retrain_run import RetrainRun
from podium.training.device import describe
from podium.training.loop import DivergedError
from podium.training.rehearsal import rehearse


def name_of(params: Params, seed: int, data_digest: str) -> str:
    """The training's name, by all that decides its figures: those of search.metric and evaluate.metrics too."""
    recipe, metrics = params.recipe(), [params.search.metrics[0], *params.evaluate.metrics]
    facts = {
        "recipe": recipe.flat(),
        "seed": seed,
        "data": data_digest,
        "code": code_of([*reachable(recipe, {}), *(("metric", one.name) for one in metrics)]),
        "metrics": [carried(one).model_dump() for one in metrics],
        "weights": digests(recipe, {}),
    }
    return "train-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def train_logged(params: Params, seed: int) -> str:
    """Train `model` and `train` on data/prepared; a run in MLflow has every epoch. Returns the training's name.

    Raises PodiumError where it diverges, InputError for what is wrong with the settings or your own code.
    """
    info = DatasetInfo.read(paths.PREPARED)
    recipe = params.recipe()
    torch.set_num_threads(params.runtime.threads)
    data = prepared_data(device=params.runtime.device)
    rehearse(recipe, params.search.model_copy(update={"space": {}}), data.images, params.evaluate.metrics)
    name = name_of(params, seed, info.digest)
    tags = {"podium.seed": str(seed), "podium.data_digest": info.digest, "podium.device": describe(data.device)}
    tracked = RetrainRun.open(params.tracking, name, tags | {"podium.source": info.source}, recipe, title="train")
    line, label = Lines(), params.search.component("metric").label

    def on_epoch(history: list[dict[str, float]]) -> None:
        last, epochs = history[-1], recipe.train.epochs
        tracked.update(history)
        text = f"train: epoch {len(history)}/{epochs}, val {label} {last[f'val_{label}']:.4f}"
        line(text, last=len(history) == epochs)

    with stop_signals() as received:

        def on_step(run: Any) -> None:
            if received:
                text = "stopped; a single training is not resumed: run `podium train` again"
                raise InterruptedSearchError(text, received[0])

        try:
            trained = train(params, data, seed, on_epoch, on_step)
        except DivergedError as error:
            tracked.leave([], "FAILED")
            raise PodiumError(f"the training diverged: {error}") from None
        except BaseException as error:
            tracked.leave([], "KILLED" if isinstance(error, InterruptedSearchError) else "FAILED")
            raise
    for note in trained.notes:
        print(f"train: {note}")
    tracked.end(trained.history)
    last = trained.history[-1] | trained.measured
    after = counted(len(trained.history), "epoch")
    print(f"{name}: val {label} {last[f'val_{label}']:.4f} after {after}; run {tracked.run_id}")
    return name


def register(params: Params, name: str, seed: int) -> None:
    """Take the configuration of the training `name` on: retrained on train and val, evaluated and registered."""
    folder = paths.mlruns() / "train" / name
    recipe = params.recipe()
    chosen = {
        "study": name,
        "metric": params.search.component("metric").label,
        "trial": 0,
        "rank": 0,
        "value": None,
        "values": [],
        "seeds": [seed],
        "recipe": recipe.flat(),
    }
    places = {key: Path(folder / key) for key in ("selected", "retrained", "evaluated", "registered")}
    places["selected"].mkdir(parents=True, exist_ok=True)
    write_json(places["selected"] / "config.json", chosen)
    retrain(params, paths.PREPARED, places["selected"], places["retrained"])
    evaluate_by(params, places["retrained"], places["evaluated"])
    folders = Folders(paths.PREPARED, places["selected"], places["retrained"], places["evaluated"])
    register_stage(params.register_, params.tracking, folders, places["registered"])
