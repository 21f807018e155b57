"""A study with a trial of each kind, as Podium's driver leaves it, without training one."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

import tiny
from podium.training.epochs import Epoch

EPOCHS = 3
STATES = {0: "COMPLETE", 1: "PRUNED", 2: "FAIL", 3: "COMPLETE", 4: "RUNNING", 5: "WAITING"}


def history(number: int, epochs: int = EPOCHS) -> list[Epoch]:
    """Epochs of trial `number`; no two of its values are equal."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / (number + epoch + 1),
            "learning_rate": 0.1 / epoch,
            "val_loss": 1 / (number + epoch + 2),
            "val_accuracy": (number + epoch) / 100,
            "seconds": 0.25 + epoch / 8,
        }
        for epoch in range(1, epochs + 1)
    ]


def study_of_each_kind(storage: Any = None) -> optuna.Study:
    """Trials 0 to 5, complete, pruned, failed, complete, running and waiting; the running one has two epochs."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="search-1234", direction="maximize", storage=storage)
    for number, state in STATES.items():
        if state == "RUNNING":
            _leave_running(study, number)
        elif state == "WAITING":
            study.enqueue_trial({}, {"rank": 0})
        else:
            study.add_trial(_ended(number, TrialState[state]))
    return study


def _ended(number: int, state: TrialState) -> FrozenTrial:
    epochs = history(number)
    attributes = _attributes(number) | {"history": epochs}
    if state == TrialState.FAIL:
        attributes |= {"reason": "ValueError: no", "traceback": "Traceback\n" + "x" * 6000 + "\nValueError: no"}
    return create_trial(
        state=state,
        value=epochs[-1]["val_accuracy"] if state == TrialState.COMPLETE else None,
        intermediate_values={int(epoch["epoch"]): epoch["val_accuracy"] for epoch in epochs},
        user_attrs=attributes,
    )


def _leave_running(study: optuna.Study, number: int) -> None:
    trial = study.ask()
    for name, value in _attributes(number).items():
        trial.set_user_attr(name, value)
    for epoch in history(number, 2):
        trial.report(epoch["val_accuracy"], int(epoch["epoch"]))


def _attributes(number: int) -> dict[str, Any]:
    return {"seed": 100 + number, "recipe": tiny.recipe(train__epochs=EPOCHS + number).flat()}
