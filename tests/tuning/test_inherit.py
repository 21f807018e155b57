"""What a new study takes over: a table of edits to the space, each with what is kept and what is left out."""

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage

import tiny
from own import OwnCode
from podium.components import Choice
from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.training.epochs import Epoch
from podium.tuning.driver import Driver
from podium.tuning.inherit import SOURCE, Inheritance, inherit, is_own, what_changed
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.outcome import result_epoch
from podium.tuning.storage import open_storage
from podium.tuning.study import identity, name_of, open_study
from tuning.scripted import Recorder, Script, ScriptedPool, epoch, fails, finishes, in_turn, prunes, search_params

RATE = {"low": 1e-3, "high": 1e-1, "log": True}
SIZES = {"choices": [16, 32]}
OWN_PROGRAM: Epoch = {"val_accuracy": 0.6, "val_measured": 0.25}
"""What Podium has measured of the module that an own training loop returned."""
SPACE = {"train.learning_rate": RATE, "train.batch_size": SIZES}
BASE = tiny.recipe()


class Storage:
    """A journal, and studies in it whose workers follow a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal: JournalStorage = open_storage(folder / "optuna.journal")

    def open(self, space: dict[str, Any], base: Recipe = BASE, code: str = "code", **fields: Any) -> optuna.Study:
        params = self.params(space, **fields)
        facts = identity(params, base, "data")
        facts["code"] |= {"loop": code}
        return open_study(self.journal, name_of("search", facts), params, facts)

    def searched(self, script: Any, n_trials: int, space: dict[str, Any] = SPACE, **fields: Any) -> optuna.Study:
        """A study of so many trials over `space`."""
        params = self.params(space, n_trials=n_trials, **fields)
        study = self.open(space, **fields)
        Driver(study, ScriptedPool(1, script), params, RuntimeParams(), BASE, self.folder, [Recorder()]).run()
        return study

    def inherited(self, space: dict[str, Any], base: Recipe = BASE, **fields: Any) -> tuple[optuna.Study, Inheritance]:
        study = self.open(space, base, **fields)
        return study, inherit(study, self.journal, self.params(space), base)

    @staticmethod
    def params(space: dict[str, Any], **fields: Any) -> SearchParams:
        return search_params(**({"space": space} | fields))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def _sizes(study: optuna.Study) -> list[int]:
    return [trial.user_attrs["recipe"]["train.batch_size"] for trial in study.trials]


@pytest.mark.parametrize(
    ("space", "base", "kept"),
    [
        ({**SPACE, "train.batch_size": {"choices": [16, 32, 64]}}, BASE, lambda size: True),  # a choice added
        ({**SPACE, "train.batch_size": {"choices": [16]}}, BASE, lambda size: size == 16),  # one removed
        ({**SPACE, "train.learning_rate": {**RATE, "low": 1e-4}}, BASE, lambda size: True),  # a range widened
        ({**SPACE, "train.learning_rate": {**RATE, "low": 0.09}}, BASE, lambda size: False),  # and narrowed
        ({**SPACE, "train.shift": {"choices": [0, 1]}}, BASE, lambda size: True),  # a field added that was fixed at 0
        ({**SPACE, "train.shift": {"choices": [1, 2]}}, BASE, lambda size: False),  # without its old value
        ({"train.learning_rate": RATE}, BASE, lambda size: size == 16),  # one removed: what it is fixed at now
        ({"train.learning_rate": RATE}, tiny.recipe(train__batch_size=32), lambda size: size == 32),
        (SPACE, tiny.recipe(train__weight_decay=0.5), lambda size: False),  # another fixed value
    ],
)
def test_trials_that_the_edited_space_contains_are_kept(
    storage: Storage, space: dict[str, Any], base: Recipe, kept: Any
) -> None:
    sizes = _sizes(storage.searched(finishes, 8))
    assert set(sizes) == {16, 32}
    study, done = storage.inherited(space, base)
    assert _sizes(study) == [size for size in sizes if kept(size)]
    assert done.reused == len(study.trials)
    assert done.reused + done.dropped.total() == len(sizes)
    assert not any(is_own(trial) for trial in study.trials)


@pytest.mark.parametrize("defaults_first", [True, False])
def test_trials_that_read_a_changed_field_whose_dimension_they_do_not_have_are_left_out(
    storage: Storage, defaults_first: bool
) -> None:
    space = {
        "train.optimizer": {"choices": ["sgd", "adamw", "muon"]},
        "train.momentum": {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}},
    }
    old = storage.searched(finishes, 12, space, defaults_first=defaults_first)
    used = [trial.params["train.optimizer"] for trial in old.trials]
    assert set(used) == {"sgd", "adamw", "muon"}
    study, done = storage.inherited(space, tiny.recipe(train__momentum=0.5), defaults_first=defaults_first)
    assert study.study_name != old.study_name
    assert [trial.params["train.optimizer"] for trial in study.trials] == [name for name in used if name != "muon"]
    assert done.dropped == {"train.momentum is 0.5 now and was 0.9": used.count("muon")}
    recipes = [trial.user_attrs["recipe"] for trial in study.trials]
    assert not any("train.momentum" in r for r in recipes if r["train.optimizer"] == "adamw")  # unread


def test_kept_trials_have_their_values_curves_and_origin(storage: Storage) -> None:
    old = storage.searched(in_turn(finishes, prunes), 4)
    study, _ = storage.inherited({**SPACE, "train.shift": {"choices": [0, 1]}})
    for before, now in zip(old.trials, study.trials, strict=True):
        assert (now.state, now.values, now.intermediate_values) == (
            before.state,
            before.values,
            before.intermediate_values,
        )
        assert now.params == before.params | {"train.shift": 0}
        assert now.user_attrs[SOURCE] == f"{old.study_name}/{before.number}"
        assert now.user_attrs["seed"] == before.user_attrs["seed"]


def test_failed_trials_are_left_out_and_said(storage: Storage) -> None:
    storage.searched(in_turn(finishes, fails), 4)
    study, done = storage.inherited({**SPACE, "train.shift": {"choices": [0, 1]}})
    assert len(study.trials) == 2
    assert done.sentence() == (
        "the study begins with 2 trials of earlier ones, still valid; left out: 2 because it failed"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"code": "other"}, "the study begins with 0 trials of earlier ones, .* 3 because the code .* has changed"),
        ({"metric": "loss"}, "^$"),
    ],
    ids=["code", "metric"],
)
def test_trials_of_other_code_or_metric_are_not_taken(storage: Storage, changes: dict[str, Any], sentence: str) -> None:
    storage.searched(finishes, 3)
    study, done = storage.inherited({**SPACE, "train.shift": {"choices": [0, 1]}}, **changes)
    assert study.trials == []
    assert re.search(sentence, done.sentence())


def test_inheriting_again_adds_nothing(storage: Storage) -> None:
    storage.searched(finishes, 3)
    wider = {**SPACE, "train.shift": {"choices": [0, 1]}}
    study, _ = storage.inherited(wider)
    assert storage.inherited(wider)[1].reused == 0
    assert len(study.trials) == 3


def test_inheriting_that_was_killed_is_completed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.searched(finishes, 5)
    wider = {**SPACE, "train.shift": {"choices": [0, 1]}}
    study = storage.open(wider)
    calls: list[Any] = []
    add = optuna.Study.add_trial

    def killed(self: optuna.Study, trial: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(trial)
        add(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            storage.inherited(wider)
    assert len(study.trials) == 2
    storage.inherited(wider)
    origins = [trial.user_attrs[SOURCE] for trial in study.trials]
    assert len(origins) == len(set(origins)) == 5


def test_edit_that_is_undone_finds_the_old_study(storage: Storage) -> None:
    old = storage.searched(finishes, 3)
    storage.inherited({**SPACE, "train.shift": {"choices": [0, 1]}})
    again, done = storage.inherited(SPACE)
    assert again.study_name == old.study_name
    assert done.reused == 0
    assert len(again.trials) == 3


def test_inherited_trials_do_not_count_against_the_budget(storage: Storage) -> None:
    storage.searched(finishes, 3)
    wider = {**SPACE, "train.shift": {"choices": [0, 1]}}
    study, _ = storage.inherited(wider)
    pool = ScriptedPool(1, lambda task: finishes(task, value=epoch(1)["val_accuracy"]))
    Driver(study, pool, storage.params(wider, n_trials=2), RuntimeParams(), BASE, storage.folder, [Recorder()]).run()
    assert sum(is_own(trial) for trial in study.trials) == 2
    assert len(study.trials) == 5


HERE = {"device": "cpu", "auto_precision": "float32", "torch": "2.14.1"}


@pytest.mark.parametrize(
    ("before", "now", "reused", "said"),
    [
        (HERE, HERE, 2, ""),
        (None, HERE, 2, "environment.torch is 2.14.1 and was not named"),
        (HERE, HERE | {"torch": "2.15.0"}, 0, "environment.torch is 2.15.0 and was 2.14.1"),
        (HERE, HERE | {"device": "cuda"}, 0, "environment.device is cuda and was cpu"),
        (HERE, HERE | {"timm": "1.0.31"}, 0, "environment.timm is 1.0.31 and was not named"),
    ],
)
def test_trials_are_those_of_one_environment_and_a_change_is_named(
    tmp_path: Path, before: dict[str, str] | None, now: dict[str, str], reused: int, said: str
) -> None:
    journal = open_storage(tmp_path / "optuna.journal")
    params = search_params(n_trials=2, space=SPACE)

    def opened(environment: dict[str, str] | None) -> optuna.Study:
        facts = identity(params, BASE, "data") | ({"environment": environment} if environment else {})
        return open_study(journal, name_of("search", facts), params, facts)

    first = opened(before)
    Driver(first, ScriptedPool(1, finishes), params, RuntimeParams(), BASE, tmp_path, [Recorder()]).run()
    second = opened(now)
    if second.study_name == first.study_name:
        assert what_changed(second, journal) == ""
        return
    sentence = what_changed(second, journal)
    assert sentence.startswith(f"a new study, and not {first.study_name}, for ")
    assert said in sentence
    assert inherit(second, journal, params, BASE).reused == reused


def test_edits_are_named_with_their_values_and_code_without(tmp_path: Path) -> None:
    journal = open_storage(tmp_path / "optuna.journal")
    params = search_params(n_trials=1, space=SPACE)
    first = identity(params, BASE, "data")
    study = open_study(journal, name_of("search", first), params, first)
    Driver(study, ScriptedPool(1, finishes), params, RuntimeParams(), BASE, tmp_path, [Recorder()]).run()
    edited = identity(params, BASE.replace({"train.epochs": 9}), "other data")
    edited["code"] |= {"loop": "other"}
    sentence = what_changed(open_study(journal, name_of("search", edited), params, edited), journal)
    assert "another code loop; another data; " in sentence
    assert "first.train.epochs is 9 and was 3" in sentence


def test_first_study_has_changed_nothing(tmp_path: Path) -> None:
    params = search_params(n_trials=1, space=SPACE)
    journal = open_storage(tmp_path / "optuna.journal")
    assert what_changed(open_study(journal, "search-1", params, identity(params, BASE, "data")), journal) == ""


@pytest.mark.parametrize(
    ("search", "logged", "returned", "reused"),
    [
        ({"limits": {"{name}": 0.5}}, [], {}, 0),
        ({}, ["{name}"], {}, 2),
        ({"limits": {"{name}": 0.5}}, [], OWN_PROGRAM, 0),
        ({}, ["{name}"], OWN_PROGRAM, 2),
        ({}, ["{name}"], {"val_accuracy": 0.6}, 2),
    ],
    ids=["a limit looks at it", "it is logged", "own program, a limit", "own program, logged", "own program, not its"],
)
def test_values_of_a_metric_whose_code_has_changed_are_not_taken(
    own: OwnCode, tmp_path: Path, search: dict[str, Any], logged: list[str], returned: Epoch, reused: int
) -> None:
    code = "def measured(logits, labels):\n    return {value}\n\n\nmeasured.direction = 'maximize'\n"
    module = own.write(code.format(value=0.25))
    search, logged = json.loads(json.dumps([search, logged]).replace("{name}", f"{module}:measured"))
    journal = open_storage(tmp_path / "optuna.journal")
    params = search_params(n_trials=2, space=SPACE, **search)

    def opened() -> optuna.Study:
        facts = identity(params, BASE, "data", [Choice(name=name) for name in logged])
        return open_study(journal, name_of("search", facts), params, facts)

    def script(task: Task) -> Script:
        history = [epoch(number) | {"val_measured": 0.25} for number in range(1, 4)]
        for one in history:
            yield Report(task.number, task.attempt, one)
        yield Ended(task.number, task.attempt, "finished", history, measured=returned)

    first = opened()
    Driver(first, ScriptedPool(1, script), params, RuntimeParams(), BASE, tmp_path, [Recorder()]).run()
    assert first.trials[0].user_attrs["history"][-1]["val_measured"] == 0.25
    own.write(code.format(value=0.75), module)
    second = opened()
    assert "another measured val_measured" in what_changed(second, journal)
    assert inherit(second, journal, params, BASE).reused == reused
    assert not any("val_measured" in one for t in second.trials for one in t.user_attrs["history"])
    assert not any("val_measured" in result_epoch(trial) for trial in second.trials)
    for old, new in zip(first.trials, second.trials, strict=False):
        assert result_epoch(new)["val_accuracy"] == result_epoch(old)["val_accuracy"] == old.value
