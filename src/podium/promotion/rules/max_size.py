"""A limit for the files of a model."""

from typing import Annotated, ClassVar

from pydantic import Field

from podium.promotion.rules import Evidence, Finding, Rule


class MaxSize(Rule):
    """All files of the registered model together stay within a limit."""

    name: ClassVar = "size"
    order: ClassVar = 50

    max_size_mb: Annotated[float, Field(gt=0)] = 500.0
    """All files of the registered model."""

    def judge(self, evidence: Evidence) -> Finding:
        """Applies to every challenger."""
        size = evidence.challenger.size_mb
        return Finding(f"all files: at most {self.max_size_mb:g} MB", f"{size:.1f} MB", size <= self.max_size_mb)
