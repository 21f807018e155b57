"""A more accurate challenger is not paid for with overconfidence."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import ROUNDING, Evidence, Finding, Rule, judged


class MaxCalibrationRise(Rule):
    """The expected calibration error does not rise by more than a limit against the champion."""

    name: ClassVar = "calibration"
    order: ClassVar = 30

    max_calibration_rise: Unit = 0.02
    """The expected calibration error may rise by this much at most."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply without a champion."""
        if evidence.champion is None:
            return None
        new, old = evidence.challenger.calibration_error, evidence.champion.calibration_error
        return judged(
            f"error rises by {self.max_calibration_rise:g} at most",
            f"{old:.4f} to {new:.4f} ({new - old:+.4f})",
            "select.calibrate: true would help, if it is not set; if that error will do, raise"
            " gate.max_calibration_rise",
            passed=new - old <= self.max_calibration_rise + ROUNDING,
        )
