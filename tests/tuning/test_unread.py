"""The table of unread fields beside what a training does: another value, the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from podium.config.recipe import Recipe
from podium.errors import InputError
from podium.training.batches import Batches
from podium.training.fit import Images, TrainingRun
from podium.tuning.unread import READ, is_unread

OTHER: dict[str, Any] = {
    "model.width": 3,
    "model.depth": 2,
    "model.hidden": 7,
    "model.dropout": 0.5,
    "model.weights": "missing.pt",
    "train.backbone_rate": 0.5,
    "train.momentum": 0.3,
    "train.warmup": 0.7,
    "train.share_epochs": 1,
}
"""Another value of each field."""
ZOO = "torchvision:shufflenet_v2_x0_5"
TRAININGS: dict[str, dict[str, Any]] = {
    "cnn": {},
    "resnet": {"model.name": "resnet"},
    "zoo": {"model.name": ZOO},
    "sgd": {"train.optimizer": "sgd"},
    "muon": {"train.optimizer": "muon"},
    "cosine": {"train.schedule": "cosine"},
    "constant": {"train.schedule": "constant"},
    "half": {"train.share": 0.5},
}
SIDE = 32


def _trained(recipe: Recipe) -> list[float] | str:
    """The weights after two epochs, or why there are none."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    data = Batches(images, torch.arange(24) % 3)
    try:
        run = TrainingRun(recipe, Images((3, SIDE, SIDE), 3, (0.5,) * 3, (0.3,) * 3), 1, torch.device("cpu"))
    except InputError as error:
        return str(error)
    run.train(data, None)
    return [number for parameter in run.model.parameters() for number in parameter.detach().flatten().tolist()]


@pytest.mark.parametrize(
    "training", [pytest.param(name, marks=pytest.mark.slow) if name == "zoo" else name for name in TRAININGS]
)
def test_field_is_unread_where_another_value_trains_the_same_weights(
    training: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where there are no weights
    recipe = tiny.recipe(train__epochs=2).replace(TRAININGS[training])
    weights = _trained(recipe)
    same = {name for name, value in OTHER.items() if _trained(recipe.replace({name: value})) == weights}
    assert same == {name for name in OTHER if is_unread(name, recipe)}


def test_every_field_of_the_table_is_tried() -> None:
    assert set(OTHER) == set(READ)
    assert set(READ) < set(Recipe().flat())
