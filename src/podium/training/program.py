"""People's own training loop (`train.program`), run in the place of Podium's, between the same beginning and end.

The function is called with those of these arguments that it names: `config` (every setting by its dotted name),
`train_set` and `val_set` (torch data sets, with batches on the device), `images` (their shape and number of classes),
`network` (builds what `model.name` stands for), `device`, `seed` and `run`; the others of its arguments are settings,
`train.program.arguments.<name>`. It returns a torch module: normalised float images in, logits out.
"""

import copy
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, NoReturn

import torch
from torch import nn

from podium import components, own_code
from podium.components import Choice, Component
from podium.config.recipe import Recipe
from podium.errors import InputError
from podium.metrics.scores import Metric
from podium.models.build import normalisation
from podium.models.layers import Normalize, only_logits, unwrapped, whole_of
from podium.models.networks import ImageSpec
from podium.training.batches import Batches
from podium.training.device import all_numbers, set_all_numbers, set_seed
from podium.training.epoch_metrics import EpochMetrics
from podium.training.epochs import Epoch
from podium.training.image_set import ImageSet
from podium.training.loop import DivergedError, TrainingRun
from podium.training.network_check import check_export, check_predictions
from podium.training.plain_state import is_plain, packed, unpacked, with_plain_dicts

OFFERED = ("config", "train_set", "val_set", "images", "network", "device", "seed", "run")
FUNCTIONS = (FunctionType, BuiltinFunctionType)
TOLERANCE = 1e-3
"""By how much a reported metric may differ from that of the returned module before a note is logged."""
ROUNDING = 1e-4
"""By how much a reported metric may leave its range."""
TRIED = 4
"""Images with which the returned module is tried."""
_exported: set[tuple[str, type, tuple[int, ...], str]] = set()
"""Programs, each with the type of module that it returned, the images and what it was built of, that were exported in
this process."""


class Program(Component):
    """Somebody's own training loop."""

    chosen: Choice

    def uses_total(self) -> bool:
        """It may: every setting is handed to it, `train.epochs` too."""
        return True

    def check(self) -> Callable[..., Any]:
        """The function. Raises InputError where it is not there, or asks for what it is not given."""
        function: Callable[..., Any] = components.load("program", self.chosen.name)
        given = self.chosen.arguments
        own_code.check_arguments(function, self.chosen.name, "train.program", given, set(OFFERED))
        return function


def wrap(choice: Choice) -> Program:
    """Somebody's own training loop as a component."""
    return Program(chosen=choice)


class Handle:
    """What an own training loop has of Podium: it reports, saves and loads."""

    def __init__(self, run: "ProgramRun") -> None:
        self._run = run

    def report(self, epoch: int, **metrics: float) -> None:
        """End epoch `epoch`, from 1, with its metrics; val_<search.metric> has to be among them.

        The trial may end here: the search has seen enough. Raises InputError for a metric that is missing or no
        number, or an epoch out of its turn.
        """
        self._run.report(epoch, metrics)

    def save(self, state: dict[str, Any]) -> None:
        """Save `state`, tensors, plain values, arrays and usual collections of them, as that after the last reported
        epoch: a killed trial gets it back, and the random numbers of torch, numpy and Python with it.

        The trial may end here: it rests, and goes on from this state. Raises InputError for anything else, naming where
        it is.
        """
        self._run.save(state)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; None: begin at the beginning.

        The random numbers of torch, numpy and Python go on from where they were when it was saved.
        """
        return self._run.load()


class _Unwind(BaseException):
    """Leaves an own training loop through whatever it catches."""


class ProgramRun:
    """An own training loop, with the interface of TrainingRun."""

    def __init__(
        self,
        recipe: Recipe,
        images: ImageSpec,
        seed: int,
        device: torch.device,
        metric: Metric | None = None,
        more: Sequence[Metric] = (),
    ) -> None:
        """`metric` has to be reported each epoch, None: none has; of `more` the function reports what it likes."""
        set_seed(seed)
        self.recipe, self.images, self.seed, self.device = recipe, images, seed, device
        self.program: Program = recipe.train.component("program")
        self.metric = metric
        self.metrics = EpochMetrics(metric, more, (), images.names)
        self.history: list[Epoch] = []
        """As it was reported."""
        self.measured: Epoch = {}
        """The figures of the returned module on the validation images: what the trial is judged by."""
        self.notes: list[str] = []
        self.model: nn.Module | None = None
        self.fast: torch.dtype | None = None
        self.step, self.parts = 0, recipe.train.batch_size
        self.seconds = 0.0
        self._saved: dict[str, Any] = {"program": None, "history": []}
        self._loaded = False
        self._started = 0.0
        self._stop: BaseException | None = None
        self._rest: Any = None
        """What ends it as soon as it has saved the epoch that it has reported: see `report`."""
        self._saves = True
        """Whether it may save: not where it had an occasion to and did not."""

    def fit_into_memory(self, *, least: int = 1) -> None:
        """An own training loop divides its batches itself."""

    @property
    def epoch(self) -> int:
        """Epochs that have ended."""
        return len(self.history)

    @property
    def result(self) -> nn.Module:
        """The returned module, after normalisation: raw uint8 images in, logits out."""
        if self.model is None:
            raise InputError(f"train.program: {self.program.chosen.name} has returned no module yet")
        return self.model

    def train(
        self,
        train: Batches,
        val: Batches | None,
        on_step: Callable[[Any], None] = lambda run: None,
        on_epoch: Callable[[Any], None] = lambda run: None,
    ) -> list[Epoch]:
        """Call the function; its reports and saves reach `on_epoch` and `on_step`. Raises what these raise.

        Without `val`, in the retraining, the training images stand for it, so that the function runs as it did.
        """
        self._on_step, self._on_epoch = on_step, on_epoch
        normalize = Normalize(*normalisation(self.recipe.model, self.images)).to(self.device)
        sets = [ImageSet(data, normalize, self.seed) for data in (train, val or train)]
        self._started = time.perf_counter()
        try:
            module = self._call(*sets)
        except _Unwind:
            module = None
        if self._stop is not None:
            raise self._stop
        self.model = self._checked(module, normalize, train)
        if val is not None:
            self._measure(val)
        return self.history

    def state(self) -> dict[str, Any]:
        """What was saved last."""
        return self._saved

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self._saved, self._saves = state, state["program"] is not None
        self.history = list(state["history"])

    def load(self) -> dict[str, Any] | None:
        """See Handle."""
        self._loaded = True
        if (numbers := self._saved.get("numbers")) is not None:
            set_all_numbers(self.device, numbers)
        state: dict[str, Any] | None = unpacked(self._saved["program"])
        return state

    def save(self, state: dict[str, Any]) -> None:
        """See Handle."""
        whole = packed(with_plain_dicts(state), "the state")
        self._saved = {"program": whole, "history": list(self.history), "numbers": all_numbers(self.device)}
        if self._rest is not None:
            self._rest.after_save(self)
            self._leave(self._rest)
        self._hook(self._on_step)

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """See Handle.

        A trial that is to rest for a while ends here, or with the save that follows: else the epoch would be trained
        once more when it goes on.
        """
        if self._rest is not None:
            self._leave(self._rest)
        if not self._loaded:  # it starts again, whatever was saved
            self.history, self._loaded = [], True
        if epoch != self.epoch + 1:
            raise InputError(f"run.report: epochs follow one another; expected {self.epoch + 1}, got {epoch}")
        now = time.perf_counter()
        done: Epoch = {"epoch": epoch} | {name: self._number(name, value, epoch) for name, value in metrics.items()}
        wanted = f"val_{self.metric.label}" if self.metric is not None else ""
        if wanted and wanted not in done:
            raise InputError(
                f"run.report: {wanted} must be among the metrics, for search.metric is"
                f" {wanted.removeprefix('val_')}; got {', '.join(metrics) or 'none'}"
            )
        done["seconds"] = round(now - self._started, 4)
        self.history.append(done)
        self._started = now
        self._hook(self._on_epoch)
        self._hook(self._on_step)

    def _call(self, train_set: ImageSet, val_set: ImageSet) -> Any:
        function, name = self.program.check(), self.program.chosen.name
        offered = {
            "config": copy.deepcopy(self.recipe.flat()),
            "train_set": train_set,
            "val_set": val_set,
            "images": self.images,
            "network": lambda: train_set.known_to(self.recipe.model.network().build(self.images)),
            "device": self.device,
            "seed": self.seed,
            "run": Handle(self),
        }
        there = set(threading.enumerate())
        try:
            return own_code.call(function, name, "train.program", self.program.chosen.arguments, offered)
        except InputError as error:
            if isinstance(error.__cause__, DivergedError):
                raise error.__cause__ from None
            if self.device.type == "cpu" and re.search(r"\b(CUDA|NVIDIA)\b", str(error)):
                raise InputError(f"{error}. This training is on the CPU: take the argument `device`") from error
            if error.__cause__ is None and (place := own_code.place_of(error)):
                raise InputError(f"{error}{place}") from None
            raise
        finally:
            if left := [one.name for one in threading.enumerate() if one not in there and not one.daemon]:
                self.notes.append(
                    f"{name} left threads running ({', '.join(left[:5])}), for which the end of a process waits: end"
                    " them, or make them with daemon=True"
                )

    def _hook(self, hook: Callable[[Any], None]) -> None:
        """Call `hook`; what it raises leaves the function whatever that catches."""
        try:
            hook(self)
        except BaseException as error:
            if self._saves and hasattr(error, "after_save"):
                self._rest = error
                return
            self._leave(error)

    def _leave(self, error: BaseException) -> NoReturn:
        """Leave the function, whatever it catches, with `error`."""
        self._stop = error
        raise _Unwind from error

    def _checked(self, module: Any, normalize: nn.Module, data: Batches) -> nn.Module:
        name = self.program.chosen.name
        if not isinstance(module, nn.Module):
            raise InputError(
                f"train.program: {name} must return a torch.nn.Module; it returned {type(module).__name__}"
                f"{own_code.at(name)}"
            )
        if not self.history:
            raise InputError(
                f"train.program: {name} returned without a report; call run.report after each epoch{own_code.at(name)}"
            )
        module = only_logits(unwrapped(module))
        params = self.recipe.model
        whole = whole_of([normalize, module], mirrored=params.flip_average, side=params.crop_average).to(self.device)
        rows = torch.arange(min(TRIED, len(data)), device=data.labels.device)
        try:
            check_predictions(whole, data.images[rows], self.images.classes, "train.program", name)
        except InputError:
            raise
        except own_code.RAISED as error:
            others = {str(one.dtype) for one in module.parameters() if one.dtype != torch.float32}
            rule = f". Its weights are {', '.join(sorted(others))}, images float32: return it.float()" if others else ""
            raise InputError(
                f"train.program: the module that {name} returned fails on {len(rows)} images: {own_code.blame(error)}"
                f"{rule}"
            ) from error
        known = (name, type(module), self.images.shape, self._built_of(module))
        if known not in _exported:  # seconds: once in a worker
            check_export(whole, self.images.shape, "train.program", name)
            _exported.add(known)
        return whole

    def _built_of(self, module: nn.Module) -> str:
        """What `module` is built of, and branches on: the model's and the program's settings, its layers, and the plain
        values and functions that each has, from wherever it took them."""
        recipe = {n: v for n, v in self.recipe.flat().items() if n.startswith(("model.", "train.program"))}
        layers = [
            {
                name: getattr(v, "__code__", v)
                for name, v in vars(one).items()
                if is_plain(v) or isinstance(v, FUNCTIONS)
            }
            for one in module.modules()
        ]
        return f"{recipe} {module} {layers}"

    def _measure(self, val: Batches) -> None:
        """Measure the returned module, which may be that of an earlier epoch, and note where it is not what was
        reported last. Raises InputError where it has no value of `search.metric`."""
        found = self.metrics.judge(self.result, val, self.fast, self.epoch)
        self.measured = self.metrics.defined(found, val, self.notes)
        for key, value in self.measured.items():
            reported = self.history[-1].get(key)
            if reported is not None and key != self._own_loss and abs(reported - value) > TOLERANCE:
                self.notes.append(
                    f"{self.program.chosen.name} reported {key} {reported:.4f} last; the module that it returned has"
                    f" {value:.4f} on the same images, which counts"
                )

    def _number(self, name: str, value: Any, epoch: int) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            remedy = f": give each by its name, run.report({epoch}, **{name})" if isinstance(value, dict) else ""
            raise InputError(f"run.report: {name} must be a number; got {value!r}{remedy}") from None
        if not math.isfinite(number):
            raise DivergedError(f"{name} became {number} in epoch {epoch}")
        low, high = self._ranges().get(name, (-math.inf, math.inf))
        if not low - ROUNDING <= number <= high + ROUNDING:
            rule = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            form = " (a fraction, no percentage)" if (low, high) == (0, 1) else ""
            form = " (the mean negative log likelihood)" if name == "val_loss" else form
            remedy = "" if self.metric and name == f"val_{self.metric.label}" else ", or under another name"
            raise InputError(
                f"run.report: {name} must be {rule}; got {number:g} in epoch {epoch}: report it as Podium measures it"
                f"{form}{remedy}"
            )
        return number

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of what may be reported, by its name, where that is known."""
        known = [*([self.metric] if self.metric else []), *self.metrics.more]
        every = {"val_accuracy": (0.0, 1.0)} | {f"val_{metric.label}": metric.RANGE for metric in known}
        return {name: bounds for name, bounds in every.items() if name != self._own_loss}

    @property
    def _own_loss(self) -> str:
        """The figure that a program may report of another loss than Podium's: none where the search looks at it."""
        return "" if self.metric is not None and self.metric.label == "loss" else "val_loss"


def training(
    recipe: Recipe,
    images: ImageSpec,
    seed: int,
    device: torch.device,
    metric: Metric | None = None,
    more: Sequence[Metric] = (),
    logged: Sequence[Metric] = (),
) -> "TrainingRun":
    """The training run of `recipe`: Podium's loop, or the own one that it names."""
    if recipe.train.program is None:
        return TrainingRun(recipe, images, seed, device, metric, more, logged)
    return ProgramRun(recipe, images, seed, device, metric, [*more, *logged])  # type: ignore[return-value] # the same interface
