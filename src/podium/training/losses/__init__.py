"""Losses, a file each: `train.loss` names them."""

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT = "weight"
"""The argument of an own loss that takes the classes' weights, as torch.nn.CrossEntropyLoss has it."""


class Loss(Component):
    """A loss that `train.loss` names."""

    def build(self, weights: "Tensor | None") -> "Callable[[Tensor, Tensor], Tensor]":
        """The function of logits (B, classes) and targets (B,) int64 to a scalar, the batch's mean.

        `weights` (classes,) are those of `train.balance: loss`. Raises InputError where it can't weight classes.
        """
        raise NotImplementedError


class OwnLoss(Loss):
    """Somebody's own function of logits and targets, or a class whose instances are such functions.

    A function is called with its `arguments` each time, a class is made with them once.
    """

    chosen: Choice

    def build(self, weights: "Tensor | None") -> "Callable[[Tensor, Tensor], Tensor]":
        """The function; the classes' weights are given to an argument called `weight`."""
        name, given = self.chosen.name, dict(self.chosen.arguments)
        function = components.load("loss", name)
        known, _ = own_code.arguments_of(function)
        if weights is not None and WEIGHT not in known:
            raise InputError(
                f"train.balance: loss needs a loss that weights classes; {name} has no argument `{WEIGHT}`:"
                " give it one, or take balance: sampling"
            )
        if weights is not None and WEIGHT in given:
            raise InputError(
                f"train.loss.arguments.{WEIGHT}: {name} gets it from train.balance: loss; leave out one of the two"
            )
        extra: dict[str, Any] = {} if weights is None else {WEIGHT: weights.clone()}
        if isinstance(function.func if isinstance(function, partial) else function, type):
            made = own_code.call(function, name, "train.loss", given, extra)
            return checked(made, name)
        function = own_code.fresh(function)  # an object: what it counts in one training is not in the next
        positional = own_code.first_arguments(function, 2)
        own_code.check_arguments(function, name, "train.loss", given, positional | set(extra))
        if not given and not extra:
            return checked(function, name)
        # Each call has copies of its own: what one changes in place is not what the next one gets.
        return checked(
            lambda logits, targets: function(logits, targets, **copy.deepcopy(given | extra)), name, function
        )


def checked(function: Callable[..., Any], name: str, own: Any = None) -> "CheckedLoss":
    """`function` whose result has to be a scalar; `own`: the object that it calls, where it is not that itself.

    Raises InputError where it has parameters to be learned, naming the loss.
    """
    from torch import nn

    weights = function.named_parameters() if isinstance(function, nn.Module) else ()
    if learned := [key for key, one in weights if one.requires_grad]:
        raise InputError(
            f"train.loss: {name} has parameters of its own ({learned[0]}), which no optimizer gets: hold numbers that"
            f" are not learned in buffers, or take train.program{own_code.at(name)}"
        )
    return CheckedLoss(function, name, function if own is None else own)


class CheckedLoss:
    """Somebody's own loss, and `own`, the object that may hold a state."""

    def __init__(self, function: Callable[..., Any], name: str, own: Any) -> None:
        self._function, self._name, self.own = function, name, own

    def __call__(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Its scalar. Raises InputError where it gives none.

        It is called with a copy of the targets. Its logits it may change in place: who uses them again gives it a copy.
        """
        from torch import Tensor, nn

        function, name = self._function, self._name
        if isinstance(function, nn.Module):
            function.to(logits.device)
        value = function(logits, targets.clone())
        if isinstance(value, nn.Module):
            raise InputError(
                f"train.loss: {name} returns a loss ({type(value).__name__}) when it gets logits and targets,"
                f" not the value of one{own_code.at(name)}"
            )
        if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
            remedy = ": return its mean()" if isinstance(value, Tensor) and value.dim() else ""
            if isinstance(value, int | float):
                remedy = ": return the tensor itself, not its item(), or nothing can be learned from it"
            elif isinstance(value, tuple | list | dict):
                remedy = ": return the loss alone"
            raise InputError(
                f"train.loss: {name} must give a scalar (a tensor without dimensions); it gave"
                f" {own_code.described(value)}{remedy}{own_code.at(name)}"
            )
        return value


def wrap(choice: Choice) -> Loss:
    """Somebody's own loss as one of ours."""
    return OwnLoss(chosen=choice)


def for_loss(logits: "Tensor", own: float) -> "Tensor":
    """`logits` for the first call of a loss, which may change them in place: a copy where a second call follows it."""
    return logits if own == 1 else logits.clone()
