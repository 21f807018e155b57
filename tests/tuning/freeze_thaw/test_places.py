from typing import Any

import numpy as np
import pytest

import tiny
from podium.config.search_section import SearchParams
from podium.config.space import Dimension
from podium.tuning.freeze_thaw.places import Places, features, value_at
from podium.tuning.optuna_private import contains
from podium.tuning.study import distribution


@pytest.mark.parametrize(
    ("name", "dimension", "low", "middle", "high"),
    [
        ("train.learning_rate", {"low": 1e-4, "high": 1e-2, "log": True}, 1e-4, 1e-3, 1e-2),
        ("train.momentum", {"low": 0.0, "high": 0.9}, 0.0, 0.45, 0.9),
        ("train.momentum", {"low": 0.0, "high": 0.9, "step": 0.3}, 0.0, 0.6, 0.9),
        ("train.epochs", {"low": 2, "high": 6}, 2, 4, 6),
        ("train.epochs", {"low": 2, "high": 8, "step": 3}, 2, 5, 8),
        ("model.hidden", {"low": 4, "high": 64, "log": True}, 4, 15, 64),
        ("train.batch_size", {"choices": [16, 32, 64]}, 16, 32, 64),
        ("train.optimizer", {"choices": ["sgd", "adamw"]}, "sgd", "adamw", "adamw"),
        ("train.ema", {"low": 0.5, "high": 0.5}, 0.5, 0.5, 0.5),
    ],
)
def test_unit_interval_covers_the_dimension(
    name: str, dimension: dict[str, Any], low: Any, middle: Any, high: Any
) -> None:
    found = [value_at(name, Dimension.model_validate(dimension), u) for u in (0.0, 0.5, 1 - 1e-12)]
    for value, expected in zip(found, (low, middle, high), strict=True):
        assert value == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-6))
        assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0.0, 0.6, 0.1), (0.0, 0.3, 0.1), (0.1, 0.7, 0.1), (0.05, 0.35, 0.05), (0, 0.9, 0.3)]
)
def test_every_step_of_a_range_is_a_value_of_it(low: float, high: float, step: float) -> None:
    """The last one was none, by rounding: what was decided on was another configuration than what was trained."""
    dimension, count = Dimension(low=low, high=high, step=step), round((high - low) / step) + 1
    found = [value_at("train.momentum", dimension, (k + 0.5) / count) for k in range(count)]
    assert found == pytest.approx([low + k * step for k in range(count)])
    assert all(contains(distribution("train.momentum", dimension), value) for value in found)


@pytest.mark.parametrize(
    ("dimension", "value", "expected"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, 1e-3, [0.5]),
        ({"low": 0.0, "high": 0.9}, None, [0.5]),
        ({"choices": [16, 32, 64, 128, 256]}, 64, [0.5]),
        ({"choices": [0, 1, 2]}, 1, [0.5]),
        ({"choices": [0, 1e-5, 1e-4, 1e-3]}, 1e-5, [1 / 3]),
        ({"choices": [0.0, 1e-4, 1e-2]}, 0.0, [0.0]),
        ({"choices": [0.0, 1e-3]}, 1e-3, [1.0]),
        ({"choices": ["a", "b", "c"]}, "b", [0.0, 0.5, 0.0]),
        ({"choices": ["a", "b"]}, None, [0.0, 0.0]),
        ({"choices": [True, False]}, False, [0.0, 0.5]),
        ({"choices": [3]}, 3, [0.5]),
    ],
)
def test_features_are_on_the_dimensions_own_scale(dimension: dict[str, Any], value: Any, expected: list[float]) -> None:
    assert features(Dimension.model_validate(dimension), value) == pytest.approx(expected)


def _places(**space: dict[str, Any]) -> Places:
    params = SearchParams.model_validate(
        {"method": "thaw", "max_epochs": 9, "space": {name.replace("__", "."): one for name, one in space.items()}}
    )
    return Places(params, tiny.recipe())


def test_place_has_what_its_conditions_allow_and_is_recognised_in_its_trial() -> None:
    places = _places(
        train__optimizer={"choices": ["sgd", "adamw"]},
        train__momentum={"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}},
        train__epochs={"low": 3, "high": 9},
        train__schedule={"choices": ["constant", "cosine"]},
    )
    random = np.random.default_rng(0)
    for _ in range(40):
        place = places.at(random.random(len(places.names)))
        assert ("train.momentum" in place.values) == (place.values["train.optimizer"] == "sgd")
        assert ("train.epochs" in place.values) == (place.values["train.schedule"] == "cosine")
        assert place.total == place.values.get("train.epochs", 9)
        recipe = tiny.recipe().replace(place.values | {"train.epochs": place.total}).flat()
        assert places.of(recipe).x == pytest.approx(place.x)
        assert places.of(recipe).total == place.total
