"""Optimizers, a file each: `train.optimizer` names them."""

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import nn

INTERFACE = ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict")
"""What the training uses of an optimizer."""
REMEDIES = {"Muon": ". Podium's own `muon` (train.optimizer: muon) gives it the matrices and AdamW the rest"}
"""What to do where classes of torch don't take the weights of most networks."""
Group = dict[str, Any]
"""Weights (`params`), whether they are to decay (`decays`), and their learning rate's `scale`."""


class Optimizer(Component):
    """An optimizer that `train.optimizer` names."""

    TAKES_HIDDEN: ClassVar[bool] = False
    """Whether it treats the matrices of hidden layers apart."""

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """An object with torch's interface of an optimizer over `groups`, at the learning rate `rate`.

        `hidden`: the matrices of layers that are neither the first nor the last, where TAKES_HIDDEN asks for them. Each
        group keeps its `scale`.
        """
        raise NotImplementedError


class Decaying(Optimizer):
    """One of ours, which all have a weight decay."""

    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """L2 penalty (sgd) or decoupled decay (adamw, muon) of weights. Biases, norms and embeddings are left out."""

    def decayed(self, groups: list[Group]) -> list[Group]:
        """`groups` as torch takes them."""
        return with_decay(groups, self.weight_decay)


class OwnOptimizer(Optimizer):
    """A class of torch.optim, or somebody's own: called with the groups, `lr` and its `arguments`.

    An argument `weight_decay` holds for weights; biases, norms and embeddings are left out.
    """

    OFFERED: ClassVar[set[str]] = {"params", "lr"}

    chosen: Choice

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """The optimizer that the class makes."""
        name, given = self.chosen.name, dict(self.chosen.arguments)
        function = components.load("optimizer", name)
        decay = given.pop("weight_decay", None)
        own_code.check_arguments(function, name, "train.optimizer", dict(self.chosen.arguments), self.OFFERED)
        check_step(function, name)
        offered = {"params": with_decay(groups, decay), "lr": rate}
        try:
            made = own_code.call(function, name, "train.optimizer", given, offered)
        except InputError as error:
            raise InputError(f"{error}{REMEDIES.get(name, '')}") from error
        if missing := [one for one in INTERFACE if not hasattr(made, one)]:
            raise InputError(
                f"train.optimizer: {name} must give an optimizer, as torch.optim.Optimizer is one; it gave"
                f" {own_code.described(made)}, which has no {', '.join(missing)}{own_code.at(name)}"
            )
        return made


def check_step(optimizer: Any, name: str) -> None:
    """Raise InputError where a step of `optimizer`, which may be a class, needs an argument."""
    step = getattr(optimizer, "step", None)
    known = list(own_code.arguments_of(step)[0].values()) if step is not None else []
    known = known[1:] if isinstance(optimizer, type) else known  # self
    if needed := [one.name for one in known if one.required]:
        raise InputError(
            f"train.optimizer: {name} must be one whose step needs no argument; it needs {needed[0]}: take"
            f" train.program, a loop of your own, for it{own_code.at(name)}"
        )


def with_decay(groups: list[Group], decay: Any) -> list[Group]:
    """`groups` with the weight decay of each; None: the optimizer's own."""
    plain = [{key: value for key, value in group.items() if key != "decays"} for group in groups]
    if decay is None:
        return plain
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < math.inf:
        raise InputError(f"train.optimizer.arguments.weight_decay: must be a number of at least 0; got {decay!r}")
    return [one | {"weight_decay": decay if group["decays"] else 0.0} for one, group in zip(plain, groups, strict=True)]


def wrap(choice: Choice) -> Optimizer:
    """Somebody else's optimizer as one of ours."""
    return OwnOptimizer(chosen=choice)
