"""One training run. It knows neither Optuna nor MLflow, and goes on bit for bit from any step at which it was saved."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.batches import Batches, augment
from podium.history import Epoch
from podium.model import build_model
from podium.optim import build_optimizer, learning_rate
from podium.recipe import Recipe
from podium.seeds import derive

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


class TrainingRun:
    """A model in training, at a position: `epoch` epochs are finished and `step` steps of the next one are done."""

    def __init__(self, recipe: Recipe, images: Images, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        model = build_model(recipe.model, images.shape, images.classes, images.mean, images.std)
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.fast = device.type == "cuda"  # channels_last and bf16 pay on tensor cores, and cost on a small CPU net
        self.model: nn.Module = model.to(device)
        if self.fast:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, recipe.train)
        self.generator = torch.Generator(device=device)
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.history: list[Epoch] = []

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
        while self.epoch < self.recipe.train.epochs:
            self._train_epoch(train, on_step)
            self._finish_epoch(train, val)
            on_epoch(self)
        return self.history

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.loss_sum = state["loss_sum"].to(self.device)
        self.history = list(state["history"])

    def _train_epoch(self, train: Batches, on_step: Callable[["TrainingRun"], None]) -> None:
        order = self._order(len(train))
        size = self.recipe.train.batch_size
        steps = math.ceil(len(train) / size)
        total = steps * self.recipe.train.epochs
        self.model.train()
        started = time.perf_counter() - self.seconds
        while self.step < steps:
            rows = order[self.step * size : (self.step + 1) * size]
            rate = learning_rate(self.recipe.train, self.epoch * steps + self.step, total)
            self.train_step(train.images[rows], train.labels[rows], rate)
            self.step += 1
            self.seconds = time.perf_counter() - started
            on_step(self)

    def train_step(self, images: Tensor, labels: Tensor, rate: float) -> None:
        """One step on a batch: images (B, C, H, W) uint8, labels (B,) int64, at the learning rate `rate`."""
        params = self.recipe.train
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs = augment(images, params, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
            loss = self._loss(inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss.detach() * len(labels)  # stays on the device: no synchronisation a step

    def _loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch; a run that is divided among several processes takes its share of it here."""
        return F.cross_entropy(self.model(inputs), labels, label_smoothing=self.recipe.train.label_smoothing)

    def _order(self, count: int) -> Tensor:
        """This epoch's order of the images; it follows from seed and epoch, so a resumed epoch has the same."""
        shuffler = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        if self.step == 0:
            self.generator.manual_seed(derive(self.seed, "augment", self.epoch))
        return torch.randperm(count, generator=shuffler).to(self.device)

    def _finish_epoch(self, train: Batches, val: Batches | None) -> None:
        steps = self.step
        last = learning_rate(self.recipe.train, (self.epoch + 1) * steps - 1, steps * self.recipe.train.epochs)
        done: Epoch = {"epoch": self.epoch + 1, "train_loss": float(self.loss_sum) / len(train), "learning_rate": last}
        started = time.perf_counter()
        if math.isfinite(done["train_loss"]) and val is not None:
            done |= validate(self.model, val, self.fast)
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


def validate(model: nn.Module, data: Batches, fast: bool) -> Epoch:
    """val_loss (mean cross-entropy) and val_accuracy (share of right answers) of `model` on `data`."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    with torch.inference_mode(), torch.autocast(data.labels.device.type, torch.bfloat16, enabled=fast):
        for start in range(0, len(data), EVALUATION_BATCH):
            labels = data.labels[start : start + EVALUATION_BATCH]
            logits = model(data.images[start : start + EVALUATION_BATCH]).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    return {"val_loss": float(loss) / len(data), "val_accuracy": float(right) / len(data)}
