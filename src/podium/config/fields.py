"""Kinds of values that several sections have."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"must be at most 100 letters, digits, `.`, `_` and `-`, a letter or digit first; got {text!r}"
        )
    return text


Fraction = Annotated[float, Field(gt=0, lt=1)]
"""Neither nothing nor all."""
Unit = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, AfterValidator(_name)]
"""What MLflow takes as a name everywhere."""
Text = Annotated[str, Field(min_length=1)]
