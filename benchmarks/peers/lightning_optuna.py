"""The blog post's search in Lightning with Optuna: its Trainer, a median pruner, its MLflow logger.

optuna-integration's pruning callback imports `lightning`, which has no release on the index: its ten lines are here.
"""

import logging
import warnings
from pathlib import Path

import optuna
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor
from torch.utils.data import DataLoader

from peers.blog import BATCH_SIZES, EPOCHS, RATES, arguments, network, say, split


class Classifier(pl.LightningModule):
    """The blog post's network as a module."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.network, self.rate = network(), rate

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        right = (self.network(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("accuracy", right, batch_size=len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Pruning(pl.Callback):
    """Reports each epoch's accuracy, and ends the trial where the pruner says so."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.trial.report(float(trainer.callback_metrics["accuracy"]), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main() -> None:
    prepared, trials, seed = arguments()
    pl.seed_everything(seed, verbose=False)
    train, val = split(prepared, "train"), split(prepared, "val")

    def objective(trial: optuna.Trial) -> float:
        batch_size = trial.suggest_categorical("batch_size", BATCH_SIZES)
        module = Classifier(trial.suggest_float("lr", *RATES, log=True))
        tracker = MLFlowLogger("lightning", tracking_uri=f"sqlite:///{Path('mlruns').resolve()}/mlflow.db")
        tracker.log_hyperparams(trial.params)
        trainer = pl.Trainer(
            max_epochs=trial.suggest_int("epochs", *EPOCHS), accelerator="cpu", logger=tracker,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, callbacks=[Pruning(trial)],
        )  # fmt: skip
        trainer.fit(
            module, DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=batch_size)
        )
        return float(trainer.callback_metrics["accuracy"])

    def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        seen = trial.intermediate_values or {0: 0.0}
        epoch = max(seen, key=lambda epoch: seen[epoch])
        value, epochs = (seen[epoch], epoch + 1) if trial.value is None else (trial.value, trial.params["epochs"])
        say(value, trial.params["lr"], trial.params["batch_size"], epochs)

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner()
    )
    study.optimize(objective, n_trials=trials, callbacks=[ended])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    Path("mlruns").mkdir(exist_ok=True)
    main()
