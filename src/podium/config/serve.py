"""The section `serve`: the limits of `podium serve`. No stage reads it."""

from typing import Annotated

from pydantic import BaseModel, Field

from podium.components import FROZEN
from podium.config.fields import Text


class ServeParams(BaseModel):
    """How `podium serve` answers; what an image may be is fixed in the model."""

    model_config = FROZEN

    host: Text = "127.0.0.1"
    """Address to listen at; anybody who reaches it may ask, so another than 127.0.0.1 needs a proxy with a login."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5001
    """Port to listen at."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes, each with the model in memory."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Intra-op threads of a worker."""
    max_request_mb: Annotated[float, Field(gt=0)] = 64.0
    """A longer request is refused before it is read to its end."""
    max_concurrent: Annotated[int, Field(ge=1)] = 64
    """Connections of a worker at a time; a further one is told to come back (503)."""
    timeout_seconds: Annotated[int, Field(ge=1)] = 30
    """A request that takes longer is given up (504)."""
