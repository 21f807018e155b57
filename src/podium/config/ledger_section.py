"""The section `ledger`: the record of the champion's moves outside of the registry. No stage reads it."""

from typing import Literal

from pydantic import BaseModel

from podium.components import FROZEN


class LedgerParams(BaseModel):
    """Where the moves of the champion are recorded besides MLflow."""

    model_config = FROZEN

    git_tags: Literal["none", "annotated", "signed"] = "none"
    """Each move is a git tag too, which `podium history --check` compares: annotated, or signed with the key that git's
    user.signingKey names."""
