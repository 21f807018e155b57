"""A champion that can't be loaded is no reason to promote."""

from typing import ClassVar

from podium.promotion.rules import Evidence, Finding, Rule


class ChampionLoads(Rule):
    """If there is a champion, it must load: without it there is nothing to compare with."""

    name: ClassVar = "champion"
    order: ClassVar = 0

    def judge(self, evidence: Evidence) -> Finding | None:
        """Fails with the reason; does not apply where the champion loads or there is none."""
        return Finding("it can be loaded", evidence.unreadable, False) if evidence.unreadable else None
