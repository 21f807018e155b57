"""The sections of the stages that make a registered model: `retrain`, `evaluate` and `register`."""

from typing import Annotated

from pydantic import BaseModel, Field

from podium.components import FROZEN
from podium.config.fields import Fraction, Name, Seed


class RetrainParams(BaseModel):
    """The winner, trained again on train and validation."""

    model_config = FROZEN

    seed: Seed = 0
    """Seed of the final training run."""
    compile: bool = False
    """torch.compile: a minute once, then faster steps; where it fails, that is said and it goes on without."""
    profile_steps: Annotated[int, Field(ge=0, le=1000)] = 6
    """Steps that torch.profiler records (0: no profile)."""


class EvaluateParams(BaseModel):
    """The one look at the sealed test set."""

    model_config = FROZEN

    confidence: Fraction = 0.95
    """Level of the intervals."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    """Bins of the expected calibration error."""


class RegisterParams(BaseModel):
    """The registered model."""

    model_config = FROZEN

    name: Name = "digits-classifier"
    """Name in the registry."""
