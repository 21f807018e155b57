"""Errors that end a search: its workers can't begin, none survives, or trial after trial fails."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from podium.errors import PodiumError
from podium.text import counted
from podium.tuning.messages import Ended, Lost

ASIDE = "set_aside"
"""User attribute of a trial whose workers died too often while nothing else got on. In the next session it is handed
out last, and fails if they die too often again."""


def no_worker_begins(in_a_row: int, lost: Lost) -> PodiumError:
    """That so many workers in a row could not begin a trial, the last one that of `lost`."""
    return PodiumError(
        f"no worker can begin a trial ({in_a_row} in a row could not): trial {lost.number}: {lost.reason}"
        "; no trial counts as failed: `dvc repro` resumes from here"
    )


def no_worker_survives(aside: Sequence[Ended]) -> PodiumError:
    """That the workers of the trials `aside` died too often, while no other trial got on."""
    last = aside[-1]
    return PodiumError(
        f"no worker survives a trial: those of the last {len(aside)} trials died, and no other trial got on"
        f" (search.max_failures): trial {last.number}: {last.reason}; no trial counts as failed: `dvc repro` resumes"
        " from here, with other trials first; a trial whose workers die as often again fails then"
    )


def all_failed(row: Sequence[FrozenTrial], max_failures: int) -> PodiumError:
    """That all trials of `row` failed."""
    first = row[0].user_attrs.get("reason", "no reason was recorded")
    return PodiumError(
        f"the last {len(row)} trials all failed (search.max_failures {max_failures});"
        f" the first of them, trial {row[0].number}, because: {first}"
    )


def none_gets_further(failed: Sequence[FrozenTrial], epochs: int, max_failures: int) -> PodiumError:
    """That trials `failed` after `epochs` at the latest, and no other has trained more."""
    first = failed[0].user_attrs.get("reason", "no reason was recorded")
    return PodiumError(
        f"{len(failed)} trials failed, and none has trained more than {counted(epochs, 'epoch')}"
        f" (search.max_failures {max_failures}); the first of them, trial {failed[0].number}, because: {first}"
    )
