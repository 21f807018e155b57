"""A floor for the recall of every class of the first model."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule


class MinRecall(Rule):
    """The first model reaches a recall in every class."""

    name: ClassVar = "recall"
    order: ClassVar = 20

    min_recall: Unit = 0.5
    """The first model must reach this recall in every class."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The weakest class; does not apply where there is a champion."""
        if evidence.champion or evidence.unreadable:
            return None
        recalls = evidence.challenger.recalls
        worst = min(recalls, key=lambda name: recalls[name])
        rule = f"of every class at least {self.min_recall:g}"
        return Finding(rule, f"{worst}: {recalls[worst]:.4f}", recalls[worst] >= self.min_recall)
