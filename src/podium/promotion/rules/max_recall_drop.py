"""No class pays for the gain of the others."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import ROUNDING, Evidence, Finding, Rule


class MaxRecallDrop(Rule):
    """No class loses more than a limit of its recall against the champion."""

    name: ClassVar = "recall"
    order: ClassVar = 20

    max_recall_drop: Unit = 0.05
    """No class may lose more of its recall than this, as measured."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The class that loses most; does not apply without a champion."""
        if evidence.champion is None:
            return None
        new, old = evidence.challenger.recalls, evidence.champion.recalls
        worst = min(new, key=lambda name: new[name] - old[name])
        drop = old[worst] - new[worst]
        return Finding(
            f"no class loses more than {self.max_recall_drop:g}",
            f"{worst}: {old[worst]:.4f} to {new[worst]:.4f} ({0 - drop:+.4f})",
            drop <= self.max_recall_drop + ROUNDING,
        )
