"""A ceiling for the calibration error of the first model."""

from typing import ClassVar

from podium.config.problems import Unit
from podium.promotion.rules import Evidence, Finding, Rule


class MaxCalibrationError(Rule):
    """The first model's expected calibration error stays within a limit."""

    name: ClassVar = "calibration"
    order: ClassVar = 30

    max_calibration_error: Unit = 0.1
    """The first model's expected calibration error may be this large at most."""

    def judge(self, evidence: Evidence) -> Finding | None:
        """Does not apply where there is a champion."""
        if evidence.champion or evidence.unreadable:
            return None
        error = evidence.challenger.calibration_error
        return Finding(
            f"error at most {self.max_calibration_error:g}", f"{error:.4f}", error <= self.max_calibration_error
        )
