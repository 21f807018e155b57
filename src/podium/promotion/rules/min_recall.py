"""A floor for the recall of every class of the first model."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule


class MinRecall(Rule):
    """The first model's recall is below a limit in no class, beyond what chance explains.

    Binomial test of each class, the false discovery rate over all classes controlled (Benjamini and Hochberg 1995).
    """

    name: ClassVar = "recall"
    order: ClassVar = 20

    min_recall: Unit = 0.5
    """The first model's recall may be below this in no class, where that is more than chance explains."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The class with the strongest evidence; does not apply where there is a champion."""
        if evidence.champion or evidence.unreadable:
            return None
        from podium.promotion import comparison

        chances = comparison.adjusted(
            {name: comparison.below(one.right, one.images, self.min_recall) for name, one in evidence.classes.items()}
        )
        recalls = evidence.challenger.recalls
        worst = min(chances, key=lambda name: (chances[name], recalls[name]))
        limit = 1 - evidence.confidence
        return Finding(
            f"of every class at least {self.min_recall:g}, p > {limit:.4g}",
            f"{worst}: {recalls[worst]:.4f}, p {chances[worst]:.2g}",
            chances[worst] > limit,
        )
