"""Which fields a training leaves unread: whatever they are, its result is the same."""

from collections.abc import Callable

from podium.config.recipe import Recipe
from podium.config.zoo import OWN

READ: dict[str, Callable[[Recipe], bool]] = {
    "model.width": lambda recipe: recipe.model.name in OWN,
    "model.depth": lambda recipe: recipe.model.name == "resnet",
    "model.hidden": lambda recipe: recipe.model.name == "cnn",
    "model.dropout": lambda recipe: recipe.model.name in OWN,
    "model.weights": lambda recipe: recipe.model.name not in OWN,
    "train.backbone_rate": lambda recipe: recipe.model.name not in OWN,
    "train.momentum": lambda recipe: recipe.train.optimizer in ("sgd", "muon"),
    "train.warmup": lambda recipe: recipe.train.schedule != "constant",
    "train.share_epochs": lambda recipe: recipe.train.share < 1,
}
"""When each of these is read; every other field always is."""


def is_unread(name: str, recipe: Recipe) -> bool:
    """Whether the training of `recipe` leaves its field `name` unread."""
    return name in READ and not READ[name](recipe)
