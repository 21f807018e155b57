"""A floor for how many images a model that may be unsure answers."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule, judged


class MinCoverage(Rule):
    """The challenger answers at least a fraction of the images, beyond what chance explains.

    Exact binomial test. Applies where the model was registered with evaluate.abstain.
    """

    name: ClassVar = "coverage"
    order: ClassVar = 36

    min_coverage: Unit = 0.0
    """Fraction of images that a model with evaluate.abstain must answer; 0: any. It may be below by as much as chance
    explains."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply to a model that answers every image, or where nothing is asked for."""
        found = evidence.answering
        if found is None or not self.min_coverage:
            return None
        from podium.promotion import comparison

        chance, limit = comparison.below(found.answered, found.images, self.min_coverage), 1 - evidence.confidence
        return judged(
            f"at least {self.min_coverage:g}, p > {limit:.4g}",
            f"{found.answered / found.images:.4f}, p {chance:.2g}",
            "A better model answers more; so does one with a higher evaluate.abstain (`dvc repro`); if fewer answers"
            " will do, lower gate.min_coverage",
            passed=chance > limit,
        )
