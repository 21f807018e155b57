"""Whether the worker or the trial is to blame where trials fail: counted for each place of a pool.

Two trials in a row that fail on one worker may be bad luck or a bad worker. The second of them is tried in another
place: where it fails there too it is its own failure, where it does not the first place is broken.
"""

from collections import Counter
from typing import Literal

FAILED_IN_A_ROW = 2
"""So many failed trials in a row make a place suspect."""

Verdict = Literal["trial", "suspect"]


class Blame:
    """What became of the trials in each place, by the place's number."""

    def __init__(self) -> None:
        self._row: Counter[int] = Counter()
        """How many trials in a row failed in a place."""
        self._handed: dict[int, int] = {}
        """Trials that are tried elsewhere, with the place in which they failed first."""

    def failed(self, place: int, trial: int, *, others: bool) -> tuple[Verdict, int | None]:
        """`trial` failed in `place`, for a reason for which a worker may be to blame.

        Returns whether that is its own failure or makes the place suspect, which needs `others` to compare with;
        and the place that is cleared by it.
        """
        first = self._handed.pop(trial, None)
        if first is not None and first != place:
            self._row[first] = self._row[place] = 0
            return "trial", first
        self._row[place] += 1
        if first is None and others and self._row[place] >= FAILED_IN_A_ROW:
            self._handed[trial] = place
            return "suspect", None
        return "trial", None

    def worked(self, place: int, trial: int) -> int | None:
        """`trial` did not fail in `place`. Returns the place that is broken, for it failed there."""
        self._row[place] = 0
        first = self._handed.pop(trial, None)
        return first if first != place else None

    def dropped(self, trial: int) -> int | None:
        """`trial` ended in a way that says nothing of workers. Returns the place that is cleared: nothing was shown."""
        return self._handed.pop(trial, None)

    def row(self, place: int) -> int:
        """How many trials in a row failed in `place`."""
        return self._row[place]
