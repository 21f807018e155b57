"""The challenger's accuracy, or what else is searched for, against the champion's, on the same images."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from podium.promotion.rules import Evidence, Finding, Rule, Significance
from podium.promotion.verdict import Comparison
from podium.text import counted

if TYPE_CHECKING:
    from podium.metrics.resampling import Paired

SPENT = (
    "this test set is spent: the champion makes {errors} on it, too few for any challenger to show at this level that"
    " it is better. Add images: a part of them makes it larger. Or hold out a new one: delete the split file,"
    " write another prepare.salt and `dvc repro`. This champion has seen images of that one: replace it by a model that"
    " has not (--force --reason) before you compare"
)
TESTS = {"superior": "exact McNemar", "non_inferior": "Tango's score test and the paired bootstrap"}
OTHER_TESTS = {"superior": "permutation test", "non_inferior": "stratified paired bootstrap"}
"""For other metrics than accuracy."""


class AccuracyComparison(Rule):
    """The challenger is better than the champion (superior), or not worse by the margin or more (non_inferior), by the
    gate's metric. For accuracy by McNemar's or Tango's test, for others by a permutation test or the paired bootstrap.
    Over all challengers that are compared on one test set the gate's confidence holds: each attempt has a part of it,
    the first the largest.
    """

    name: ClassVar = "accuracy"
    order: ClassVar = 10

    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: better than the champion by the metric; non_inferior: worse by less than margin."""
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    """non_inferior: the loss of the metric that has to be excluded, in the metric's unit."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """The difference, its interval and the p-value of the rule's test."""
        found, limit = evidence.comparison, evidence.level
        if found is None:
            return None
        if evidence.paired is not None:
            return self._by_metric(evidence, evidence.paired, found)
        from podium.promotion import comparison

        if self.rule == "superior":
            p_value = comparison.mcnemar(found.gained, found.lost)
            must, claim = "above the champion's", "the challenger must be more accurate than the champion"
            passed = p_value <= limit
        else:
            p_value = comparison.not_worse(found.gain, found.loss, found.groups, self.margin)
            must = f"less than {self.margin:g} below the champion's"
            claim = f"a loss of {self.margin:g} of accuracy or more must be excluded"
            passed = p_value <= limit and found.low > -self.margin
        tested = Significance(p_value, claim, TESTS[self.rule])
        return Finding(_must(must, evidence), _shown(found, p_value) + self._spent(evidence), passed, tested)

    def _by_metric(self, evidence: Evidence, paired: "Paired", found: Comparison) -> Finding:
        """The same by another metric; differences are improvements, whichever way is better."""
        limit, label = evidence.level, evidence.metric
        if self.rule == "superior":
            p_value = paired.better(limit)
            must, claim = "better than the champion's", f"the challenger's {label} must be better than the champion's"
            passed = p_value <= limit and found.difference > 0
        else:
            p_value = paired.not_worse(self.margin, limit)
            must = f"less than {self.margin:g} worse than the champion's"
            claim = f"a {label} that is worse by {self.margin:g} or more must be excluded"
            passed = p_value <= limit
        tested = Significance(p_value, claim, OTHER_TESTS[self.rule])
        return Finding(_must(must, evidence), _shown(found, p_value), passed, tested, label)

    def _spent(self, evidence: Evidence) -> str:
        """A sentence where not even a challenger without an error could pass any more."""
        from podium.promotion import comparison

        old = evidence.champion
        errors = evidence.images - old.right if old else 0
        if self.rule != "superior" or comparison.mcnemar(errors, 0) <= evidence.level:
            return ""
        return f"; {SPENT.format(errors=counted(errors, 'error'))}"


def _must(must: str, evidence: Evidence) -> str:
    attempt = f" (attempt {evidence.attempt} on this test set)" if evidence.attempt > 1 else ""
    return f"{must}, p <= {evidence.level:.2g}{attempt}"


def _shown(found: Comparison, p_value: float) -> str:
    return f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {p_value:.2g}"
