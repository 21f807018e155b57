from collections.abc import Sequence
from typing import Any

import pytest

from podium.tuning.pools.blame import Blame

Event = tuple[str, int, int]
"""What happened: failed, alone (failed, and no other place is there) or worked; in which place; with which trial."""


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([("failed", 0, 1)], ("trial", None)),
        ([("failed", 0, 1), ("failed", 0, 2)], ("suspect", None)),
        ([("failed", 0, 1), ("alone", 0, 2)], ("trial", None)),
        ([("failed", 0, 1), ("worked", 0, 2), ("failed", 0, 3)], ("trial", None)),
        ([("failed", 0, 1), ("failed", 1, 2)], ("trial", None)),
        ([("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2)], ("trial", 0)),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 1, 2)], 0),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 1, 3)], None),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 0, 2)], None),
        ([("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2), ("failed", 0, 3)], ("trial", None)),
    ],
)
def test_blame_falls_on_the_place_whose_trials_work_elsewhere(events: Sequence[Event], last: Any) -> None:
    blame = Blame()
    answers = [
        blame.worked(place, trial) if how == "worked" else blame.failed(place, trial, others=how == "failed")
        for how, place, trial in events
    ]
    assert answers[-1] == last
