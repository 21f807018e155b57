from typing import Any

import pytest
from pydantic import ValidationError

from podium.config.params import parse
from podium.config.recipe import ModelParams, Recipe, TrainParams
from podium.errors import InputError


def test_flat_recipe_has_every_value_that_counts_by_its_dotted_name() -> None:
    flat = Recipe(train=TrainParams(batch_size=16)).flat()

    places = {"model.arguments", "train.augment", "train.program"}  # empty ones are no values
    own = {f"model.{n}" for n in ModelParams.OWN} | {f"train.{n}" for n in TrainParams.OWN}
    of_components = {"model.width", "model.hidden", "model.dropout", "train.label_smoothing", "train.weight_decay"}
    assert set(flat) == (own - places) | of_components | {"train.warmup"}
    assert flat["train.batch_size"] == 16


@pytest.mark.parametrize(
    ("changes", "there", "gone"),
    [
        ({"model.name": "resnet"}, "model.depth", "model.hidden"),
        ({"train.optimizer": "sgd"}, "train.momentum", "train.decay"),
        ({"train.loss": "focal"}, "train.focal_gamma", "train.label_smoothing"),
        ({"train.schedule": "constant"}, "train.schedule", "train.warmup"),
        ({"train.optimizer": "NAdam"}, "train.optimizer", "train.weight_decay"),
        ({"train.optimizer": "NAdam", "train.optimizer.arguments.eps": 0.1}, "train.optimizer.arguments.eps", ""),
        ({"train.shift": 2}, "train.shift", "train.flip"),
        ({"train.shift": 0}, "train.shift", "train.flip"),  # shown as off
    ],
)
def test_flat_recipe_has_the_parameters_of_what_it_names_and_no_others(
    changes: dict[str, Any], there: str, gone: str
) -> None:
    flat = Recipe().replace(changes).flat()

    assert there in flat
    assert gone not in flat


@pytest.mark.parametrize(
    "changes",
    [
        {"model.name": "resnet", "model.depth": 3},
        {"train.optimizer": "NAdam", "train.optimizer.arguments.eps": 0.1},
        {"train.augment": "GaussianBlur, cutout", "train.augment.GaussianBlur.arguments.kernel_size": 3},
        {"train.shift": 2, "train.flip": True},
        {"train.loss": "focal", "train.focal_gamma": 1.0},
    ],
    ids=str,
)
def test_recipe_is_the_one_that_its_flat_values_give(changes: dict[str, Any]) -> None:
    recipe = Recipe().replace(changes)

    assert Recipe().replace(recipe.flat()).flat() == recipe.flat()
    assert Recipe.model_validate(recipe.nested()).flat() == recipe.flat()


def test_replaced_recipe_is_a_new_one_with_those_fields() -> None:
    old = Recipe()

    new = old.replace({"train.learning_rate": 0.5, "model.width": 8})

    assert (new.train.learning_rate, new.flat()["model.width"]) == (0.5, 8)
    assert new.flat() == old.flat() | {"train.learning_rate": 0.5, "model.width": 8}
    assert old == Recipe()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("train.batch_size", 0, "greater than or equal to 1"),
        ("train.batch_size", 16.0, "valid integer"),
        (
            "train.optimizer",
            "adam",
            r"must be adamw, muon, sgd, timm:<name>, a class of torch\.optim .*; got 'adam'; did you mean Adam\?",
        ),
        ("train.learning_rate", float("nan"), "finite number"),
        ("train.flip", 1, "valid boolean"),
        ("train.warm_up", 0.1, "Extra inputs"),
    ],
)
def test_replaced_recipe_is_checked_against_the_fields_bounds(name: str, value: float | str, rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Recipe().replace({name: value})


def test_recipe_that_exists_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().train.epochs = 3


@pytest.mark.parametrize(
    ("train", "remedy"),
    [
        (
            "{flip: true, augment: [GaussianBlur, flip]}",
            "train: flip would be applied twice: train.flip: true turns it on, and train.augment lists it;"
            " remove it from train.augment, or set train.flip to false",
        ),
        (
            "{mixup: 0.3, augment: [{name: mixup}]}",
            "train: mixup would be applied twice: train.mixup: 0.3 turns it on, and train.augment lists it;"
            " remove it from train.augment, or set train.mixup to 0.0",
        ),
    ],
)
def test_augmentation_that_is_on_already_and_listed_too_is_refused_with_the_remedy(train: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(f"train: {train}")
    assert str(caught.value).splitlines()[1:] == [f"  {remedy}"]


def test_listed_augmentation_that_a_trial_would_turn_on_too_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        parse("{train: {augment: [flip]}, search: {space: {train.flip: {choices: [true, false]}}}}")
    assert "search.space.train.flip: would be applied twice: train.augment lists flip" in str(caught.value)
    with pytest.raises(InputError) as caught:
        parse("{train: {augment: [shift]}, search: {overrides: {train.shift: 2}}}")
    assert "search.overrides.train.shift: would be applied twice: train.augment lists shift" in str(caught.value)


def test_own_augmentation_may_be_listed_twice() -> None:
    train = parse('train: {augment: ["my_noise:noise", "my_noise:noise"]}').train
    assert [one.chosen.name for one in train.augmentations()] == ["my_noise:noise"] * 2


@pytest.mark.parametrize("train", ["{augment: [shift]}", "{shift: 0, augment: [shift]}"])
def test_listed_augmentation_is_on_whatever_its_own_parameter_says_and_once_in_a_trials_record(train: str) -> None:
    recipe = parse(f"train: {train}").recipe()
    assert [one.shift for one in recipe.train.augmentations()] == [1]
    again = Recipe().replace(recipe.flat())
    assert [one.shift for one in again.train.augmentations()] == [1]
    assert again.flat() == recipe.flat()
