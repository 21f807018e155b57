"""What labels of served images say of challenger and champion."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from podium.promotion.rules import Evidence, Finding, Rule


class ServedLabels(Rule):
    """Labels of images that both models saw while serving (podium feedback) show that the challenger is better, or not
    worse. A sequential test: it may be asked as often as one likes. Off unless gate.shadow says otherwise.
    """

    name: ClassVar = "served images"
    order: ClassVar = 15

    shadow: Literal["off", "superior", "non_inferior"] = "off"
    """Evidence of served images with labels (`podium serve --shadow challenger`, `podium feedback labels.csv`).
    superior: the challenger is right more often than the champion; non_inferior: its accuracy is lower by less than
    shadow_margin; off: not asked for."""
    shadow_margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """shadow: non_inferior: the loss of accuracy that has to be excluded."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Applies to a challenger that is compared with the champion, where it is not off."""
        if self.shadow == "off" or evidence.champion is None or evidence.served is None:
            return None
        from podium.shadow.sequential_test import capital, shown

        margin = self.shadow_margin if self.shadow == "non_inferior" else 0.0
        needed, difference = 1 / (1 - evidence.confidence), evidence.served()
        what = f"a loss of {margin:g} of accuracy excluded" if margin else "more accurate than the champion"
        must = f"{what} on served images, evidence of {needed:g} or more"
        if not len(difference):
            return Finding(must, "no labels: podium serve --shadow, then podium feedback", passed=False)
        found = float(capital(difference, margin).max(initial=1.0))
        gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
        images = f"{len(difference):,} labelled images, {gained:,} that only it gets right, {lost:,} only the champion"
        return Finding(must, f"{shown(found)} ({images})", found >= needed)
