"""The messages between driver and workers: plain dataclasses of plain values; every pool carries the same ones."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from podium.training.epochs import Epoch


@dataclass(frozen=True)
class Task:
    """One trial to train, or to resume."""

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
    more: list[Any] = field(default_factory=list)
    """Other metrics that every epoch has, likewise."""
    held_out: list[int] = field(default_factory=list)
    """Rows of the training and validation images, one after the other, that judge in place of the latter; all others
    are trained on. Empty: the splits as they are."""
    limits: dict[str, float] = field(default_factory=dict)
    """Those of search.limits that follow from the configuration: one that breaks any is not trained."""
    costs: dict[str, float] = field(default_factory=dict)
    """What they limit, where it is known; empty: to be measured."""
    measured: list[str] = field(default_factory=list)
    """What follows from the configuration and is to be known of it, `limits` among them."""
    checkpoint_share: float = 1.0
    """The fraction of its time that checkpoints may take at most: see training.saver."""
    stop_after: float | None = None
    """Seconds after which the search has no more time: it stops at its next step. Workers of this machine count from
    when it was handed to them, others from its start."""
    until: int | None = None
    """The epoch, from 1, at whose end the trial rests: it is saved, and may be handed out again; None: its last."""
    compiles: bool = False
    """Whether its network is compiled where that pays: search.compile."""
    rested: int = 0
    """The epoch at whose end it rested: that it resumes from there is no news."""
    logged: list[Any] = field(default_factory=list)
    """Metrics that nothing is decided by, as plain values: an epoch may get them later."""

    def later(self, seconds: float) -> "Task":
        """The task, so many seconds after it was handed out."""
        return self if self.stop_after is None else replace(self, stop_after=self.stop_after - seconds)

    @property
    def identity(self) -> str:
        """What a checkpoint must belong to."""
        return f"trial {self.number} seed {self.seed} {json.dumps(self.recipe, sort_keys=True)}"


@dataclass(frozen=True)
class Report:
    """An epoch of a trial has ended; the worker waits for the answer whether to continue."""

    number: int
    attempt: int
    epoch: Epoch
    earlier: list[Epoch] = field(default_factory=list)
    """Epochs that were reported before, with figures that they have got since."""


@dataclass(frozen=True)
class Resumed:
    """A trial resumes from its checkpoint, with the epochs that it had finished: this driver may not know of them."""

    number: int
    attempt: int
    history: list[Epoch]


@dataclass(frozen=True)
class Ended:
    """A trial has ended. interrupted: it was saved and can be resumed; rested: the same, at the end of the epoch that
    was asked for; stopped: by the driver; infeasible: its configuration breaks a limit, so it was not trained."""

    number: int
    attempt: int
    how: Literal["finished", "stopped", "interrupted", "rested", "failed", "infeasible"]
    history: list[Epoch] = field(default_factory=list)
    reason: str = ""
    trace: str = ""
    notes: list[str] = field(default_factory=list)
    measured: Epoch = field(default_factory=dict)
    """The figures that a finished trial is judged by, where they are not those of its last epoch: Podium measures the
    module that an own training loop returned."""
    temperature: float | None = None
    """What its logits are to be divided by, of a finished trial that was asked."""
    costs: dict[str, float] = field(default_factory=dict)
    """What search.limits looks at and follows from the configuration."""
    diverged: bool = False
    """Whether it failed by its own configuration and seed: so it would again."""
    peak_memory: int | None = None
    """The most bytes that it used: of a CUDA device's memory, else its process's; None: not known."""
    suspicious: bool = False
    """Whether it failed in a way for which its worker may be to blame."""
    leaves: bool = False
    """Whether its worker ends with it: the next trial is another's."""


@dataclass(frozen=True)
class Lost:
    """The worker of a trial is gone: killed, crashed, out of memory, or broken."""

    number: int
    attempt: int
    reason: str
    charged: bool = True
    """Whether the trial may be to blame, so that this counts as one of its `runtime.max_restarts`."""


Event = Report | Resumed | Ended | Lost
