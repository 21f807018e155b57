"""timm's optimizers by name."""

import difflib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from podium import own_code
from podium.components import Choice
from podium.errors import InputError
from podium.training.optimizers import Group, Optimizer, with_decay

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"


class TimmOptimizer(Optimizer):
    """An optimizer of timm, such as timm:lamb, with its arguments."""

    NAME: ClassVar[str] = PREFIX

    chosen: Choice

    @staticmethod
    def known_names() -> list[str]:
        """Names that `train.optimizer` takes, read from timm's source: importing it takes seconds."""
        spec = importlib.util.find_spec("timm")
        source = Path(spec.origin or "").parent / "optim" / "_optim_factory.py" if spec else Path()
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        return [PREFIX + name for name in re.findall(r"\bname='(\w+)'", text)]

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """What timm.optim.create_optimizer_v2 makes. Raises InputError for an unknown name or argument."""
        from timm.optim import create_optimizer_v2, list_optimizers

        name, given = self.chosen.name.removeprefix(PREFIX), dict(self.chosen.arguments)
        if name not in list_optimizers():
            close = difflib.get_close_matches(name, list_optimizers(), n=1, cutoff=0.4)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "timm.optim.list_optimizers() has them"
            raise InputError(f"train.optimizer: timm has no optimizer {name!r}; {hint}")
        own_code.check_decided(self.chosen.name, "train.optimizer", given)
        decay: Any = given.pop("weight_decay", 0.0)
        try:
            made = create_optimizer_v2(with_decay(groups, decay), opt=name, lr=rate, weight_decay=decay, **given)
        except (TypeError, ValueError) as error:
            raise InputError(f"train.optimizer: {self.chosen.name} does not take {given}: {error}") from None
        if getattr(made, "is_second_order", False):
            raise InputError(
                f"train.optimizer: {self.chosen.name} needs second derivatives (backward with create_graph=True), which"
                " Podium's loop does not compute: take another optimizer, or train.program, a loop of your own"
            )
        return made
