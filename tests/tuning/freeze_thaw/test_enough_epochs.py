from typing import Any

import optuna
import pytest

import tiny
from podium.errors import InputError
from podium.tuning.freeze_thaw import enough_epochs
from tuning.freeze_thaw.thawing import SPACE, params_of

EPOCHS = {"train.epochs": {"low": 4, "high": 12}}
FIXED = {name: one for name, one in SPACE.items() if name != "train.epochs"}


@pytest.mark.parametrize(
    ("fields", "changes", "expected"),
    [
        ({"max_epochs": 3}, {}, r"at least 4, the epochs of the shortest training .*; got 3: raise it, or lower that"),
        ({"max_epochs": 5, "space": FIXED}, {"train__epochs": 6}, "at least 6, the epochs of the shortest training"),
        (
            {"max_epochs": 7},
            {"train__epochs": 8, "train__schedule": "cosine"},
            "at least 8, the epochs of your own settings .* search.defaults_first: false",
        ),
    ],
)
def test_budget_in_which_no_trial_can_be_complete_is_refused(
    fields: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"train.learning_rate": 0.01})
    with pytest.raises(InputError, match=expected):
        enough_epochs.check(study, params_of(**fields), tiny.recipe(**changes))


@pytest.mark.parametrize(
    ("fields", "changes", "trials"),
    [
        ({"max_epochs": 4}, {"train__schedule": "constant", "train__epochs": 8}, 0),
        ({"max_epochs": 7, "defaults_first": False}, {"train__schedule": "cosine", "train__epochs": 8}, 0),
        ({"max_epochs": 8}, {"train__schedule": "cosine", "train__epochs": 8}, 0),
        ({"max_epochs": None, "timeout": 5.0}, {}, 0),
        ({"max_epochs": 3}, {}, 1),
        ({"max_epochs": 3}, {"train__program": "my_loop:train"}, 0),
        ({"max_epochs": None, "method": "optuna"}, {}, 0),
        ({"max_epochs": 3, "space": EPOCHS | {"train.epochs": {"choices": [3, 9]}}, "defaults_first": False}, {}, 0),
    ],
    ids=[
        "one training serves all epochs",
        "own settings are not tried",
        "just enough",
        "ended by time",
        "lowered, to end it",
        "an own loop may end early",
        "another method",
        "the smallest choice",
    ],
)
def test_budget_that_is_enough_or_no_matter_is_taken(
    fields: dict[str, Any], changes: dict[str, Any], trials: int
) -> None:
    study = optuna.create_study()
    for _ in range(trials):
        study.ask()
    enough_epochs.check(study, params_of(**fields), tiny.recipe(**changes))
