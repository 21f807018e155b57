"""One training that serves every value of train.epochs: when it does, what its result is, and what is inherited."""

import csv
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.study import StudyDirection

import tiny
from podium.config.params import RuntimeParams, SearchParams, parse
from podium.config.space import Dimension
from podium.errors import InputError
from podium.training.program import training
from podium.tuning.driver import Driver
from podium.tuning.inherit import inherit
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.outcome import about as ranking_entry
from podium.tuning.outcome import ranked, write_trials
from podium.tuning.shared_epochs import BEST, allowed, best_epoch, dimension_of
from podium.tuning.storage import open_storage
from podium.tuning.study import identity, name_of, open_study
from tuning.scripted import Recorder, Script, ScriptedPool, epoch, search_params

EPOCHS = {"low": 3, "high": 8}
SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "train.epochs": EPOCHS}
CONDITIONAL = {"train.epochs": EPOCHS | {"when": {"train.shift": [0]}}}
CONDITION = SPACE | {"train.ema": {"low": 0.0, "high": 0.9, "when": {"train.epochs": [3]}}}
CONSTANT = tiny.recipe(train__schedule="constant")


def by_epoch(epoch: int) -> float:
    return 0.9**epoch


def by_total(step: int, total: int) -> float:
    return 1 - step / total


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", False),
        ("cosine", True),
        ("one_cycle", True),
        ("StepLR", False),
        ("CosineAnnealingLR", True),
        ("OneCycleLR", True),
        ("timm:cosine", True),
        ("tuning.test_shared_epochs:by_epoch", False),
        ("tuning.test_shared_epochs:by_total", True),
    ],
)
def test_training_uses_total_where_its_schedule_does(schedule: str, expected: bool) -> None:
    arguments = {"train.schedule.arguments.step_size": 3} if schedule == "StepLR" else {}
    assert tiny.recipe().replace({"train.schedule": schedule} | arguments).train.uses_total() == expected


def test_argument_that_is_given_does_not_follow_from_the_total() -> None:
    recipe = tiny.recipe().replace({"train.schedule": "CosineAnnealingLR", "train.schedule.arguments.T_max": 7})
    assert not recipe.train.uses_total()


@pytest.mark.parametrize(
    ("fields", "schedule", "expected"),
    [
        ({"shared_epochs": True}, "constant", True),
        ({"shared_epochs": True}, "cosine", False),
        ({}, "constant", False),
        ({"method": "thaw", "max_epochs": 9}, "constant", True),
        ({"method": "thaw", "max_epochs": 9, "shared_epochs": False}, "constant", False),
        ({"shared_epochs": True, "space": CONDITIONAL}, "constant", False),
        ({"shared_epochs": True, "space": CONDITION}, "constant", False),
        ({"shared_epochs": True, "space": {"train.shift": {"choices": [0, 1]}}}, "constant", False),
    ],
    ids=["asked", "schedule", "default", "thaw", "thaw, not asked", "conditional", "condition", "not searched"],
)  # fmt: skip
def test_epochs_are_shared_where_nothing_depends_on_them(fields: dict[str, Any], schedule: str, expected: bool) -> None:
    params = SearchParams.model_validate({"space": SPACE} | fields)
    assert (dimension_of(params, tiny.recipe(train__schedule=schedule)) is not None) == expected


@pytest.mark.parametrize(
    ("dimension", "epochs", "expected"),
    [
        ({"low": 3, "high": 8}, 5, [3, 4, 5]),
        ({"low": 3, "high": 8}, 2, []),
        ({"low": 2, "high": 8, "step": 3}, 9, [2, 5, 8]),
        ({"choices": [9, 3, 5]}, 8, [3, 5]),
        ({"low": 2, "high": 4, "log": True}, 9, [2, 3, 4]),
    ],
)
def test_allowed_epochs_are_those_of_the_dimension(dimension: dict[str, Any], epochs: int, expected: list[int]) -> None:
    assert allowed(Dimension.model_validate(dimension), epochs) == expected


@pytest.mark.parametrize(
    ("values", "maximize", "expected"),
    [
        ([0.1, 0.2], True, None),
        ([0.1, 0.2, 0.3], True, (3, 0.2)),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5], True, (6, 0.6)),
        ([0.5, 0.5, 0.5], False, (3, 0.5)),
        ([0.5, 0.5, 0.5, 0.5], True, (3, 0.5)),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], False, (6, 0.6)),
        ([0.4, 0.5, 0.6, 0.9, 0.6, 0.6, 0.6, 0.6], True, (7, 0.66)),
    ],
    ids=["too short", "shortest", "one peak", "minimised", "fewest of equal ones", "falling", "after a peak"],
)
def test_best_epoch_has_the_best_mean_of_five(
    values: list[float], maximize: bool, expected: tuple[int, float] | None
) -> None:
    direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
    found = best_epoch(dict(enumerate(values, 1)), Dimension.model_validate(EPOCHS), direction)
    assert (found is None) == (expected is None)
    assert list(found or ()) == pytest.approx(list(expected or ()))


def _script(values: list[float], how: str = "finished") -> Any:
    def script(task: Task) -> Script:
        history = []
        for number, value in enumerate(values, 1):
            history.append(epoch(number, value))
            yield Report(task.number, task.attempt, history[-1])
        yield Ended(task.number, task.attempt, how, history)  # type: ignore[arg-type]

    return script


def _searched(folder: Path, script: Any, params: SearchParams, base: Any = CONSTANT) -> optuna.Study:
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    Driver(study, ScriptedPool(1, script), params, RuntimeParams(), base, folder, [Recorder()]).run()
    return study


@pytest.mark.parametrize(
    ("values", "how", "state", "value", "best"),
    [
        ([0.1, 0.2, 0.3, 0.9, 0.2, 0.1, 0.1, 0.1], "finished", "COMPLETE", 0.375, 4),
        ([0.1, 0.2, 0.3, 0.4], "stopped", "COMPLETE", 0.25, 4),
        ([0.1, 0.2], "stopped", "PRUNED", 0.2, None),
    ],
    ids=["whole", "stopped beyond the smallest number", "stopped before it"],
)
def test_trial_trains_to_the_largest_number_and_has_its_best(
    tmp_path: Path, values: list[float], how: str, state: str, value: float, best: int | None
) -> None:
    params = search_params(n_trials=1, space=SPACE, shared_epochs=True)
    study = _searched(tmp_path, _script(values, how), params)
    (trial,) = study.trials
    assert set(trial.params) == {"train.learning_rate"}
    assert trial.user_attrs["recipe"]["train.epochs"] == 8
    assert (trial.state.name, trial.user_attrs.get(BEST)) == (state, best)
    assert trial.value == pytest.approx(value)


def test_ranking_and_table_have_the_chosen_number(tmp_path: Path) -> None:
    params = search_params(n_trials=1, space=SPACE, shared_epochs=True)
    study = _searched(tmp_path, _script([0.1, 0.2, 0.3, 0.9, 0.2, 0.1, 0.1, 0.1]), params)
    entry = ranking_entry(ranked(study)[0])
    assert (entry["recipe"]["train.epochs"], entry["val_loss"]) == (4, pytest.approx(0.1))
    write_trials(tmp_path / "trials.csv", study)
    with (tmp_path / "trials.csv").open() as file:
        assert next(csv.DictReader(file))["train.epochs"] == "4"


def test_dimension_is_asked_where_the_schedule_of_the_trial_needs_it(tmp_path: Path) -> None:
    space = SPACE | {"train.schedule": {"choices": ["constant", "cosine"]}}
    params = search_params(n_trials=12, space=space, shared_epochs=True)

    def script(task: Task) -> Script:
        return _script([0.5] * task.recipe["train"]["epochs"])(task)  # type: ignore[no-any-return]

    for trial in _searched(tmp_path, script, params).trials:
        assert ("train.epochs" in trial.params) == (trial.params["train.schedule"] == "cosine")
        assert len(trial.intermediate_values) == trial.params.get("train.epochs", 8)


@pytest.mark.parametrize("changes", [{}, {"train.ema": 0.9, "train.shift": 1, "train.balance": "sampling"}])
def test_first_epochs_are_a_shorter_training_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = tiny.trial_data(tiny.prepare(tmp_path))
    curves = []
    for epochs in (2, 4):
        recipe = CONSTANT.replace(changes | {"train.epochs": epochs})
        run = training(recipe, tiny.IMAGES, 7, torch.device("cpu"))
        history = run.train(data.train, data.val)
        curves.append([{k: v for k, v in one.items() if k != "seconds"} for one in history])
    assert curves[0] == curves[1][:2]


@pytest.mark.parametrize(
    ("space", "fields", "taken", "why"),
    [
        (SPACE | {"train.shift": {"choices": [0, 1]}}, {"shared_epochs": True}, 1, ""),
        (SPACE | {"train.epochs": {"low": 2, "high": 8}}, {"shared_epochs": True}, 0, "these have changed"),
        (SPACE, {}, 0, "in one of the two studies only"),
    ],
    ids=["same epochs", "other epochs", "not shared"],
)
def test_trial_is_inherited_where_its_value_means_the_same(
    tmp_path: Path, space: dict[str, Any], fields: dict[str, Any], taken: int, why: str
) -> None:
    storage, base = open_storage(tmp_path / "optuna.journal"), CONSTANT.replace({"train.shift": 0})
    studies = []
    for one, more in ((SPACE, {"shared_epochs": True}), (space, fields)):
        params = search_params(n_trials=1, space=one, **more)
        facts = identity(params, base, "data")
        studies.append((open_study(storage, name_of("search", facts), params, facts), params))
    first, params = studies[0]
    values = [0.1, 0.2, 0.3, 0.9, 0.2, 0.1, 0.1, 0.1]
    Driver(first, ScriptedPool(1, _script(values)), params, RuntimeParams(), base, tmp_path, [Recorder()]).run()
    study, params = studies[1]
    done = inherit(study, storage, params, base)
    assert (done.reused, [t.user_attrs[BEST] for t in study.trials]) == (taken, [4] * taken)
    assert why in str(dict(done.dropped))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: thaw", "must be told when to end"),
        ("method: thaw, timeout: 9, sampler: random", "sampler must be left out with method: thaw.*got random"),
        ("method: thaw, timeout: 9, pruner: none", "pruner must be left out with method: thaw.*got none"),
        ("method: thaw, timeout: 9, plateau: 4", "plateau must be null with method: thaw.*until: no_gain"),
        ("max_epochs: 9", "max_epochs must be null with method: optuna; got 9"),
        ("until: no_gain", "until must be budget with method: optuna; got no_gain"),
    ],
)
def test_settings_of_the_other_method_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(f"search: {{{text}}}")
