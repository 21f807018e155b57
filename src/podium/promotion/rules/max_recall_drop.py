"""No class pays for the gain of the others."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import ROUNDING, Evidence, Finding, Rule, judged


class MaxRecallDrop(Rule):
    """No class loses more than a limit of its recall against the champion, beyond what chance explains.

    A class counts where it lost more than the limit as measured, and where McNemar's exact test over its images shows
    that it lost anything, the false discovery rate over all classes controlled (Benjamini and Hochberg 1995). With a
    thousand classes of ten images some always lose that much by chance.
    """

    name: ClassVar = "recall"
    order: ClassVar = 20

    max_recall_drop: Unit = 0.05
    """No class may lose more of its recall than this, where that is more than chance explains."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The class with the strongest evidence; does not apply without a champion."""
        if evidence.champion is None:
            return None
        from podium.promotion import comparison

        counts = evidence.classes
        drops = {name: (one.lost - one.gained) / one.images for name, one in counts.items()}
        chances = comparison.adjusted({name: comparison.mcnemar(one.lost, one.gained) for name, one in counts.items()})
        beyond = [name for name, drop in drops.items() if drop > self.max_recall_drop + ROUNDING]
        worst = min(beyond or drops, key=lambda name: (chances[name], -drops[name]))
        new, old = evidence.challenger.recalls[worst], evidence.champion.recalls[worst]
        limit = 1 - evidence.confidence
        return judged(
            f"no class loses more than {self.max_recall_drop:g}, p > {limit:.4g}",
            f"{worst}: {old:.4f} to {new:.4f} ({0 - drops[worst]:+.4f}), p {chances[worst]:.2g}",
            f"More images of {worst} would help, or right labels for them (`podium relabel`), or train.balance: loss;"
            " if the lower recall will do, raise gate.max_recall_drop",
            passed=not any(chances[name] <= limit for name in beyond),
        )
