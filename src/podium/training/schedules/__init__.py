"""Learning rate schedules, a file each: `train.schedule` names them.

The rate follows from the position alone, so a training that resumes from a checkpoint needs no state of it.
"""

import math
from contextlib import suppress
from functools import cached_property
from typing import Any

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

PER_STEP = {"CyclicLR"}
"""Classes of torch without `total_steps` that are made to be stepped after each batch."""

FROM_TOTAL = {"total", "epochs", "total_steps", "T_max"}
"""Arguments of a function or a class that follow from the number of epochs of the training."""


class Schedule(Component):
    """A schedule that `train.schedule` names."""

    def factor(self, step: int, total: int, epoch: int, epochs: int) -> float:
        """The learning rate of step `step` of `total`, in epoch `epoch` of `epochs` (both from 0), as a fraction of
        train.learning_rate."""
        raise NotImplementedError

    def uses_total(self) -> bool:
        """Most schedules do: they fall until the last epoch."""
        return True


class OwnSchedule(Schedule):
    """A class of torch.optim.lr_scheduler or one like it, or somebody's own function that returns the factor.

    A function is called with those of `step`, `total`, `epoch` and `epochs` that it names. A class, or a function that
    asks for an `optimizer` and returns a scheduler, is stepped as torch documents it: after each epoch, or after each
    step where it asks for `total_steps` (and CyclicLR). `total_steps`, `T_max`, `epochs` and `max_lr` (1) that
    `arguments` leave out are the training's.
    """

    chosen: Choice

    def factor(self, step: int, total: int, epoch: int, epochs: int) -> float:
        """What the function returns, or the value of the class at this position."""
        takes, _ = own_code.arguments_of(self._function)
        if not isinstance(self._function, type) and "optimizer" not in takes:
            at = {"step": step, "total": total, "epoch": epoch, "epochs": epochs}
            value = own_code.call(self._function, self.chosen.name, "train.schedule", self.chosen.arguments, at)
            return _number(value, self.chosen.name)
        per_step = "total_steps" in takes or getattr(self._function, "__name__", "") in PER_STEP
        table = self._table(total if per_step else epochs, epochs)
        return table[min(step if per_step else epoch, len(table) - 1)]

    def uses_total(self) -> bool:
        """Whether it asks for one of the arguments that follow from the number of epochs, and `arguments` leave it out.

        What takes any name (`**kwargs`) is not offered these: it does not depend on them.
        """
        takes, _ = own_code.arguments_of(self._function)
        return bool(FROM_TOTAL & (takes.keys() - self.chosen.arguments.keys()))

    @property
    def own(self) -> Any:
        """The object that is called, which may hold a state."""
        return self._function

    @cached_property
    def _function(self) -> Any:
        found = components.load("schedule", self.chosen.name)
        return found if isinstance(found, type) else own_code.fresh(found)

    def _table(self, length: int, epochs: int) -> list[float]:
        """The factor at each position, from a scheduler that is stepped through them all, once."""
        known: dict[int, list[float]] = self.__dict__.setdefault("_tables", {})
        if length not in known:
            known[length] = self._stepped(length, epochs)
        return known[length]

    def _stepped(self, length: int, epochs: int) -> list[float]:
        import torch

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        offered = {"optimizer": optimizer, "total_steps": length, "T_max": epochs, "epochs": epochs, "max_lr": 1.0}
        if "total_steps" in own_code.arguments_of(self._function)[0]:
            del offered["epochs"]  # OneCycleLR takes either
        name, given = self.chosen.name, self.chosen.arguments
        scheduler = own_code.call(self._function, name, "train.schedule", given, offered)
        if not hasattr(scheduler, "step"):
            raise InputError(
                f"train.schedule: {name} takes an optimizer, so it must return a scheduler with `step`; it gave"
                f" {own_code.described(scheduler)}{own_code.at(name)}. Without the argument `optimizer` it is"
                " called for the factor itself"
            )
        needed = [one.name for one in own_code.arguments_of(scheduler.step)[0].values() if one.required]
        if needed:
            raise InputError(
                f"train.schedule: {name} must be a scheduler whose step needs no argument; it needs {needed[0]}, and a"
                " schedule follows from the position alone: take train.program, a loop of your own, for one that looks"
                f" at a metric{own_code.at(name)}"
            )
        rates = []
        for _ in range(length):
            rates.append(_number(optimizer.param_groups[0]["lr"], self.chosen.name))
            optimizer.step()
            scheduler.step()
        return rates


def _number(value: Any, name: str) -> float:
    number = math.nan
    if hasattr(value, "__float__") and not isinstance(value, bool):
        with suppress(ValueError, TypeError, RuntimeError):  # an array or a tensor of several numbers
            number = float(value)
    if not 0 <= number < math.inf:
        raise InputError(
            f"train.schedule: {name} must give a finite number of at least 0; it gave {value!r}{own_code.at(name)}"
        )
    return number


def wrap(choice: Choice) -> Schedule:
    """Somebody else's schedule as one of ours."""
    return OwnSchedule(chosen=choice)
