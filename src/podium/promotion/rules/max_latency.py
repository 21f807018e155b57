"""A limit for the time of a prediction."""

from typing import Annotated, ClassVar

from pydantic import Field

from podium.promotion.rules import Evidence, Finding, Rule


class MaxLatency(Rule):
    """The 95th percentile of the time for one image file stays within a limit."""

    name: ClassVar = "latency"
    order: ClassVar = 40

    max_latency_ms: Annotated[float, Field(gt=0)] = 100.0
    """95th percentile of the processor time for one image file on one thread, as on a quiet machine."""

    def judge(self, evidence: Evidence) -> Finding:
        """Applies to every challenger."""
        took = evidence.challenger.latency_ms
        rule = f"p95, one image, one thread: at most {self.max_latency_ms:g} ms"
        return Finding(rule, f"{took:.1f} ms", took <= self.max_latency_ms)
