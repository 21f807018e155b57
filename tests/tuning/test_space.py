from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import nn

import tiny
from podium.config.params import Params, SearchParams, parse
from podium.config.recipe import Recipe
from podium.config.space import Dimension
from podium.models.build import build_model
from podium.tuning.study import distribution, exists, ordered, point, suggest

BASE = Recipe()
LEARNING_RATE = {"low": 1e-5, "high": 1e-1, "log": True}
MOMENTUM = {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}}
OPTIMIZER = {"choices": ["sgd", "adamw", "muon"]}


def _space(**dimensions: Any) -> dict[str, Dimension]:
    return {name.replace("__", "."): Dimension.model_validate(fields) for name, fields in dimensions.items()}


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("train.learning_rate", LEARNING_RATE, FloatDistribution(1e-5, 1e-1, log=True)),
        ("train.label_smoothing", {"low": 0, "high": 0.2, "step": 0.1}, FloatDistribution(0.0, 0.2, step=0.1)),
        ("train.epochs", {"low": 10, "high": 50}, IntDistribution(10, 50)),
        ("train.epochs", {"low": 10, "high": 50, "step": 10}, IntDistribution(10, 50, step=10)),
        ("model.width", {"low": 4, "high": 64, "log": True}, IntDistribution(4, 64, log=True)),
        ("train.batch_size", {"choices": [16, 32]}, CategoricalDistribution([16, 32])),
        ("train.flip", {"choices": [True, False]}, CategoricalDistribution([True, False])),
    ],
)
def test_distribution_has_the_type_of_its_field(name: str, fields: dict[str, Any], expected: BaseDistribution) -> None:
    assert distribution(name, Dimension.model_validate(fields)) == expected


def test_dimensions_that_depend_on_others_are_asked_for_last() -> None:
    space = _space(train__momentum=MOMENTUM, train__weight_decay=LEARNING_RATE, train__optimizer=OPTIMIZER)
    assert ordered(space) == ["train.optimizer", "train.weight_decay", "train.momentum"]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({}, True),
        ({"train.optimizer": ["sgd"]}, False),
        ({"train.optimizer": ["sgd", "adamw"]}, True),
        ({"train.optimizer": ["adamw"], "train.schedule": ["constant"]}, False),
        ({"train.optimizer": ["adamw"], "train.schedule": ["one_cycle"]}, True),
    ],
)
def test_dimension_exists_when_every_condition_holds(when: dict[str, list[str]], expected: bool) -> None:
    recipe = BASE.replace({"train.optimizer": "adamw", "train.schedule": "one_cycle"})
    assert exists(Dimension.model_validate({"low": 0.0, "high": 0.9, "when": when}), recipe) == expected


@pytest.mark.parametrize(
    ("optimizer", "asked"),
    [
        ("sgd", {"train.optimizer", "train.learning_rate", "train.momentum"}),
        ("adamw", {"train.optimizer", "train.learning_rate"}),
    ],
)
def test_suggest_asks_for_what_exists_and_leaves_the_rest(optimizer: str, asked: set[str]) -> None:
    space = _space(train__momentum=MOMENTUM, train__learning_rate=LEARNING_RATE, train__optimizer=OPTIMIZER)
    values: dict[str, Any] = {"train.optimizer": optimizer, "train.learning_rate": 0.01, "train.momentum": 0.5}
    trial = optuna.trial.FixedTrial(values)
    recipe = suggest(trial, SearchParams(space=space), BASE)  # type: ignore[arg-type]
    assert set(trial.params) == asked
    assert recipe == BASE.replace({name: value for name, value in values.items() if name in asked})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"train.optimizer": "sgd", "train.learning_rate": 0.05, "train.momentum": 0.9}),
        ({"train.optimizer": "adamw"}, {"train.optimizer": "adamw", "train.learning_rate": 0.05}),
        (
            {"train.optimizer": "adamw", "train.momentum": 0.1},  # adamw does not read it
            {"train.optimizer": "adamw", "train.learning_rate": 0.05},
        ),
        ({"train.optimizer": "muon"}, {"train.optimizer": "muon", "train.learning_rate": 0.05}),
        ({"train.optimizer": "muon", "train.momentum": 0.1}, "train.momentum is 0.9 now and was 0.1"),
        ({"model.depth": 3}, {"train.optimizer": "sgd", "train.learning_rate": 0.05, "train.momentum": 0.9}),
        ({"train.learning_rate": 0.5}, "train.learning_rate 0.5 is outside of 1e-05 to 0.1"),
        ({"train.momentum": 0.95}, "train.momentum 0.95 is outside of 0.0 to 0.9"),
        ({"train.loss": "focal"}, "train.loss is 'cross_entropy' now and was 'focal'"),
        ({"train.cutout": 2}, "train.cutout is None now and was 2"),
        ({"train.epochs": 7}, "train.epochs is 20 now and was 7"),
    ],
)
def test_point_is_where_the_space_gives_the_recipe(changes: dict[str, Any], expected: dict[str, Any] | str) -> None:
    base = BASE.replace({"train.optimizer": "sgd", "train.learning_rate": 0.05, "train.epochs": 20})
    space = _space(train__momentum=MOMENTUM, train__learning_rate=LEARNING_RATE, train__optimizer=OPTIMIZER)
    assert point(space, base.replace(changes), base) == expected


@pytest.mark.parametrize(
    ("choices", "expected"),
    [([0, 1], {"train.shift": 0}), ([1, 2], "0 is not among the choices of train.shift")],
)
def test_augmentation_that_the_recipe_says_nothing_of_is_off(choices: list[int], expected: Any) -> None:
    assert point(_space(train__shift={"choices": choices}), BASE, BASE) == expected


def test_point_outside_the_choices_says_so() -> None:
    space = _space(train__batch_size={"choices": [16, 32]})
    assert (
        point(space, BASE.replace({"train.batch_size": 64}), BASE) == "64 is not among the choices of train.batch_size"
    )


def test_recipe_of_a_point_is_the_recipe(tmp_path: Path) -> None:
    params = parse((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        recipe = suggest(study.ask(), params.search, params.recipe())
        values = point(params.search.space, recipe, params.recipe())
        assert not isinstance(values, str)
        again = optuna.trial.FixedTrial(values)
        assert suggest(again, params.search, params.recipe()) == recipe  # type: ignore[arg-type]


BLOG_POST = """
train: {optimizer: sgd, momentum: 0.0, weight_decay: 0.0, schedule: constant, label_smoothing: 0.0}
search:
  pruner: none
  defaults_first: false
  space:
    train.learning_rate: {low: 1.0e-5, high: 1.0e-1, log: true}
    train.batch_size: {choices: [16, 32, 64, 128]}
    train.epochs: {low: 10, high: 50}
"""


@pytest.fixture
def blog_post() -> Params:
    return parse(BLOG_POST)


def test_blog_posts_space_can_be_written(blog_post: Params) -> None:
    space = blog_post.search.space
    assert {name: distribution(name, dimension) for name, dimension in space.items()} == {
        "train.learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
        "train.batch_size": CategoricalDistribution([16, 32, 64, 128]),
        "train.epochs": IntDistribution(10, 50),
    }


def test_blog_posts_trial_is_plain_sgd(blog_post: Params) -> None:
    trial = optuna.trial.FixedTrial({"train.learning_rate": 0.01, "train.batch_size": 128, "train.epochs": 10})
    recipe = suggest(trial, blog_post.search, blog_post.recipe())  # type: ignore[arg-type]
    assert recipe.flat() == {
        "model.name": "cnn",
        "model.width": 32,
        "model.hidden": 512,
        "model.dropout": 0.0,
        "model.weights": "",
        "model.normalize": "weights",
        "model.flip_average": False,
        "model.crop_average": 0.0,
        "train.epochs": 10,
        "train.data_fraction": 1.0,
        "train.data_fraction_epochs": 0,
        "train.head_epochs": 0,
        "train.layer_decay": 1.0,
        "train.batch_size": 128,
        "train.loss": "cross_entropy",
        "train.optimizer": "sgd",
        "train.learning_rate": 0.01,
        "train.backbone_rate": 1.0,
        "train.momentum": 0.0,
        "train.weight_decay": 0.0,
        "train.schedule": "constant",
        "train.label_smoothing": 0.0,
        "train.balance": "none",
        "train.ema": 0.0,
        "train.precision": "auto",
        "train.deterministic": False,
    }


def test_blog_posts_network_is_the_default(blog_post: Params) -> None:
    model = build_model(blog_post.model, tiny.spec((3, 8, 8), 10))
    sizes = [
        (m.in_channels, m.out_channels, m.kernel_size) if isinstance(m, nn.Conv2d) else (m.in_features, m.out_features)
        for m in model
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    assert sizes == [(3, 32, (3, 3)), (32, 64, (3, 3)), (1024, 512), (512, 10)]
    assert not any(isinstance(m, nn.MaxPool2d | nn.Dropout) for m in model)
    assert model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 10)
