"""Dimensions that no training of the search reads: a table of spaces, each with what is said of it."""

from pathlib import Path

import pytest

from podium.config import inactive
from podium.config.params import parse
from podium.errors import InputError

DEPTH = "model.depth: {low: 1, high: 3}"
WIDTH = "model.width: {low: 4, high: 8}"
MOMENTUM = "train.momentum: {low: 0.0, high: 0.9}"
DECAY = "train.weight_decay: {low: 0.0, high: 0.1}"


@pytest.mark.parametrize(
    ("recipe", "space", "words"),
    [
        ("", DEPTH, "model.depth: cnn does not read it: every value would give the same training. Take it out of"),
        ("", DEPTH, "or search model.name with resnet"),
        ("", MOMENTUM, "train.momentum: adamw does not read it"),
        ("", MOMENTUM, "search train.optimizer with muon or sgd"),
        ("", "train.focal_gamma: {low: 1.0, high: 3.0}", "cross_entropy does not read it"),
        ("", "train.crop_ratio: {low: 1.0, high: 2.0}", "nothing reads it: every value would give the same training"),
        ("", "train.crop_ratio: {low: 1.0, high: 2.0}", "or turn on random_resized_crop"),
        ("", "train.backbone_rate: {low: 0.1, high: 1.0}", "with timm:<name> or torchvision:<name>"),
        ("", "model.weights: {choices: ['', a.pt]}", "model.weights: cnn does not read it"),
        ("model: {name: 'my_net:CNN'}", WIDTH, "my_net:CNN itself takes is searched as model.arguments.<name>"),
        ("train: {optimizer: Adam}", DECAY, "what Adam itself takes is searched as train.optimizer.arguments.<name>"),
        ("train: {schedule: constant}", "train.warmup: {low: 0.1, high: 0.3}", "constant does not read it"),
        ("", f"{MOMENTUM}, train.optimizer: {{choices: [adamw, Adam]}}", "adamw, Adam do not read it"),
        ("train: {optimizer: sgd}", f"{MOMENTUM}, train.optimizer: {{choices: [adamw]}}", "adamw does not read it"),
        ("", "train.momentum: {low: 0.0, high: 0.9, when: {train.optimizer: [adamw]}}", "adamw does not read it"),
    ],
)
def test_dimension_that_nothing_reads_is_refused_with_what_to_do(recipe: str, space: str, words: str) -> None:
    params = parse(f"{recipe}\nsearch: {{space: {{{space}}}}}")
    with pytest.raises(InputError, match="^search.space.") as caught:
        inactive.check(params.recipe(), params.search)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "space"),
    [
        ("", "{}"),
        ("", f"{{{WIDTH}, {DECAY}, train.epochs: {{low: 1, high: 3}}, train.cutout: {{choices: [0, 4]}}}}"),
        ("", f"{{{DEPTH}, model.name: {{choices: [cnn, resnet]}}}}"),
        ("", f"{{{MOMENTUM}, train.optimizer: {{choices: [adamw, sgd]}}}}"),
        ("", "{train.momentum: {low: 0.0, high: 0.9, when: {train.optimizer: [sgd]}}}"),
        ("", "{train.crop_ratio: {low: 1.0, high: 2.0}, train.random_resized_crop: {low: 0.1, high: 0.5}}"),
        ("train: {augment: [random_resized_crop]}", "{train.crop_ratio: {low: 1.0, high: 2.0}}"),
        ("model: {name: timm:resnet10t}", "{train.backbone_rate: {low: 0.1, high: 1.0}}"),
        ("model: {name: 'my_net:CNN'}", "{model.weights: {choices: ['', a.pt]}, model.arguments.q: {low: 1, high: 2}}"),
        ("", f"{{{MOMENTUM}}}, overrides: {{train.optimizer: sgd}}"),
    ],
)
def test_dimension_that_some_training_reads_is_right(recipe: str, space: str) -> None:
    params = parse(f"{recipe}\nsearch: {{space: {space}}}")
    inactive.check(params.recipe(), params.search)


@pytest.mark.parametrize("path", ["params.yaml", *(f"presets/{one.name}" for one in Path("presets").glob("*.yaml"))])
def test_every_dimension_that_podium_shows_is_read(path: str) -> None:
    params = parse(Path(path).read_text(encoding="utf-8"))
    inactive.check(params.recipe(), params.search)
