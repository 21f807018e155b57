"""The challenger's accuracy against the champion's, on the same images."""

from typing import ClassVar, Literal

from podium.config.problems import Fraction
from podium.promotion.rules import Evidence, Finding, Rule, Significance

SPENT = (
    "this test set is spent: the champion's {errors} errors on it are too few for any challenger to show at this level"
    " that it is better. Hold out a new one: with more images, or another prepare.salt"
)
TESTS = {"superior": "exact McNemar", "non_inferior": "Tango's score test and the paired bootstrap"}


class AccuracyComparison(Rule):
    """The challenger is more accurate than the champion (superior), or not less accurate by the margin or more
    (non_inferior). Over all challengers that are compared on one test set the gate's confidence holds: each attempt has
    a part of it, the first the largest.
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

        found, limit = evidence.comparison, evidence.level
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
        attempt = f" (attempt {evidence.attempt} on this test set)" if evidence.attempt > 1 else ""
        return Finding(f"{must}, p <= {limit:.2g}{attempt}", shown + self._spent(evidence), passed, tested)

    def _spent(self, evidence: Evidence) -> str:
        """A sentence where not even a challenger without an error could pass any more."""
        from podium.promotion import comparison

        old = evidence.champion
        errors = evidence.images - old.right if old else 0
        if self.rule != "superior" or comparison.mcnemar(errors, 0) <= evidence.level:
            return ""
        return f"; {SPENT.format(errors=errors)}"
