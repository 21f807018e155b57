"""A model that may be unsure keeps what it promises where it answers."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule, judged


class MaxAnsweredError(Rule):
    """The error among the images that the challenger answers is not above a limit, beyond what chance explains.

    Exact binomial test. Applies where the model was registered with evaluate.abstain.
    """

    name: ClassVar = "answered error"
    order: ClassVar = 35

    max_answered_error: Unit | None = None
    """Highest error among answered images; null: what evaluate.abstain promised. It may be above by as much as chance
    explains."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply to a model that answers every image. One that answers nothing makes no error."""
        found = evidence.answering
        if found is None:
            return None
        from podium.promotion import comparison

        most = found.error if self.max_answered_error is None else self.max_answered_error
        chance = comparison.above(found.wrong, found.answered, most)
        limit = 1 - evidence.confidence
        share = f"{found.wrong / found.answered:.4f}" if found.answered else "none"
        return judged(
            f"at most {most:g}, p > {limit:.4g}",
            f"{share} ({found.wrong:,} of {found.answered:,}), p {chance:.2g}",
            "With a lower evaluate.abstain (`dvc repro`) it answers less and errs less; if that many errors will do,"
            " set gate.max_answered_error",
            passed=chance > limit,
        )
