import pytest
from pydantic import ValidationError

from podium.config.recipe import ModelParams, Recipe, TrainParams


def test_flat_recipe_has_every_field_by_its_dotted_name() -> None:
    flat = Recipe(train=TrainParams(batch_size=16)).flat()

    names = {f"model.{n}" for n in ModelParams.model_fields} | {f"train.{n}" for n in TrainParams.model_fields}
    assert set(flat) == names
    assert flat["train.batch_size"] == 16


def test_replaced_recipe_is_a_new_one_with_those_fields() -> None:
    old = Recipe()

    new = old.replace({"train.learning_rate": 0.5, "model.width": 8})

    assert (new.train.learning_rate, new.model.width) == (0.5, 8)
    assert new.flat() == old.flat() | {"train.learning_rate": 0.5, "model.width": 8}
    assert old == Recipe()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("train.batch_size", 0, "greater than or equal to 1"),
        ("train.batch_size", 16.0, "valid integer"),
        ("train.optimizer", "adam", "'sgd', 'adamw' or 'muon'"),
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
