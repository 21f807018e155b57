"""The metrics of a training run's epochs. Those that nothing is decided by may come later: of quick epochs they are
computed together.

Straight after training steps ten metrics of 70 images take 0.7 ms, since nothing of theirs is in a processor's cache.
Of 40 epochs together they take 0.1 ms each: calling an operation costs more than what it computes of so few images
(docs/decisions/2026-11-30-aims-shown.md).
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.validation import defined, judged, measured, measured_of_each

SECONDS = 5.0
"""Of training whose epochs wait at most: one that takes as long by itself has all its metrics at its end. MLflow is
told of a running trial as often (tracking.flush_seconds)."""
CELLS = 250_000
"""Logits that wait at most."""


class EpochMetrics:
    """The metrics of one run, and the predictions of the epochs that they are still to be computed for."""

    def __init__(
        self, metric: Metric | None, more: Sequence[Metric], logged: Sequence[Metric], classes: tuple[str, ...]
    ) -> None:
        """`metric`, the objective, and `more`: what every epoch has at its end; of `logged`, which it may get later,
        those that may draw random numbers, as the training does, are computed there too."""
        now = [*more, *(one for one in logged if not one.PURE)]
        self.metric = metric
        self.more = [one for one in now if metric is None or one.label != metric.label]
        self.later = [one for one in logged if one.PURE]
        self.completed: list[Epoch] = []
        """Past epochs that have got metrics since somebody emptied the list."""
        self._classes = classes
        self._waiting: dict[float, Scored] = {}
        """By the number of the epoch."""
        self._seconds, self._cells = 0.0, 0

    def judge(
        self, model: nn.Module, val: Batches, fast: torch.dtype | None, epoch: float, seconds: float = 0.0
    ) -> Epoch:
        """val_loss, val_accuracy and the metrics that `epoch`, trained for `seconds`, has at its end; nan where one is
        undefined."""
        started = time.perf_counter()
        now = [one for one in (self.metric, *self.more) if one and not one.EACH_EPOCH]
        done, scored = judged(model, val, fast, self._classes, keep=bool(now or self.later))
        if scored is not None:
            done |= measured(scored, now)
            if self.later and math.isfinite(done["val_loss"]):
                self._waiting[epoch] = scored
                self._cells += scored.given.numel()
        self._seconds += seconds + time.perf_counter() - started
        return done

    @property
    def enough(self) -> bool:
        """Whether so much waits that it is time to `complete`."""
        return self._seconds >= SECONDS or self._cells >= CELLS

    def complete(self, history: list[Epoch], notes: list[str]) -> dict[float, Epoch]:
        """The figures of each epoch that waits, by its number; those in `history` get theirs.

        `notes` gets a sentence for what is undefined. Raises InputError as `validate` does.
        """
        waiting, self._waiting, self._seconds, self._cells = self._waiting, {}, 0.0, 0
        figures: dict[float, Epoch] = {}
        every = measured_of_each([*waiting.values()], self.later)
        for (epoch, scored), each in zip(waiting.items(), every, strict=True):
            figures[epoch], undefined = defined(each, None, self.later, scored.labels, self._classes)
            notes += [note for note in undefined if note not in notes]
        for place, done in enumerate(history):
            if found := figures.get(done["epoch"]):
                history[place] = done | found  # another one: who was told of it has the former
                self.completed.append(history[place])
        return figures

    def defined(self, figures: Epoch, val: Batches, notes: list[str]) -> Epoch:
        """`figures` without what is undefined, which `notes` tells. Raises InputError where the objective is."""
        found, undefined = defined(figures, self.metric, self.more, val.labels, self._classes)
        notes += [note for note in undefined if note not in notes]
        return found
