"""What one training run is made of: the `model` and `train` sections of params.yaml.

Everything here changes the result of a training run, and nothing else does but the images and the seed: a search
dimension may replace any of these fields.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from podium.config.zoo import check_name, check_weights

FROZEN = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""Every section of params.yaml: an unread key cannot pass, nothing is converted, nothing changes later."""

Unit = Annotated[float, Field(ge=0, le=1)]


class ModelParams(BaseModel):
    """The network. A field that `name` does not mention is not read by it."""

    model_config = FROZEN

    name: Annotated[str, AfterValidator(check_name)] = "cnn"
    """cnn (width, hidden, dropout), resnet (width, depth, dropout) or torchvision:<model> (weights)."""
    width: int = Field(default=32, ge=1, le=1024)
    """cnn: channels of the first convolution, the second has twice as many; resnet: of the first of its three stages,
    each next one has twice as many."""
    depth: int = Field(default=1, ge=1, le=32)
    """resnet: residual blocks in each of its three stages."""
    hidden: int = Field(default=512, ge=1, le=8192)
    """cnn: units of the hidden fully connected layer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the last layer's inputs set to zero in training."""
    weights: Annotated[str, AfterValidator(check_weights)] = ""
    """torchvision: file in data/weights whose weights training starts from (.pt, .pth, .safetensors); empty: random."""
    flip_average: bool = False
    """The answer is the mean over an image and its mirror: in validation, evaluation and serving alike."""


class TrainParams(BaseModel):
    """How the network is trained."""

    model_config = FROZEN

    epochs: int = Field(default=20, ge=1, le=10_000)
    """Passes over the training images."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training images that an epoch takes, other ones each time; made for `search.fraction`."""
    share_epochs: int = Field(default=0, ge=0, le=10_000)
    """Epochs from the first one on that `share` holds for, such as those before the first rung (0: all of them)."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Images a step."""
    optimizer: Literal["sgd", "adamw", "muon"] = "adamw"
    """sgd (Nesterov where momentum > 0), adamw, or muon: Muon for the hidden layers with adamw for the others."""
    learning_rate: float = Field(default=0.003, gt=0, le=10)
    """Peak learning rate."""
    backbone_rate: Unit = 1.0
    """torchvision: learning rate of all but the last layer, as a share of learning_rate (0: frozen)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd and muon; adamw has its own and leaves this unread."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """L2 penalty (sgd) or decoupled decay (adamw, muon) of weights; biases are left out."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    """Learning rate over the steps: constant, or a linear warm-up and then a cosine or a line down to zero."""
    warmup: Unit = 0.2
    """cosine, one_cycle: share of the steps over which the rate rises to its peak."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target spread evenly over the classes."""
    balance: Literal["none", "loss", "sampling"] = "none"
    """Classes of different sizes count alike: by weights in the loss, or by drawing rare ones more often."""
    shift: int = Field(default=0, ge=0, le=64)
    """Random crop: each image is moved by up to this many pixels each way, its edges repeated outward (0: off)."""
    flip: bool = False
    """Half of the images are mirrored left to right; only for classes that a mirror does not change."""
    cutout: int = Field(default=0, ge=0, le=1024)
    """Side of a square of each image, in pixels, that becomes the mean colour (0: off)."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """Pairs of images are blended; alpha of the Beta distribution of their shares (0: off)."""
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """A box of each image comes from another one; alpha as for mixup (0: off). With both, one of them each step."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the weights' moving average, which is then what is validated and kept (0: off)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on CUDA, float32 on the CPU. bfloat16 on a CPU: where it has it and a short probe is faster."""


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
