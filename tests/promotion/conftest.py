"""What tests of the champion's moves have in common."""

from pathlib import Path

import pytest

from podium.config.params import TrackingParams
from podium.tracking.store import Tracking, connect


@pytest.fixture
def tracking(store: TrackingParams, tmp_path: Path) -> Tracking:
    """A registry with versions 1 to 4 of the model `tiny`."""
    opened = connect(store)
    opened.client.create_registered_model("tiny")
    for _ in range(4):
        opened.client.create_model_version("tiny", str(tmp_path))
    return opened
