"""The challenger's accuracy against the champion's, on the same images."""

from typing import ClassVar, Literal

from podium.config.problems import Fraction
from podium.promotion.rules import Evidence, Finding, Rule, Significance

TESTS = {"superior": "exact McNemar", "non_inferior": "Tango's score test and the paired bootstrap"}


class AccuracyComparison(Rule):
    """The challenger is more accurate than the champion (superior), or not less accurate by the margin or more
    (non_inferior), at the confidence of the gate.
    """

    name: ClassVar = "accuracy"
    order: ClassVar = 10

    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: more accurate than the champion; non_inferior: less accurate by less than margin."""
    margin: Fraction = 0.01
    """non_inferior: the loss of accuracy that has to be excluded."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The difference, its interval and the p-value of the rule's test."""
        from podium.promotion import comparison

        found, limit = evidence.comparison, 1 - evidence.confidence
        if found is None:
            return None
        if self.rule == "superior":
            p_value = comparison.mcnemar(found.gained, found.lost)
            must, claim = "above the champion's", "the challenger must be more accurate than the champion"
            passed = p_value <= limit
        else:
            p_value = comparison.not_worse(found.gain, found.loss, found.groups, self.margin)
            must = f"less than {self.margin:g} below the champion's"
            claim = f"a loss of {self.margin:g} of accuracy or more must be excluded"
            passed = p_value <= limit and found.low > -self.margin
        shown = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {p_value:.2g}"
        tested = Significance(p_value, claim, TESTS[self.rule])
        return Finding(f"{must}, p <= {limit:.4g}", shown, passed, tested)
