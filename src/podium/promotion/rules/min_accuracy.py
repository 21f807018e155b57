"""A floor for the accuracy of the first model."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule


class MinAccuracy(Rule):
    """The first model, which has no champion to be compared with, reaches an accuracy."""

    name: ClassVar = "accuracy"
    order: ClassVar = 10

    min_accuracy: Unit = 0.8
    """The first model, which has no champion to be compared with, must reach this accuracy."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply where there is a champion."""
        if evidence.champion or evidence.unreadable:
            return None
        accuracy = evidence.challenger.accuracy
        return Finding(f"at least {self.min_accuracy:g}", f"{accuracy:.4f}", accuracy >= self.min_accuracy)
