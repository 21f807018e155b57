"""Whether the worker or the trial is to blame where trials fail or their workers die: counted for each place of a pool.

Two trials in a row that fail on one worker may be bad luck or a bad worker. The second of them is tried in another
place: where it fails there too it is its own failure, where it does not the first place is broken. Likewise where
workers die in their trials. A place in which something failed or died last is no judge of others, as long as there are
more places: two broken devices would clear each other.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, Literal, TypeVar

FAILED_IN_A_ROW = 2
"""So many failed trials in a row make a place suspect; so do so many deaths in a row in one and the same trial."""
DIED_IN_A_ROW = 3
"""So many workers in a row that died do: where memory is short, some worker is killed now and then."""

Verdict = Literal["trial", "suspect"]
Place = TypeVar("Place", bound=Hashable)


class Blame(Generic[Place]):
    """What became of the trials in each place, by what a pool calls its places."""

    def __init__(self) -> None:
        self._row: Counter[Place] = Counter()
        """How many trials in a row failed in a place, or lost their workers."""
        self._handed: dict[int, set[Place]] = {}
        """Trials that are tried elsewhere, with the places in which they failed."""
        self._last: dict[Place, int] = {}
        """The trial in which a worker of a place died last."""

    def failed(self, place: Place, trial: int, *, others: bool) -> tuple[Verdict, set[Place]]:
        """`trial` failed in `place`, for a reason for which a worker may be to blame.

        Returns whether that is its own failure or makes the place suspect, which needs `others` to compare with;
        and the places that are cleared by it.
        """
        return self._judge(place, trial, others, FAILED_IN_A_ROW, left=0)

    def died(self, place: Place, trial: int, *, others: bool) -> tuple[Verdict, set[Place]]:
        """The worker of `trial` died in `place` after it had begun. Returns what `failed` does."""
        again, self._last[place] = self._last.get(place) == trial, trial
        return self._judge(place, trial, others, FAILED_IN_A_ROW if again else DIED_IN_A_ROW, left=1)

    def _judge(self, place: Place, trial: int, others: bool, in_a_row: int, *, left: int) -> tuple[Verdict, set[Place]]:
        """`left`: the row that a place has after the trial was found to be to blame."""
        before, self._row[place] = self._row[place], self._row[place] + 1
        earlier = self._handed.get(trial, set()) - {place}
        is_judge = bool(earlier) and (before == 0 or not others)
        if others and not is_judge and (earlier or self._row[place] >= in_a_row):
            self._handed[trial] = earlier | {place}
            return "suspect", set()
        self._handed.pop(trial, None)
        if earlier:
            self._row.update({one: left - self._row[one] for one in (*earlier, place)})
        return "trial", earlier

    def worked(self, place: Place, trial: int) -> set[Place]:
        """`trial` did not fail in `place`. Returns the places that are broken, for it failed there."""
        self._row[place] = 0
        self._last.pop(place, None)
        return self._handed.pop(trial, set()) - {place}

    def alive(self, place: Place) -> None:
        """Something gets on in `place`: what died there last did not die of it."""
        if self._last.pop(place, None) is not None:
            self._row[place] = 0

    def dropped(self, trial: int) -> set[Place]:
        """`trial` ended in a way that says nothing of workers. Returns the places that are cleared by that."""
        return self._handed.pop(trial, set())

    def row(self, place: Place) -> int:
        """How many trials in a row failed in `place`."""
        return self._row[place]
