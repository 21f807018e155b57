"""What labels of served images say of challenger and champion."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from podium.promotion.rules import Evidence, Finding, Rule
from podium.text import counted


class ServedLabels(Rule):
    """Labels of images that both models predicted while serving (podium feedback) show that the challenger is better,
    or not worse. A sequential test: it may be repeated as often as one likes; all labels count together, whatever their
    order. Off unless gate.shadow says otherwise.
    """

    name: ClassVar = "served images"
    order: ClassVar = 15

    shadow: Literal["off", "superior", "non_inferior"] = "off"
    """Evidence of served images with labels (`podium serve --shadow challenger`, `podium feedback labels.csv`).
    superior: the challenger is right more often than the champion; non_inferior: its accuracy is lower by less than
    shadow_margin, on all stored images that both predicted: where both predict the same they are equal, and a
    disagreement without a label counts as one that only the champion gets right; off: not required."""
    shadow_margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """shadow: non_inferior: the loss of accuracy that has to be excluded."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Applies to a challenger that is compared with the champion, where it is not off."""
        if self.shadow == "off" or evidence.champion is None or evidence.served is None:
            return None
        from podium.shadow.sequential_test import capital, shown

        served, needed = evidence.served(), 1 / (1 - evidence.confidence)
        margin = self.shadow_margin if self.shadow == "non_inferior" else 0.0
        what = f"a loss of {margin:g} of accuracy excluded" if margin else "more accurate than the champion"
        must = f"{what} on served images, evidence of {needed:g} or more"
        sides = f"{served.gained:,} that only it gets right, {served.lost:,} only the champion"
        if not served.images:
            none = "no image of these two models is stored (serve.keep_days, serve.keep_mb): podium serve --shadow"
            return Finding(must, none, passed=False)
        if margin:
            found = capital(served.gained, served.lost + served.unlabelled, served.equal, margin)
            images = f"{counted(served.images, 'stored image')} that both predicted, {sides}"
            if served.unlabelled:
                images += (
                    f", {counted(served.unlabelled, 'disagreement')} without a label, counted as lost: podium compare"
                    " --csv, then podium feedback"
                )
        elif not served.labelled:
            return Finding(must, "no labels: podium compare --csv, then podium feedback", passed=False)
        else:
            found = capital(served.gained, served.lost)
            images = f"{counted(served.labelled, 'labelled image')}, {sides}"
        return Finding(must, f"{shown(found)} ({images})", found >= needed)
