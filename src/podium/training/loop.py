"""One training run. It knows neither Optuna nor MLflow, and resumes bit for bit from any step at which it was saved."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from podium import components
from podium.config.recipe import Recipe
from podium.metrics.scores import Metric
from podium.models.build import backbone_of, model_on, notes_of
from podium.models.networks import ImageSpec
from podium.training import compiling, features
from podium.training import device as devices
from podium.training.augmenting import Augmenter
from podium.training.batches import Balanced, Batches
from podium.training.checkpoint import TornCheckpointError
from podium.training.epoch_metrics import EpochMetrics
from podium.training.epochs import Epoch
from podium.training.first_look import first_look
from podium.training.footprint import parts_of_batch
from podium.training.losses import for_loss
from podium.training.optimization import (
    Average,
    Frozen,
    build_optimizer,
    class_weights,
    learning_state,
    load_learning_state,
    set_rate,
)
from podium.training.own_state import OwnState, PassedOn
from podium.training.precision import LossScale, autocast, choose_precision, missing_type
from podium.training.seeds import derive
from podium.training.step_counts import images_taken, phase_of, steps_of, steps_of_phase


class DivergedError(Exception):
    """The loss is no longer a finite number."""


class TrainingRun:
    """A model in training, at a position: `epoch` epochs are finished and `step` steps of the next one are done."""

    ON_FEATURES: ClassVar[bool] = True
    """Whether a head is trained on features where it can be."""
    TRAINS: ClassVar[bool] = True
    """Whether it takes steps on its device; else that need not have `train.precision`, nor is it probed there."""

    def __init__(
        self,
        recipe: Recipe,
        images: ImageSpec,
        seed: int,
        device: torch.device,
        metric: Metric | None = None,
        more: Sequence[Metric] = (),
        logged: Sequence[Metric] = (),
    ) -> None:
        """`metric`, `more`, `logged`: what epochs have besides accuracy and loss, see EpochMetrics."""
        devices.set_seed(seed)
        # The moments of units that have died come to almost nothing, which a CPU computes many times slower than 0.
        torch.set_flush_denormal(True)
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.metrics = EpochMetrics(metric, more, logged, images.names)
        head_first = recipe.train.head_epochs > 0 or recipe.train.backbone_rate == 0
        self.model: nn.Module = model_on(device, recipe.model, images, frozen=head_first)
        wanted = recipe.train.precision if self.TRAINS else "float32"
        self.fast, note = choose_precision(wanted, self.model, images.shape, recipe.train.batch_size)
        self.notes = [*notes_of(self.model), *([note] if note else [])]
        devices.set_kernels(device, tf32=recipe.train.precision == "tf32", deterministic=recipe.train.deterministic)
        self._learning: nn.Module = self.model  # what a step calls: the network, or its head alone
        self.average = Average(self.model, recipe.train.ema) if recipe.train.ema else None
        self._judged: nn.Module = self.result
        self.optimizer = build_optimizer(self.model, recipe.train, images.shape)
        self.schedule = recipe.train.component("schedule")
        self.augmenter = Augmenter(recipe, images, seed, device)
        self.classes, self.shape = images.classes, images.shape
        ones = torch.ones(images.classes, device=device)
        self.class_weights: Tensor | None = ones if recipe.train.balance == "loss" else None
        self.balanced: Balanced | None = None
        self.loss = self._new_loss()
        """Until the training images are known, each class has the same weight."""
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.loss_scale = LossScale(device, self.fast, self.model)
        self.loss_sum = torch.zeros((), dtype=devices.widest(device), device=device)
        self.history: list[Epoch] = []
        self.measured: Epoch = {}
        """What it is judged by where that is not its last epoch, as of an own training loop; empty: it is."""
        self.parts = 1
        """Into how many parts a batch is divided, whose gradients are added up: see `fit_into_memory`."""
        self._is_fitted = False
        self._compiled: Any = None
        self._frozen = Frozen(self.model)
        self._own = self._own_state()
        self._of_loss: dict[str, Any] = {}

    def fit_into_memory(self, *, least: int = 1) -> None:
        """Divide each batch into as many parts as the memory demands, `least` at least."""
        size, shape, self._is_fitted = self.recipe.train.batch_size, self.shape, True
        with devices.own_numbers(self.device):  # and a loss of its own: what is measured is not counted
            self.parts, note = parts_of_batch(self.model, self._new_loss(), shape, size, self.fast)
        if least > self.parts:
            self.parts = min(least, max(1, size // 2))
            note = f"train.batch_size {size}: out of memory; its gradients are added up over {self.parts} parts"
        self.notes += [note] if note else []

    def compile_where_it_pays(self, count: int, until: int | None = None) -> None:
        """torch.compile for the rest of a training on `count` images, where measured steps say that it pays; not where
        a head alone learns. `until`: the epoch, from 1, after which it rests: who goes on compiles once more."""
        backbone = backbone_of(self.model)
        if self._compiled is not None or (backbone is not None and backbone.frozen):
            return
        params = self.recipe.train
        size = max(1, params.batch_size // self.parts)
        left = steps_of(params, count, until or params.epochs) - steps_of(params, count, self.epoch) - self.step
        worth, notes = compiling.pays(self.model, self.shape, min(size, count), self.fast, left * self.parts)
        self._compile(worth)
        self.notes += notes

    def _compile(self, worth: bool) -> None:
        """Steps call the compiled network; the validation calls the plain one, which needs no second compilation."""
        self._compiled = torch.compile(self.model) if worth else None

    def _compiles_here(self) -> bool:
        """Whether this machine compiles the network too, as the one where the training began did."""
        size = max(1, self.recipe.train.batch_size // self.parts)
        notes = compiling.fails_here(self.model, self.shape, size, self.fast)
        self.notes += [note for note in notes if note not in self.notes]
        return not notes

    @property
    def result(self) -> nn.Module:
        """The network that is validated and saved: the one in training, or the moving average of its weights."""
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
        for model in {self.model, self.result} if self.epoch == self.step == 0 else ():
            first_look(model, train, derive(self.seed, "look"), next(model.children()))
        seen = self._on_features(train, val)
        while self.epoch < self.recipe.train.epochs:
            if self._head_alone and self.epoch == self.recipe.train.head_epochs:
                self._thaw()
                seen = self._on_features(train, val)
            self._train_epoch(seen[0], on_step)
            self._finish_epoch(*seen)
            on_epoch(self)
        return self.history

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain values."""
        self.metrics.complete(self.history, self.notes)
        return {
            "model": learning_state(self.model),
            "average": None if self.average is None else learning_state(self.average.model),
            "frozen": self._frozen.digest(),
            "optimizer": self.optimizer.state_dict(),
            "fast": self.fast,
            "loss_scale": self.loss_scale.state(),
            "head_alone": self._head_alone,
            "parts": self.parts,
            "compiled": self._compiled is not None,
            "own": self._own.state(),
            "generator": self.augmenter.generator.get_state(),
            "numbers": devices.all_numbers(self.device),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position that `state` returned.

        Raises TornCheckpointError, before anything has changed, where `refusal` says why.
        """
        if why := self.refusal(state):
            raise TornCheckpointError(why)
        if self._thaws(state):
            self._thaw()
        load_learning_state(self.model, state["model"])
        if self.average is not None:
            load_learning_state(self.average.model, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fast = state["fast"]  # whatever the probe finds now: the rest is trained as the beginning was
        self.loss_scale = LossScale(self.device, self.fast, self.model)
        self.loss_scale.restore(state["loss_scale"])
        self.parts = max(self.parts, state["parts"])  # likewise, unless there is less memory now
        self._compile(state["compiled"] and self._compiles_here())
        self._of_loss = state["own"]
        self.notes += self._own.restore(state["own"])
        self.augmenter.generator.set_state(state["generator"].cpu())
        devices.set_all_numbers(self.device, state["numbers"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.loss_sum = state["loss_sum"].to(self.device)
        self.history = list(state["history"])

    def refusal(self, state: dict[str, Any]) -> str:
        """Why `restore` takes no `state`: it goes with other weights of a frozen backbone, or was trained in a type
        that this device does not have. Empty: it does.
        """
        if self.TRAINS and (why := missing_type(state["fast"], self.device)):
            return why
        if state.get("frozen", "") != ("" if self._thaws(state) else self._frozen.digest()):
            return "the frozen weights that it goes with are no longer those of the backbone"
        return ""

    def _thaws(self, state: dict[str, Any]) -> bool:
        """Whether everything learns in `state` and the head alone does here."""
        return self._head_alone and not state["head_alone"]

    @property
    def _head_alone(self) -> bool:
        """Whether the head learns alone for now, before everything does (J. Howard and S. Ruder, ULMFiT, ACL 2018)."""
        backbone = backbone_of(self.model)
        return bool(backbone and backbone.frozen and self.recipe.train.backbone_rate)

    def _thaw(self) -> None:
        """From here on everything learns, from the head that was judged, with a new optimizer and a new average."""
        self.model.load_state_dict(self.result.state_dict())
        backbone = backbone_of(self.model)
        if backbone is None:
            raise TypeError("the model has no backbone")
        backbone.thaw()
        if self.average is not None:
            self.average = Average(self.model, self.recipe.train.ema)
        self.optimizer = build_optimizer(self.model, self.recipe.train, self.shape)
        if self._is_fitted:  # a step through everything takes more than one of the head
            self.fit_into_memory(least=self.parts)

    def _on_features(self, train: Batches, val: Batches | None) -> tuple[Batches, Batches | None]:
        """The images; where only a head learns and nothing changes their pixels, what its frozen backbone makes of
        them, computed once: the steps and the validation are then those of the head alone, with the same numbers.
        """
        self._learning, self._judged = self._compiled or self.model, self.result
        augmented = not self._head_alone and self.augmenter
        if not self.ON_FEATURES or augmented:
            return train, val
        first = features.of_images(self.model, train, self.fast, mirrored=False)
        flips = self.recipe.model.flip_average
        second = val and first and features.of_images(self.model, val, self.fast, mirrored=flips)
        if first is None or (val is not None and second is None):
            return train, val
        self._learning, self._judged = features.head_of(self.model), features.head_of(self.result)
        return first, second

    def _train_epoch(self, train: Batches, on_step: Callable[["TrainingRun"], None]) -> None:
        params = self.recipe.train
        order = self._order(len(train))
        before, total = steps_of_phase(params, self._phase(), len(train), self.epoch)
        self.model.train()
        started = time.perf_counter() - self.seconds
        with closing(train.feed(order, params.batch_size, self.step)) as batches:
            for images, labels in batches:
                self.train_step(images, labels, self._rate(before + self.step, total))
                if self.average is not None:
                    self.average.update(before + self.step)
                self.step += 1
                self.seconds = time.perf_counter() - started
                on_step(self)

    def train_step(self, images: Tensor, labels: Tensor, rate: float) -> None:
        """One step on a batch: images (B, C, H, W) uint8, labels (B,) int64, at the learning rate `rate`."""
        set_rate(self.optimizer, rate)
        inputs, own = self._augmented(images)
        others = labels.roll(1) if own < 1 else labels
        for rows in self._rows_of_parts(labels):
            with autocast(self.device, self.fast):
                if rows is None:
                    loss = self._loss(inputs, labels, others, own)
                else:
                    loss = self._loss_of_part(inputs, labels, others, own, rows)
            self.loss_scale.backward(loss)
            self.loss_sum += loss.detach() * len(labels)  # stays on the device: no synchronisation a step
        self.loss_scale.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def _rows_of_parts(self, labels: Tensor) -> Sequence[Tensor | None]:
        """The rows of each part of a batch; None: it is whole."""
        parts = min(self.parts, max(1, len(labels) // 2))
        return torch.arange(len(labels), device=labels.device).tensor_split(parts) if parts > 1 else (None,)

    def _loss_of_part(self, inputs: Tensor, labels: Tensor, others: Tensor, own: float, rows: Tensor) -> Tensor:
        """What the images of `rows` add to the mean loss of the batch."""
        logits = self._learning(inputs[rows])
        loss: Tensor = self.loss(for_loss(logits, own), labels[rows]) * self._weight(labels, rows)
        if own == 1:
            return loss
        second: Tensor = self.loss(logits, others[rows]) * self._weight(others, rows)
        return own * loss + (1 - own) * second

    def _weight(self, labels: Tensor, rows: Tensor | slice) -> Tensor | float:
        """Which part of the whole weight of a batch of `labels` the images of `rows` have."""
        mine, weights = labels[rows], self.class_weights
        return len(mine) / len(labels) if weights is None else weights[mine].sum() / weights[labels].sum()

    def _augmented(self, images: Tensor) -> tuple[Tensor, float]:
        """The batch as the network gets it, and which fraction of each image is its own."""
        return (images, 1.0) if self._head_alone else self.augmenter.apply(images, self.epoch, self.step)

    def _loss(self, inputs: Tensor, labels: Tensor, others: Tensor, own: float) -> Tensor:
        """The mean loss of a batch; a run that is divided among several processes takes its share of it here."""
        return self.criterion(self._learning(inputs), labels, others, own)

    def criterion(self, logits: Tensor, labels: Tensor, others: Tensor, own: float) -> Tensor:
        """The mean loss of `logits` (B, classes) of images that are by `own` of `labels` (B,), the rest of `others`."""
        loss: Tensor = self.loss(for_loss(logits, own), labels)
        return loss if own == 1 else own * loss + (1 - own) * self.loss(logits, others)

    def _rate(self, step: int, total: int) -> float:
        """The learning rate of step `step` of `total` of this phase."""
        first, end = self._phase()
        return self.recipe.train.learning_rate * float(
            self.schedule.factor(step, total, self.epoch - first, end - first)
        )

    def _phase(self) -> tuple[int, int]:
        return phase_of(self.recipe.train, head_alone=self._head_alone, head_was=backbone_of(self.model) is not None)

    def _new_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        with devices.own_numbers(self.device, derive(self.seed, "loss")):  # an own one may begin with random numbers
            loss: Callable[[Tensor, Tensor], Tensor] = self.recipe.train.component("loss").build(self.class_weights)
        return loss

    def _own_state(self) -> OwnState:
        """What people's own objects hold: those of the loss, the schedule and augmentations, and an own network."""
        if not self.TRAINS:
            return PassedOn({}, self.device)
        named = {"train.loss": self.loss, "train.schedule": self.schedule}
        own = {name: getattr(one, "own", None) for name, one in named.items()} | self.augmenter.own
        network = self.model if components.find("network", self.recipe.model.name) is None else None
        return OwnState({name: one for name, one in own.items() if one is not None}, self.device, network)

    def _balance(self, labels: Tensor) -> None:
        params = self.recipe.train
        if params.balance == "loss":
            self.class_weights = class_weights(labels, self.classes)
            self.loss = self._new_loss()
            if (own := getattr(self.loss, "own", None)) is not None:
                self._own.replace("train.loss", own, self._of_loss)
        self._of_loss = {}
        self.balanced = Balanced(labels, self.classes) if params.balance == "sampling" else None

    def _order(self, count: int) -> Tensor:
        """The rows of this epoch, in order: they follow from seed and epoch, so a resumed epoch has the same."""
        shuffler = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        if self.step == 0:
            self.augmenter.begin_epoch(self.epoch)
            self._seed_others()
        some = images_taken(self.recipe.train, count, self.epoch)
        if self.balanced is not None:
            return self.balanced.draw(some, shuffler).to(self.device)
        return torch.randperm(count, generator=shuffler)[:some].to(self.device)

    def _seed_others(self) -> None:
        """numpy's and Python's numbers, which own code may draw: each epoch has its own."""
        devices.seed_others(derive(self.seed, "others", self.epoch))

    def _finish_epoch(self, train: Batches, val: Batches | None) -> None:
        count = images_taken(self.recipe.train, len(train), self.epoch)
        ended, total = steps_of_phase(self.recipe.train, self._phase(), len(train), self.epoch + 1)
        last = self._rate(ended - 1, total)
        done: Epoch = {"epoch": self.epoch + 1, "train_loss": float(self.loss_sum) / count, "learning_rate": last}
        started = time.perf_counter()
        if math.isfinite(done["train_loss"]) and val is not None:
            done |= self.metrics.judge(self._judged, val, self.fast, done["epoch"], self.seconds)
            if self.metrics.enough or done["epoch"] == self.recipe.train.epochs:
                done |= self.metrics.complete(self.history, self.notes).get(done["epoch"], {})
        seconds = self.seconds + time.perf_counter() - started
        done |= self.loss_scale.since(self.history) | {"seconds": round(seconds, 4)}
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(done.get(name, 0.0)):
                raise DivergedError(
                    f"{name} became {done[name]} in epoch {self.epoch + 1}"
                    f" (train.learning_rate {self.recipe.train.learning_rate:.3g})"
                )
        self.history.append(done if val is None else self.metrics.defined(done, val, self.notes))
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.loss_sum.zero_()
