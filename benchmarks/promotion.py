"""Asynchronous successive halving with real promotion, for `fidelity.py`: see docs/decisions for what came of it."""

from dataclasses import dataclass

from podium.config.recipe import Recipe


@dataclass
class Paused:
    """A trial that stopped at a rung and can go on."""

    number: int
    recipe: Recipe
    values: list[float]
    """Its values after each epoch, known in advance here; fewer than its epochs where the training fails."""
    epochs: int = 0
    """Of which so many are trained."""

    @property
    def whole(self) -> bool:
        """Whether it has come to its last epoch."""
        return self.epochs == self.recipe.train.epochs

    @property
    def ended(self) -> bool:
        """Whether it can't go on."""
        return self.epochs >= len(self.values)


class Ladder:
    """ASHA (Li et al. 2020): rungs at first * factor^k epochs; one in `factor` of each rung's trials goes on, and of
    fewer the best one.

    `progressive`: PASHA (Bohdal et al. 2023), which opens the next rung only while the two highest open ones disagree
    about the order of the trials that have seen both.
    """

    def __init__(self, first: int, factor: int, progressive: bool = False) -> None:
        self.first = first
        self.factor = factor
        self.open = 2 if progressive else 99
        """Rungs to which a trial may be promoted."""
        self.at: dict[int, dict[int, float]] = {}
        """For each rung the values of the trials that came to it, by number."""
        self.gone: dict[int, set[int]] = {}
        """For each rung the trials that went on from it."""

    def promote(self, trials: list[Paused]) -> Paused | None:
        """The trial that goes on next, from the highest rung that has one; None: start a new one."""
        for rung in sorted(self.at, reverse=True):
            if rung + 1 >= self.open:
                continue
            values = self.at[rung]
            best = sorted(values, key=lambda number: (-values[number], number))[: max(1, len(values) // self.factor)]
            for number in best:
                if number not in self.gone[rung] and not trials[number].ended:
                    self.gone[rung].add(number)
                    return trials[number]
        return None

    def train(self, one: Paused) -> int:
        """Train `one` to its next rung or its end. Returns the epochs that took."""
        before = one.epochs
        rung = 0
        while self.first * self.factor**rung <= before:
            rung += 1
        one.epochs = min(self.first * self.factor**rung, len(one.values))
        if one.epochs == self.first * self.factor**rung or one.whole:
            self.at.setdefault(rung, {})[one.number] = one.values[one.epochs - 1]
            self.gone.setdefault(rung, set())
            self._open(rung)
        return one.epochs - before

    def _open(self, rung: int) -> None:
        """PASHA: open another rung where the two highest disagree."""
        if rung + 1 != self.open:
            return
        upper, lower = self.at[rung], self.at.get(rung - 1, {})
        both = [number for number in upper if number in lower]
        ranked = [sorted(both, key=lambda number: (-values[number], number)) for values in (upper, lower)]
        if ranked[0] != ranked[1]:
            self.open += 1
