"""What one training run is made of: the `model` and `train` sections of params.yaml.

Everything here changes the result of a training run, and nothing else does but the images and the seed: a search
dimension may replace any of these values. What a component alone reads is declared in the component's own file.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from podium import components
from podium.components import FROZEN, Choice, choice
from podium.config.problems import Unit, shown
from podium.config.section import Section, parameters_of, with_parameters

if TYPE_CHECKING:
    from podium.models.networks import Network

PACKAGED = "imagenet"
"""The `model.weights` that come as a package, with the install."""
WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(pt|pth|safetensors)")


def _weights(file: str) -> str:
    if file in ("", PACKAGED) or WEIGHTS.fullmatch(file):
        return file
    raise ValueError(
        f"must be {PACKAGED}, or the name of a .pt, .pth or .safetensors file in data/weights, without a folder;"
        f" got {file!r}"
    )


def _network(name: object) -> object:
    if not isinstance(name, str):
        raise ValueError(f"must be the name of a network; got {name!r}")
    return components.check_name("network", name)


def _list_of(value: object) -> object:
    """The augmentations as a list; a trial's record has their names in one text."""
    return [name for name in value.split(", ") if name] if isinstance(value, str) else value


@with_parameters
class ModelParams(Section):
    """The network. Parameters of another network than `name` are inactive."""

    KINDS: ClassVar[tuple[str, ...]] = ("network",)

    name: Annotated[str, BeforeValidator(_network)] = "cnn"
    """cnn, resnet, torchvision:<model>, timm:<model>, or your own class as module:Class from src/."""
    arguments: dict[str, components.Argument] = Field(default={})
    """Arguments of a network that is not Podium's; each can be searched: model.arguments.<name>."""
    weights: Annotated[str, AfterValidator(_weights)] = ""
    """timm, torchvision, your own: file in data/weights to start from, or imagenet; empty: random. A .pt, .pth or
    .safetensors file; imagenet: those that come with the install, for timm:tf_efficientnet_lite0."""
    normalize: Literal["weights", "data", "imagenet", "none"] = "weights"
    """How pixels are scaled: as for the weights, data, imagenet, or none (0 to 1). weights: as they were trained (data
    if none are named); data: to mean 0 and standard deviation 1 of the training images; imagenet: by ImageNet's."""
    flip_average: bool = False
    """Predict the mean over an image and its mirror image; inference takes twice as long. In validation, evaluation
    and serving alike."""
    crop_average: float = Field(default=0.0, ge=0, lt=1)
    """Predict the mean over an image and enlarged parts of this fraction of its sides; 0: off. The parts are the middle
    and the four corners, so inference takes six times as long, and a frozen backbone's features are not cached. For
    networks that learn from random parts (train.random_resized_crop)."""

    def network(self) -> "Network":
        """The network that `name` stands for, with its parameters."""
        found: Network = self.made("network", Choice(name=self.name, arguments=self.arguments))
        return found

    def chosen(self) -> list[tuple[str, Choice]]:
        """The network."""
        return [("network", Choice(name=self.name, arguments=self.arguments))]


@with_parameters
class TrainParams(Section):
    """How the network is trained."""

    KINDS: ClassVar[tuple[str, ...]] = ("loss", "optimizer", "schedule", "augmentation")

    epochs: int = Field(default=20, ge=1, le=10_000)
    """Passes over the training images."""
    data_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the training images in an epoch, others each time; for search.overrides."""
    data_fraction_epochs: int = Field(default=0, ge=0, le=10_000)
    """First epochs that data_fraction applies to, such as those before the first rung; 0: all."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Images per step."""
    loss: Annotated[Choice, choice("loss")] = Choice(name="cross_entropy")
    """cross_entropy, focal, bce, or your own function or class: logits and targets to a scalar."""
    optimizer: Annotated[Choice, choice("optimizer")] = Choice(name="adamw")
    """sgd, adamw, muon, a class of torch.optim, timm:<name>, or your own."""
    learning_rate: float = Field(default=0.003, gt=0, le=10)
    """Peak learning rate."""
    backbone_rate: Unit = 1.0
    """timm, torchvision: learning rate of all but the head, relative to learning_rate; 0: frozen."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """timm: learning rate of a layer relative to the layer after it; 1: the same for all. The backbone's last layer has
    backbone_rate."""
    head_epochs: int = Field(default=0, ge=0, le=10_000)
    """timm, torchvision: first epochs, in which the head alone learns, on cached features. They are part of
    epochs, and have no augmentation. After them backbone_rate applies, and the schedule, the moving average and the
    optimizer start anew, from the trained head."""
    schedule: Annotated[Choice, choice("schedule")] = Choice(name="one_cycle")
    """constant, cosine, one_cycle, a class of torch.optim.lr_scheduler, timm:<name>, or your own."""
    balance: Literal["none", "loss", "sampling"] = "none"
    """Give all classes the same weight: in the loss, or by sampling rare ones more often."""
    augment: Annotated[list[Annotated[Choice, choice("augmentation")]], BeforeValidator(_list_of)] = Field(default=[])
    """More augmentations, in order: Podium's, classes of torchvision.transforms.v2, or your own."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of the weights' moving average (EMA), which is validated and saved; 0: off."""
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"
    """auto: on CUDA bfloat16, or float16 where only that is fast; else float32. What a device does not have is refused:
    bfloat16 must be native, tf32 needs an NVIDIA GPU of compute capability 8.0 or higher. float16 scales the
    loss, and skips steps that overflow. A CPU takes bfloat16 or float16 only where a short probe is faster, so
    search.deterministic refuses them there."""
    deterministic: bool = False
    """CUDA: only kernels that give the same bits each time; slower. A CPU does so anyway, MPS does not.
    search.deterministic needs it on CUDA. Without it cuDNN times its kernels and takes the fastest. An operator that
    has no such kernel is an error."""
    program: Annotated[Choice | None, choice("program")] = None
    """Your own training loop as module:function, in place of Podium's (docs/extend.md)."""

    def chosen(self) -> list[tuple[str, Choice]]:
        """What each place names; the augmentations that a parameter of their own turns on are there too."""
        named = [("loss", self.loss), ("optimizer", self.optimizer), ("schedule", self.schedule)]
        named += [("augmentation", Choice(name=name)) for name in self._turned_on()]
        named += [("augmentation", one) for one in self.augment]
        return named + ([("program", self.program)] if self.program else [])

    def component(self, kind: str) -> Any:
        """The loss, optimizer, schedule or program that is named, with its parameters."""
        return self.made(kind, dict(self.chosen())[kind])

    def augmentations(self) -> list[Any]:
        """The augmentations that are on, in the order in which they are applied."""
        return [self.made(kind, one) for kind, one in self.chosen() if kind == "augmentation"]

    def uses_total(self) -> bool:
        """Whether an epoch of this training depends on `epochs`; if not, a longer training passes through it."""
        return any(self.made(kind, one).uses_total() for kind, one in self.chosen())

    @model_validator(mode="after")
    def _no_augmentation_is_applied_twice(self) -> Self:
        on = self._turned_on()
        for name in (one.name for one in self.augment if one.name in on):
            value = self.value(name)
            neutral = type(value)()  # False, 0 or 0.0
            raise ValueError(
                f"{name} would be applied twice: train.{name}: {shown(value)} turns it on, and train.augment lists it;"
                f" remove it from train.augment, or set train.{name} to {shown(neutral)}"
            )
        return self

    def labelled(self, label: str) -> list[Choice]:
        """Those of `augment` whose arguments are called train.augment.<label>.arguments."""
        return [one for one in self.augment if one.label == label]

    @model_validator(mode="after")
    def _arguments_of_augment_have_one_place(self) -> Self:
        for one in self.augment:
            alike = self.labelled(one.label)
            if len(alike) > 1 and any(other.arguments for other in alike):
                raise ValueError(
                    f"augment lists {' and '.join(other.name for other in alike)}, whose arguments would both be"
                    f" train.augment.{one.label}.arguments; rename one, such as by a function of your own around it"
                )
        return self

    def _turned_on(self) -> list[str]:
        """Augmentations that have a parameter of their own name: it turns them on."""
        known = sorted(components.declared("augmentation").items(), key=lambda item: item[1].ORDER)
        return [name for name, _ in known if self.value(name)]


class Recipe(BaseModel):
    """One training run, whole: every value resolved."""

    model_config = FROZEN

    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()

    def flat(self) -> dict[str, Any]:
        """Every value that the training reads by its dotted name, as params.yaml, Optuna and MLflow call it."""
        return dict(self._flat)

    @cached_property
    def _flat(self) -> dict[str, Any]:
        return self.model.flat("model") | self.train.flat("train")

    def nested(self) -> dict[str, dict[str, Any]]:
        """Everything that is set, section by section, as plain values: `model_validate` makes it this recipe again."""
        return {"model": self.model.plain(), "train": self.train.plain()}

    def resolved(self) -> dict[str, dict[str, Any]]:
        """What the training reads, section by section, as plain values: equal for recipes that train alike."""
        found = {}
        for name, section in (("model", self.model), ("train", self.train)):
            own = {field: value for field, value in section.plain().items() if field in section.OWN}
            read = {field.partition(".")[2]: value for field, value in section.flat(name).items()}
            found[name] = own | {field: v for field, v in sorted(read.items()) if field in parameters_of(type(section))}
        return found

    def replace(self, values: Mapping[str, Any]) -> "Recipe":
        """This recipe with the values of the dotted names replaced, checked against their bounds."""
        sections = self.nested()
        for name, value in sorted(values.items(), key=lambda item: item[0].count(".")):  # a name before its arguments
            section, _, field = name.partition(".")
            Section.put(sections[section], field, value)
        return Recipe.model_validate(sections)
