from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from podium.tuning.pools.blame import Blame

Event = tuple[str, int, int]
"""What happened: failed, died, worked, alive (an epoch ended), or alone or last (failed or died, and no other place is
there); in which place; with which trial."""


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([("failed", 0, 1)], ("trial", set())),
        ([("failed", 0, 1), ("failed", 0, 2)], ("suspect", set())),
        ([("failed", 0, 1), ("alone", 0, 2)], ("trial", set())),
        ([("failed", 0, 1), ("worked", 0, 2), ("failed", 0, 3)], ("trial", set())),
        ([("failed", 0, 1), ("failed", 1, 2)], ("trial", set())),
        ([("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2)], ("trial", {0})),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 1, 2)], {0}),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 1, 3)], set()),
        ([("failed", 0, 1), ("failed", 0, 2), ("worked", 0, 2)], set()),
        ([("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2), ("failed", 0, 3)], ("trial", set())),
        # a neighbour in which something failed last is no judge: the trial goes on to the next
        ([("failed", 1, 9), ("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2)], ("suspect", set())),
        ([("failed", 1, 9), ("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2), ("worked", 2, 2)], {0, 1}),
        ([("failed", 1, 9), ("failed", 0, 1), ("failed", 0, 2), ("failed", 1, 2), ("failed", 2, 2)], ("trial", {0, 1})),
        ([("failed", 1, 9), ("failed", 0, 1), ("failed", 0, 2), ("alone", 1, 2)], ("trial", {0})),
        # deaths: three in a row, or the same trial twice
        ([("died", 0, 1), ("died", 0, 2)], ("trial", set())),
        ([("died", 0, 1), ("died", 0, 2), ("died", 0, 3)], ("suspect", set())),
        ([("died", 0, 1), ("died", 0, 1)], ("suspect", set())),
        ([("died", 0, 1), ("worked", 0, 2), ("died", 0, 1)], ("trial", set())),
        ([("died", 0, 1), ("alive", 0, 1), ("died", 0, 1)], ("trial", set())),
        ([("died", 0, 1), ("died", 0, 2), ("alive", 0, 3), ("died", 0, 3)], ("trial", set())),
        ([("died", 0, 1), ("alive", 0, 1), ("died", 0, 1), ("died", 0, 1)], ("suspect", set())),
        ([("failed", 0, 1), ("alive", 0, 2), ("failed", 0, 2)], ("suspect", set())),
        ([("died", 0, 1), ("last", 0, 1)], ("trial", set())),
        ([("died", 0, 1), ("died", 0, 1), ("died", 1, 1)], ("trial", {0})),
        ([("died", 0, 1), ("died", 0, 1), ("worked", 1, 1)], {0}),
        ([("died", 0, 1), ("died", 0, 1), ("died", 1, 1), ("died", 0, 2)], ("trial", set())),
        ([("died", 0, 1), ("died", 0, 1), ("died", 1, 1), ("died", 0, 1), ("died", 1, 1), ("worked", 2, 1)], {0, 1}),
    ],
)
def test_blame_falls_on_the_place_whose_trials_work_elsewhere(events: Sequence[Event], last: Any) -> None:
    blame: Blame[int] = Blame()
    happens: dict[str, Callable[[int, int], Any]] = {
        "worked": blame.worked,
        "alive": lambda place, trial: blame.alive(place),
        "failed": partial(blame.failed, others=True),
        "alone": partial(blame.failed, others=False),
        "died": partial(blame.died, others=True),
        "last": partial(blame.died, others=False),
    }
    answers = [happens[how](place, trial) for how, place, trial in events]
    assert answers[-1] == last
