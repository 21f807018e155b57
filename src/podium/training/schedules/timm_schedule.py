"""timm's schedules by name."""

import difflib
from typing import Any, ClassVar

from podium.components import Choice
from podium.errors import InputError
from podium.training.schedules import Schedule

PREFIX = "timm:"
KNOWN = ("cosine", "tanh", "step", "constant", "multistep", "poly", "wsd", "rsqrt")
"""What create_scheduler_v2 makes of the position alone; plateau looks at a metric."""


class TimmSchedule(Schedule):
    """A schedule of timm, such as timm:cosine, stepped after each epoch, with the arguments of create_scheduler_v2."""

    NAME: ClassVar[str] = PREFIX

    chosen: Choice

    def factor(self, step: int, total: int, epoch: int, epochs: int) -> float:
        """The factor of the epoch."""
        known: dict[int, list[float]] = self.__dict__.setdefault("_tables", {})
        if epochs not in known:
            known[epochs] = self._table(epochs)
        return known[epochs][min(epoch, epochs - 1)]

    def _table(self, epochs: int) -> list[float]:
        import timm
        import torch
        from timm.scheduler import create_scheduler_v2

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        name, given = self.chosen.name.removeprefix(PREFIX), dict[str, Any](self.chosen.arguments)
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else f"such are {', '.join(KNOWN)}"
            raise InputError(
                f"train.schedule: timm has no schedule {name!r} that follows from the number of the epoch; {hint}"
            )
        try:
            scheduler, _ = create_scheduler_v2(optimizer, sched=name, **({"num_epochs": epochs} | given))
        except (TypeError, ValueError, AssertionError) as error:
            raise InputError(f"train.schedule: {self.chosen.name} does not take {given}: {error}") from None
        if scheduler is None:
            raise InputError(
                f"train.schedule: the installed timm {timm.__version__} makes no schedule of {self.chosen.name}: update"
                " timm, or take another schedule"
            )
        rates = []
        for epoch in range(epochs):
            scheduler.step(epoch)
            rates.append(float(optimizer.param_groups[0]["lr"]))
        return rates
