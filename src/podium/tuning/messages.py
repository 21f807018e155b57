"""What driver and workers say to each other: plain dataclasses of plain values; every pool carries the same ones."""

from dataclasses import dataclass, field
from typing import Any, Literal

from podium.config.recipe import Recipe
from podium.training.history import Epoch


@dataclass(frozen=True)
class Task:
    """One trial to train, or to go on with."""

    number: int
    attempt: int
    """1, and one more each time the trial had to be handed to a worker again: answers of older attempts are void."""
    seed: int
    recipe: dict[str, dict[str, Any]]
    checkpoint: str
    checkpoint_seconds: float
    timeout: float | None = None
    """Seconds of training after which the trial fails."""
    calibrate: bool = False
    """Whether a finished trial is asked for its temperature."""
    metric: Any = "accuracy"
    """`search.metric` as plain values: every epoch has it."""

    @property
    def identity(self) -> str:
        """What a checkpoint must belong to: the values that count, however much of them was spelled out."""
        values = sorted(Recipe.model_validate(self.recipe).flat().items())
        return f"trial {self.number} seed {self.seed} {values}"


@dataclass(frozen=True)
class Report:
    """An epoch of a trial has ended; the worker waits to hear whether to go on."""

    number: int
    attempt: int
    epoch: Epoch


@dataclass(frozen=True)
class Resumed:
    """A trial goes on from its checkpoint, with the epochs that it had finished: this driver may not know of them."""

    number: int
    attempt: int
    history: list[Epoch]


@dataclass(frozen=True)
class Ended:
    """A trial has ended. interrupted: it was saved and will go on another time; stopped: the driver said so."""

    number: int
    attempt: int
    how: Literal["finished", "stopped", "interrupted", "failed"]
    history: list[Epoch] = field(default_factory=list)
    reason: str = ""
    trace: str = ""
    notes: list[str] = field(default_factory=list)
    temperature: float | None = None
    """What its logits are to be divided by, of a finished trial that was asked."""
    diverged: bool = False
    """Whether it failed by its own configuration and seed: so it would again."""


@dataclass(frozen=True)
class Lost:
    """The worker of a trial is gone: killed, crashed, or out of memory."""

    number: int
    attempt: int
    reason: str


Event = Report | Resumed | Ended | Lost
