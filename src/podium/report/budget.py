"""What a search cost, what pruning saved of it, and what more trials could still bring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from podium.report.timing import Timing
from podium.report.trials import Search, Trial


@dataclass(frozen=True)
class Spent:
    """A search's budget; only trials that this study ran itself."""

    complete: int
    pruned: int
    failed: int
    inherited: int
    """Trials taken over from earlier studies: they cost nothing here."""
    epochs: int
    """Epochs trained."""
    epochs_saved: int
    """Epochs that pruned trials were not given any more."""
    seconds: float | None
    """Of the search; None where its times are not known here."""
    seconds_saved: float | None
    """Of one worker, at each pruned trial's own pace."""
    busy: float | None
    """Share of the workers' time that trials filled."""

    @property
    def share_saved(self) -> float:
        """Of the epochs that all trials asked for."""
        return self.epochs_saved / max(self.epochs + self.epochs_saved, 1)


@dataclass(frozen=True)
class Outlook:
    """What as many trials again could bring."""

    trials: int
    """Completed and pruned ones on which this rests."""
    gain: float
    """By how much the best of all is above what a random half of them would have found, on average."""
    spread: float | None
    """Standard deviation of one configuration's values over seeds, pooled; None where none was run twice."""

    @property
    def worth_it(self) -> bool:
        """Whether the gain stands out of what another seed changes anyway."""
        return self.gain > (self.spread or 0.0)


def spent(search: Search, timing: Timing | None) -> Spent:
    """What the search cost."""
    own = [t for t in search.trials if t.own]
    pruned = [t for t in own if t.state == "PRUNED"]
    return Spent(
        complete=sum(t.state == "COMPLETE" for t in own),
        pruned=len(pruned),
        failed=sum(t.state == "FAIL" for t in own),
        inherited=len(search.trials) - len(own),
        epochs=sum(t.epochs for t in own),
        epochs_saved=sum(_unspent(t) for t in pruned),
        seconds=timing.seconds if timing else None,
        seconds_saved=sum(_unspent(t) * _pace(t, timing) for t in pruned) if timing else None,
        busy=_busy(timing) if timing else None,
    )


def outlook(search: Search, candidates: Sequence[dict[str, list[float]]]) -> Outlook:
    """What more trials could bring; `candidates`: confirmed configurations with their `values` over seeds.

    The expected best of a number of trials is the curve of Dodge et al., Show Your Work, EMNLP 2019, with the unbiased
    estimate of Tang et al., ACL 2020. It flattens, so what the second half of the trials brought is about the most
    that as many again will bring. It takes trials for exchangeable, which a sampler that learns makes better than.
    """
    values = [v for t in search.of("COMPLETE", "PRUNED") if (v := t.last_value) is not None]
    gain = max((search.sign * v for v in values), default=0.0) - best_of([search.sign * v for v in values])
    return Outlook(len(values), gain, pooled_spread([c["values"] for c in candidates]))


def best_of(values: Sequence[float]) -> float:
    """The largest of a random half of `values`, on average over all halves; 0 where there are none."""
    ordered, size = sorted(values), (len(values) + 1) // 2
    ways = math.comb(len(ordered), size)
    return sum(v * (math.comb(i, size - 1) / ways) for i, v in enumerate(ordered)) if ordered else 0.0


def pooled_spread(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within `groups`; None where no group has two values."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return None
    squares = sum((value - fmean(group)) ** 2 for group in several for value in group)
    return math.sqrt(squares / freedom)


def _unspent(trial: Trial) -> int:
    return max(trial.planned - trial.epochs, 0)


def _pace(trial: Trial, timing: Timing | None) -> float:
    span = timing.spans.get(trial.number) if timing else None
    return span.epoch_seconds if span else 0.0


def _busy(timing: Timing) -> float | None:
    workers = len(set(timing.lanes().values()))
    whole = workers * timing.seconds
    return min(timing.busy() / whole, 1.0) if whole else None
