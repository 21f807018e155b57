"""A challenger is not better only because it answers less."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import ROUNDING, Evidence, Finding, Rule, judged


class MaxCoverageDrop(Rule):
    """The challenger does not answer fewer images than the champion by more than a limit, beyond what chance explains.

    By the drop as measured, and McNemar's exact test over the images that one of the two alone answers. Applies where
    both were registered with evaluate.abstain.
    """

    name: ClassVar = "coverage drop"
    order: ClassVar = 37

    max_coverage_drop: Unit = 0.05
    """Largest drop of the fraction of answered images, beyond what chance explains."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply where one of the two answers every image."""
        found = evidence.answering
        if found is None or found.champion is None:
            return None
        from podium.promotion import comparison

        drop = (found.lost - found.gained) / found.images
        chance, limit = comparison.mcnemar(found.lost, found.gained), 1 - evidence.confidence
        before, now = found.champion / found.images, found.answered / found.images
        return judged(
            f"falls by {self.max_coverage_drop:g} at most, p > {limit:.4g}",
            f"{before:.4f} to {now:.4f} ({0 - drop:+.4f}), p {chance:.2g}",
            "A better model answers more with the same promise (more images, more trials); if fewer answers will do,"
            " raise gate.max_coverage_drop",
            passed=drop <= self.max_coverage_drop + ROUNDING or chance > limit,
        )
