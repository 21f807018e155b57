"""The section `gate`: what `podium promote` asks of a challenger. No stage reads it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from podium.components import FROZEN
from podium.config.fields import Fraction, Unit


class GateParams(BaseModel):
    """What a challenger has to show before it becomes champion."""

    model_config = FROZEN

    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: more accurate than the champion; non_inferior: not less accurate by `margin` or more."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """One minus the share of promotions that chance alone may cause."""
    margin: Fraction = 0.01
    """non_inferior: the loss of accuracy that has to be excluded."""
    max_recall_drop: Unit = 0.05
    """No class may lose more of its recall than this, as measured."""
    max_calibration_rise: Unit = 0.02
    """The expected calibration error may rise by this much at most."""
    max_latency_ms: Annotated[float, Field(gt=0)] = 100.0
    """95th percentile of the time for one image file, in this process."""
    max_size_mb: Annotated[float, Field(gt=0)] = 500.0
    """All files of the registered model."""
    min_accuracy: Unit = 0.8
    """The first model, which has no champion to be compared with, must reach this accuracy."""
    min_recall: Unit = 0.5
    """The first model must reach this recall in every class."""
    max_calibration_error: Unit = 0.1
    """The first model's expected calibration error may be this large at most."""
