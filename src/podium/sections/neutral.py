"""The sections that change no result: `tracking` and `runtime`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from podium.recipe import FROZEN
from podium.sections.fields import Name, Text


class TrackingParams(BaseModel):
    """Where runs are recorded; changes no result."""

    model_config = FROZEN

    uri: Text = "sqlite:///mlruns/mlflow.db"
    """An MLflow tracking URI; a relative SQLite path starts at the project's root."""
    experiment: Name = "podium"
    """MLflow experiment."""
    flush_seconds: Annotated[float, Field(gt=0)] = 5.0
    """A running trial's finished epochs reach MLflow at least this often."""


class RuntimeParams(BaseModel):
    """How the work is carried out; changes no result."""

    model_config = FROZEN

    engine: Literal["processes", "inline"] = "processes"
    """processes: workers of their own; inline: everything in the stage's process (one worker)."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Trials at the same time (0: one a core)."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Intra-op threads of a training on the CPU; more pay for large images on idle cores only."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one, else the CPU."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 5.0
    """A running trial is checkpointed this often."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """A trial whose worker died goes on from its checkpoint this often, then fails."""
