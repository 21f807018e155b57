"""What one training run is made of: the `model` and `train` sections of params.yaml.

Everything here changes the result of a training run, and nothing else does but the images and the seed: a search
dimension may replace any of these fields.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FROZEN = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""Every section of params.yaml: an unread key cannot pass, nothing is converted, nothing changes later."""

Unit = Annotated[float, Field(ge=0, le=1)]


class ModelParams(BaseModel):
    """The network."""

    model_config = FROZEN

    name: Literal["cnn"] = "cnn"
    """cnn: two 3x3 convolutions and two fully connected layers."""
    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the first convolution; the second has twice as many."""
    hidden: int = Field(default=512, ge=1, le=8192)
    """Units of the hidden fully connected layer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the hidden units set to zero in training."""


class TrainParams(BaseModel):
    """How the network is trained."""

    model_config = FROZEN

    epochs: int = Field(default=20, ge=1, le=10_000)
    """Passes over the training images."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Images a step."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd (Nesterov where momentum > 0) or adamw."""
    learning_rate: float = Field(default=0.003, gt=0, le=10)
    """Peak learning rate."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd; adamw has its own and leaves this unread."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """L2 penalty (sgd) or decoupled decay (adamw) of weights; biases are left out."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    """Learning rate over the steps: constant, cosine to zero, or linear warm-up and linear decay to zero."""
    warmup: Unit = 0.2
    """Share of the steps over which one_cycle rises to its peak."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target spread evenly over the classes."""
    shift: int = Field(default=0, ge=0, le=64)
    """Each image is moved by up to this many pixels each way, at random (0: off)."""
    flip: bool = False
    """Half of the images are mirrored left to right; only for classes that a mirror does not change."""


class Recipe(BaseModel):
    """One training run, whole: every field resolved."""

    model_config = FROZEN

    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()

    def flat(self) -> dict[str, str | int | float | bool]:
        """Every field by its dotted name, as params.yaml, Optuna and MLflow call it."""
        sections = self.model_dump()
        return {f"{s}.{k}": v for s, fields in sections.items() for k, v in fields.items()}

    def replace(self, values: dict[str, str | int | float | bool]) -> "Recipe":
        """This recipe with the fields of the dotted names in `values` replaced, checked against their bounds."""
        sections = self.model_dump()
        for name, value in values.items():
            section, field = name.split(".", 1)
            sections[section][field] = value
        return Recipe.model_validate(sections)
