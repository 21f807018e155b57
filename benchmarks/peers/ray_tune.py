"""The blog post's search in Ray Tune: ASHA, OptunaSearch, its MLflow callback, a trial a core."""

import os
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch.utils.data import DataLoader

from peers.blog import BATCH_SIZES, EPOCHS, RATES, accuracy, arguments, network, say, split, train_epoch


class Say(tune.Callback):
    """Tells of each trial's end, with its last accuracy, whether it was stopped or not."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last, config = trial.last_result, trial.config
        epochs = int(last.get("training_iteration", 1))
        say(float(last.get("accuracy", 0.0)), config["lr"], config["batch_size"], epochs)


def trainable(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    train, val = split(Path(config["prepared"]), "train"), split(Path(config["prepared"]), "val")
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    train_loader = DataLoader(train, batch_size=config["batch_size"], shuffle=True)
    val_loader = DataLoader(val, batch_size=config["batch_size"])
    for _ in range(config["epochs"]):
        train_epoch(model, optimizer, train_loader)
        tune.report({"accuracy": accuracy(model, val_loader)})


def main() -> None:
    prepared, trials, seed = arguments()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "lr": tune.loguniform(*RATES),
        "batch_size": tune.choice(BATCH_SIZES),
        "epochs": tune.randint(EPOCHS[0], EPOCHS[1] + 1),
        "prepared": str(prepared.resolve()),
        "seed": seed,
    }
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=trials,
            search_alg=OptunaSearch(seed=seed),
            scheduler=ASHAScheduler(max_t=EPOCHS[1], grace_period=2, reduction_factor=3),
        ),
        run_config=tune.RunConfig(
            storage_path=str(Path("ray").resolve()),
            verbose=0,
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri=f"sqlite:///{Path('mlruns').resolve()}/mlflow.db", experiment_name="ray"
                ),
                Say(),
            ],
        ),
    )
    tuner.fit()


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    Path("mlruns").mkdir(exist_ok=True)
    main()
