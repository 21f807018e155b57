"""Test images may be training images of a model that was trained on other data."""

from typing import ClassVar

from podium.promotion.rules import Evidence, Finding, Rule


class SameData(Rule):
    """The challenger was trained on the data that is prepared now, so no test image was among its training images."""

    name: ClassVar = "data"
    order: ClassVar = 100

    def judge(self, evidence: Evidence) -> Finding | None:
        """Fails with the digests; does not apply where they are equal."""
        return Finding("trained on what is prepared now", evidence.foreign, False) if evidence.foreign else None
