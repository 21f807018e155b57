"""A promise about answered images is not dropped or loosened without somebody wanting it."""

from typing import ClassVar

from podium.promotion.rules import Evidence, Finding, Rule


class KeptPromise(Rule):
    """Where the champion promises an error among answered images, the challenger promises no higher one.

    Nor does it at a lower confidence. Applies where the champion was registered with evaluate.abstain: without a
    promise of the challenger every request with abstain=true would be refused.
    """

    name: ClassVar = "promise"
    order: ClassVar = 34

    allow_looser_promise: bool = False
    """Let a challenger promise more errors among answered images than the champion.
    Or as many at a lower confidence, or nothing (evaluate.abstain): without a promise it answers no request with
    abstain=true."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply where the champion promises nothing, or a looser promise is wanted."""
        before, now = evidence.champion_promise, evidence.promise
        if before is None or self.allow_looser_promise:
            return None
        passed = now is not None and now.error <= before.error and now.confidence >= before.confidence
        found = f"{now}" if now else "the challenger promises nothing and refuses abstain=true"
        if not passed:
            found += (
                f". Set evaluate.abstain to {before.error} or less with evaluate.confidence {before.confidence} or"
                " more and run `dvc repro`; or, if you want the looser one, gate.allow_looser_promise: true"
            )
        return Finding(f"as the champion at least: {before}", found, passed)
