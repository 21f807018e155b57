"""The section `drift`: windows of answered images, and when `podium drift` calls one drifted. No stage reads it."""

from typing import Annotated

from pydantic import BaseModel, Field

from podium.components import FROZEN


class DriftParams(BaseModel):
    """How `podium serve` keeps statistics of what it answers, and how `podium drift` compares them."""

    model_config = FROZEN

    window: Annotated[int, Field(ge=100)] | None = 1000
    """Answered images of a window, over all workers and servers; null: no statistics are kept."""
    hours: Annotated[float, Field(gt=0)] = 24.0
    """A window whose first image is older is complete too, if it has 50 images."""
    keep: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Windows of each version that are kept, about 70 kB each."""
    folder: str = ""
    """Where they are kept; empty: mlruns/drift. Servers of several machines share windows in a folder that all see."""
    false_alarm: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Chance that any of all windows of a version is called drifted although nothing changed."""
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """A change below it is no drift, however sure it is: the distance of two distributions, 0 to 1."""
