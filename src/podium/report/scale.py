"""A dimension of the space as an axis."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """Where the values of one dimension lie between 0 and 1."""

    name: str
    choices: tuple[str, ...]
    """Empty for a range."""
    low: float
    high: float
    log: bool

    @staticmethod
    def of(name: str, dimension: dict[str, Any]) -> "Scale":
        """The axis of a dimension as params.yaml has it."""
        if "choices" in dimension:
            return Scale(name, tuple(str(choice) for choice in dimension["choices"]), 0.0, 1.0, False)
        return Scale(name, (), float(dimension["low"]), float(dimension["high"]), bool(dimension.get("log")))

    @property
    def short(self) -> str:
        """The name without its section."""
        return self.name.split(".", 1)[1]

    def place(self, value: Any) -> float:
        """`value` between 0 and 1; a choice that the space no longer has lies in the middle."""
        if self.choices:
            text = str(value)
            return (self.choices.index(text) + 0.5) / len(self.choices) if text in self.choices else 0.5
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of a few values."""
        if self.choices:
            return [(self.place(choice), choice) for choice in self.choices]
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            inner = [10.0**k for k in range(first, last + 1)]
            ends = [x for x in (self.low, self.high) if all(abs(math.log10(x / y)) > 0.15 for y in inner)]
            return [(self.place(x), f"{x:.3g}") for x in sorted(inner + ends)]
        return [(f, f"{self.low + f * (self.high - self.low):.3g}") for f in (0.0, 0.25, 0.5, 0.75, 1.0)]
