"""One training run. It knows neither Optuna nor MLflow, and goes on bit for bit from any step at which it was saved."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium import paths
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo
from podium.models.build import build_model, likes_channels_last, zoo_of
from podium.models.zoo import load_weights
from podium.training import precision
from podium.training.augment import augment, mix
from podium.training.averaging import Average
from podium.training.balance import class_weights
from podium.training.batches import Batches, bounds
from podium.training.history import Epoch
from podium.training.optim import build_optimizer, learning_rate, set_rate
from podium.training.seeds import derive

EVALUATION_BATCH = 1024
"""Images a forward pass without gradients: large enough to keep a core busy, small enough for its cache."""


class DivergedError(Exception):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Images:
    """What a model has to know of its images."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(info: DatasetInfo) -> "Images":
        """What dataset.json says of them."""
        channels, height, width = info.shape
        return Images((channels, height, width), len(info.classes), tuple(info.mean), tuple(info.std))


class TrainingRun:
    """A model in training, at a position: `epoch` epochs are finished and `step` steps of the next one are done."""

    def __init__(self, recipe: Recipe, images: Images, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        # The moments of units that have died come to almost nothing, which a CPU computes many times slower than 0.
        torch.set_flush_denormal(True)
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.model: nn.Module = _model(recipe, images).to(device)
        if device.type == "cuda" or likes_channels_last(recipe.model):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.fast, note = precision.choose(recipe.train.precision, self.model, images.shape, recipe.train.batch_size)
        self.notes = [note] if note else []
        self.average = Average(self.model, recipe.train.ema) if recipe.train.ema else None
        self.optimizer = build_optimizer(self.model, recipe.train)
        self.generator = torch.Generator(device=device)
        colour = [round(255 * value) for value in images.mean]
        self.mean = torch.tensor(colour, dtype=torch.uint8, device=device).view(1, -1, 1, 1)
        self.classes = images.classes
        self.class_weights: Tensor | None = None
        self.chances: Tensor | None = None
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.history: list[Epoch] = []

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept: the one in training, or the moving average of its weights."""
        return self.model if self.average is None else self.average.model

    def train(
        self,
        train: Batches,
        val: Batches | None,
        on_step: Callable[["TrainingRun"], None] = lambda run: None,
        on_epoch: Callable[["TrainingRun"], None] = lambda run: None,
    ) -> list[Epoch]:
        """Train to the recipe's last epoch and return the history.

        `on_step` is called after each step and `on_epoch` after each epoch: either may save the run, or end it by
        raising. Raises DivergedError when a loss is not finite.
        """
        self._balance(train.labels)
        while self.epoch < self.recipe.train.epochs:
            self._train_epoch(train, on_step)
            self._finish_epoch(train, val)
            on_epoch(self)
        return self.history

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "fast": self.fast,
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position that `state` returned."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fast = state["fast"]  # whatever the probe finds now: the rest is trained as the beginning was
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.loss_sum = state["loss_sum"].to(self.device)
        self.history = list(state["history"])

    def _train_epoch(self, train: Batches, on_step: Callable[["TrainingRun"], None]) -> None:
        params = self.recipe.train
        order = self._order(len(train))
        before, total = (self._steps(len(train), epochs) for epochs in (self.epoch, params.epochs))
        self.model.train()
        started = time.perf_counter() - self.seconds
        with closing(train.feed(order, params.batch_size, self.step)) as batches:
            for images, labels in batches:
                self.train_step(images, labels, learning_rate(params, before + self.step, total))
                if self.average is not None:
                    self.average.update(before + self.step)
                self.step += 1
                self.seconds = time.perf_counter() - started
                on_step(self)

    def train_step(self, images: Tensor, labels: Tensor, rate: float) -> None:
        """One step on a batch: images (B, C, H, W) uint8, labels (B,) int64, at the learning rate `rate`."""
        params = self.recipe.train
        set_rate(self.optimizer, rate)
        inputs, own = augment(images, params, self.generator, self.mean), 1.0
        if params.mixup or params.cutmix:
            inputs, own = mix(inputs, params, derive(self.seed, "mix", self.epoch, self.step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
            loss = self._loss(inputs, labels, labels.roll(1) if own < 1 else labels, own)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss.detach() * len(labels)  # stays on the device: no synchronisation a step

    def _loss(self, inputs: Tensor, labels: Tensor, others: Tensor, own: float) -> Tensor:
        """The mean loss of a batch; a run that is divided among several processes takes its share of it here."""
        return self.criterion(self.model(inputs), labels, others, own)

    def criterion(self, logits: Tensor, labels: Tensor, others: Tensor, own: float) -> Tensor:
        """The mean loss of `logits` (B, classes) of images that are by `own` of `labels` (B,), the rest of `others`."""
        smoothing = self.recipe.train.label_smoothing
        loss = F.cross_entropy(logits, labels, self.class_weights, label_smoothing=smoothing)
        if own == 1:
            return loss
        other = F.cross_entropy(logits, others, self.class_weights, label_smoothing=smoothing)
        return own * loss + (1 - own) * other

    def _balance(self, labels: Tensor) -> None:
        balance = self.recipe.train.balance
        weights = None if balance == "none" else class_weights(labels, self.classes)
        self.class_weights = weights if balance == "loss" else None
        self.chances = weights[labels].cpu() if weights is not None and balance == "sampling" else None

    def _order(self, count: int) -> Tensor:
        """The rows of this epoch, in order: they follow from seed and epoch, so a resumed epoch has the same."""
        shuffler = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        if self.step == 0:
            self.generator.manual_seed(derive(self.seed, "augment", self.epoch))
        taken = self._taken(count, self.epoch)
        if self.chances is not None:  # drawn with replacement, so that each class is as likely as every other
            return torch.multinomial(self.chances, taken, replacement=True, generator=shuffler).to(self.device)
        return torch.randperm(count, generator=shuffler)[:taken].to(self.device)

    def _taken(self, count: int, epoch: int) -> int:
        """How many of `count` images the epoch `epoch`, from 0, takes."""
        params = self.recipe.train
        return math.ceil(params.share * count) if not params.share_epochs or epoch < params.share_epochs else count

    def _steps(self, count: int, epochs: int) -> int:
        """The steps of the first `epochs` epochs over `count` images."""
        params = self.recipe.train
        early = min(epochs, params.share_epochs or epochs)
        steps = [len(bounds(taken, params.batch_size)) - 1 for taken in (self._taken(count, 0), count)]
        return early * steps[0] + (epochs - early) * steps[1]

    def _finish_epoch(self, train: Batches, val: Batches | None) -> None:
        count = self._taken(len(train), self.epoch)
        ended, total = (self._steps(len(train), epochs) for epochs in (self.epoch + 1, self.recipe.train.epochs))
        last = learning_rate(self.recipe.train, ended - 1, total)
        done: Epoch = {"epoch": self.epoch + 1, "train_loss": float(self.loss_sum) / count, "learning_rate": last}
        started = time.perf_counter()
        if math.isfinite(done["train_loss"]) and val is not None:
            done |= validate(self.result, val, self.fast)
        done["seconds"] = round(self.seconds + time.perf_counter() - started, 4)
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(done.get(name, 0.0)):
                raise DivergedError(
                    f"{name} became {done[name]} in epoch {self.epoch + 1}"
                    f" (train.learning_rate {self.recipe.train.learning_rate:.3g})"
                )
        self.history.append(done)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.loss_sum.zero_()


def _model(recipe: Recipe, images: Images) -> nn.Module:
    """The network with its first weights: random ones, or those of a file."""
    model = build_model(recipe.model, images.shape, images.classes, images.mean, images.std)
    zoo = zoo_of(model)
    if zoo is not None and recipe.model.weights:
        load_weights(zoo, paths.WEIGHTS / recipe.model.weights)
    if zoo is not None and recipe.train.backbone_rate == 0:
        zoo.freeze()
    return model


def validate(model: nn.Module, data: Batches, fast: bool) -> Epoch:
    """val_loss (mean cross-entropy) and val_accuracy (share of right answers) of `model` on `data`."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    with (
        torch.inference_mode(),
        torch.autocast(data.labels.device.type, torch.bfloat16, enabled=fast),
        closing(data.feed(torch.arange(len(data)), EVALUATION_BATCH)) as batches,
    ):
        for images, labels in batches:
            logits = model(images).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    return {"val_loss": float(loss) / len(data), "val_accuracy": float(right) / len(data)}
