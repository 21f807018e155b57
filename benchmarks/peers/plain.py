"""The blog post's program: a DataLoader, no pruning, an in-memory study of learning rate, batch size and epochs."""

import optuna
import torch
from torch.utils.data import DataLoader

from peers.blog import BATCH_SIZES, EPOCHS, RATES, accuracy, arguments, network, say, split, train_epoch


def main() -> None:
    prepared, trials, seed = arguments()
    torch.manual_seed(seed)
    train, val = split(prepared, "train"), split(prepared, "val")

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", *RATES, log=True)
        batch_size = trial.suggest_categorical("batch_size", BATCH_SIZES)
        epochs = trial.suggest_int("epochs", *EPOCHS)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        train_loader = DataLoader(train, batch_size=batch_size, shuffle=True)
        val_loader = DataLoader(val, batch_size=batch_size)
        for _ in range(epochs):
            train_epoch(model, optimizer, train_loader)
        return accuracy(model, val_loader)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=trials, callbacks=[ended])


def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    say(trial.value or 0.0, trial.params["lr"], trial.params["batch_size"], trial.params["epochs"])


if __name__ == "__main__":
    main()
