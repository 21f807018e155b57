"""A floor for the first model by the metric that is searched for."""

from typing import ClassVar

from podium.promotion.rules import ROUNDING, Evidence, Finding, Rule


class MinValue(Rule):
    """The first model reaches a value of the gate's metric; for one that is minimised, it stays at or below it."""

    name: ClassVar = "metric"
    order: ClassVar = 11

    min_value: float | None = None
    """The first model must reach this value of the metric, such as 0.7 of balanced_accuracy; null: no floor."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply where there is a champion, or no value is asked for."""
        if self.min_value is None or evidence.champion or evidence.unreadable:
            return None
        found = evidence.challenger.accuracy if evidence.challenger.value is None else evidence.challenger.value
        passed = evidence.sign * found >= evidence.sign * self.min_value - ROUNDING
        word = "at least" if evidence.sign > 0 else "at most"
        return Finding(f"{word} {self.min_value:g}", f"{found:.4f}", passed, name=evidence.metric)
