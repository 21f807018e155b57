"""Milliseconds a trial beyond its training, from the first trial to the thousandth.

Every contender runs trials of ten epochs, each reported and each logged to MLflow on SQLite, one trial at a time:

  podium         its own session: study, worker process, mirror, resumable; training is taken off as the worker timed it
  stock          study.optimize with optuna-integration's MLflowCallback, epochs by mlflow.log_metric
  mlflow_storage study.optimize on MLflow's own MlflowStorage
  ray            Ray Tune with ASHA, OptunaSearch and its MLflow callback
The peers train nothing at all.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measuring import axes, parser, publish, table

EPOCHS = 10
COUNTS = {"podium": 1000, "stock": 120, "mlflow_storage": 40, "ray": 10}
LABELS = {
    "podium": "Podium",
    "stock": "Optuna, optuna-integration's MLflowCallback",
    "mlflow_storage": "Optuna on MlflowStorage",
    "ray": "Ray Tune, MLflow callback",
}
SPACE = {
    "train.learning_rate": {"low": 1.0e-5, "high": 1.0e-1, "log": True},
    "train.momentum": {"low": 0.0, "high": 0.98},
    "train.weight_decay": {"low": 1.0e-6, "high": 1.0e-2, "log": True},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--contenders", default=",".join(COUNTS), help="which, with commas")
    options.add_argument("--trials", type=int, help="trials of Podium (default 1000); its peers run a share of them")
    options.add_argument("--only", choices=COUNTS, help="run this one here and print each trial's milliseconds")
    arguments = options.parse_args()
    if arguments.only:
        print(json.dumps(CONTENDERS[arguments.only](arguments.trials)))
        return
    share = (arguments.trials or (40 if arguments.quick else 1000)) / 1000
    costs = {name: run(name, max(6, int(COUNTS[name] * share))) for name in arguments.contenders.split(",")}
    publish("trial_cost", tell(costs), {"epochs": EPOCHS, "milliseconds": costs}, draw(costs), quick=arguments.quick)


def run(name: str, trials: int) -> list[float]:
    """Milliseconds of each trial, in a process and a folder of their own. The first one's hold the start."""
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name, "--trials", str(trials)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {len(found)} trials, median {median(found[1:]):.1f} ms", flush=True)
    return found


def podium(trials: int) -> list[float]:
    """One worker; what passes between two trials' ends, less the seconds that the worker trained in between."""
    from podium.config.params import RuntimeParams, SearchParams, TrackingParams
    from podium.config.recipe import Recipe
    from podium.tracking.mirror import Parent
    from podium.tuning import session
    from podium.tuning.pools import processes

    processes.warm_up()
    small: dict[str, str | int | float | bool] = {
        "model.width": 1,
        "model.hidden": 1,
        "train.epochs": EPOCHS,
        "train.optimizer": "sgd",
    }
    base = Recipe().replace(small)
    params = SearchParams.model_validate({"n_trials": trials, "space": SPACE, "pruner": "none"})
    plan = session.Plan("search-cost", {"search": {}}, params, base, Parent("search-cost", {}), "search")
    started = time.time()
    study, _ = session.run(plan, _images(Path("prepared")), RuntimeParams(workers=1), TrackingParams())
    whole = time.time() - started
    done = sorted((t for t in study.trials if t.datetime_complete), key=lambda t: t.number)
    ends = [started, *(t.datetime_complete.timestamp() for t in done if t.datetime_complete)]
    trained = [sum(epoch["seconds"] for epoch in t.user_attrs["history"]) for t in done]
    costs = [1000 * (end - before - train) for (before, end), train in zip(pairwise(ends), trained, strict=True)]
    costs[-1] += 1000 * (started + whole - ends[-1])  # the mirror has caught up when the session ends
    return costs


def _images(folder: Path) -> Path:
    """Some images of noise, so that an epoch is a step."""
    import numpy as np

    from podium.data.dataset import DatasetInfo, write_split

    draw, classes = np.random.default_rng(0), ("a", "b")
    for name in ("train", "val"):
        images = draw.integers(0, 255, (16, 3, 8, 8), dtype=np.uint8)
        write_split(folder / name, name, images, np.arange(16, dtype=np.int64) % 2, classes)
    DatasetInfo("noise", list(classes), [3, 8, 8], {}, [0.5] * 3, [0.3] * 3, "0" * 64).write(folder)
    return folder


def _timed(optimize: Callable[[Callable[..., None]], None]) -> list[float]:
    """Milliseconds from one trial's end to the next; `optimize` is given a callback."""
    ends = [time.time()]
    optimize(lambda *_: ends.append(time.time()))
    ends[-1] = time.time()
    return [1000 * (end - before) for before, end in pairwise(ends)]


def _suggest(trial: Any) -> float:
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    trial.suggest_float("momentum", 0, 0.98)
    trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    return float(rate)


def stock(trials: int) -> list[float]:
    """The callback that Optuna users have, with each epoch's metrics logged in the objective."""
    import warnings

    import mlflow
    import optuna
    from optuna_integration.mlflow import MLflowCallback

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    callback = MLflowCallback(tracking_uri="sqlite:///mlflow.db", metric_name="accuracy")

    @callback.track_in_mlflow()
    def objective(trial: optuna.Trial) -> float:
        value = _suggest(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(value, epoch)
            for name in ("train_loss", "val_loss", "val_accuracy"):
                mlflow.log_metric(name, value, step=epoch)
        return value

    study = optuna.create_study(direction="maximize")
    return _timed(lambda ended: study.optimize(objective, n_trials=trials, callbacks=[callback, ended]))


def mlflow_storage(trials: int) -> list[float]:
    """Optuna's study kept in MLflow itself."""
    import mlflow
    import optuna
    from mlflow.optuna.storage import MlflowStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    storage = MlflowStorage(experiment_id=mlflow.create_experiment("study"))

    def objective(trial: optuna.Trial) -> float:
        value = _suggest(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(value, epoch)
        return value

    study = optuna.create_study(study_name="study", direction="maximize", storage=storage)
    return _timed(lambda ended: study.optimize(objective, n_trials=trials, callbacks=[ended]))


def ray(trials: int) -> list[float]:
    """A trial at a time, as the others."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    class Told(tune.Callback):
        def __init__(self, ended: Callable[..., None]) -> None:
            self.ended = ended

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ended()

    def trainable(config: dict[str, Any]) -> None:
        for _ in range(EPOCHS):
            tune.report({"accuracy": config["learning_rate"]})

    space = {
        "learning_rate": tune.loguniform(1e-5, 1e-1),
        "momentum": tune.uniform(0, 0.98),
        "weight_decay": tune.loguniform(1e-6, 1e-2),
    }
    tracker = MLflowLoggerCallback(tracking_uri="sqlite:///mlflow.db", experiment_name="ray")

    def fit(ended: Callable[..., None]) -> None:
        config = tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=trials, search_alg=OptunaSearch(), scheduler=ASHAScheduler()
        )
        told = tune.RunConfig(storage_path=str(Path("ray").resolve()), verbose=0, callbacks=[tracker, Told(ended)])
        tune.Tuner(trainable, param_space=space, tune_config=config, run_config=told).fit()

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    return _timed(fit)


CONTENDERS: dict[str, Callable[[int], list[float]]] = {
    "podium": podium, "stock": stock, "mlflow_storage": mlflow_storage, "ray": ray,
}  # fmt: skip


def tell(costs: dict[str, list[float]]) -> str:
    """A row a contender: its first trials, its last, all of them with start and end, and how many times Podium's."""
    rows = []
    ours = median(costs["podium"][1:]) if "podium" in costs else float("nan")
    for name, values in costs.items():
        block = max(1, min(100, len(values) // 5))
        first, last = _middle(values[1 : block + 1]), _middle(values[-block - 1 : -1])
        mean = sum(values) / len(values)
        rows.append([LABELS[name], len(values), f"{first:.0f}", f"{last:.0f}", f"{mean:.0f}",
                     f"{median(values[1:]) / ours:.1f}x"])  # fmt: skip
    return table(["ms a trial", "trials", "the first", "the last", "mean, start included", "of Podium's"], rows)


def _middle(values: Sequence[float]) -> float:
    return median(values) if values else float("nan")


def draw(costs: dict[str, list[float]]) -> Any:
    figure, drawn = axes()
    for name, values in costs.items():
        window = max(1, len(values) // 40)
        smooth = [median(values[max(0, i - window) : i + 1]) for i in range(1, len(values))]
        drawn.plot(range(1, len(values)), smooth, label=LABELS[name])
    drawn.set(xscale="log", yscale="log", xlabel="trial", ylabel="ms beyond training")
    drawn.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
