"""What to try next, as far as the trials say."""

from dataclasses import dataclass

from podium.report.budget import Outlook, Spent
from podium.report.scale import Scale
from podium.report.trials import Search, Trial

EDGE = 0.1
"""A value in the outer tenth of its range is at the edge."""
BEST_SHARE = 10
"""The best one in so many completed trials shows where the good values lie; never fewer than FEWEST."""
FEWEST = 5
UNIMPORTANT = 0.01
"""Share of the variance below which a dimension hardly matters."""
MANY_FAILURES = 0.05


@dataclass(frozen=True)
class Advice:
    """One thing to do and why."""

    do: str
    why: str


def advice(search: Search, spent: Spent, outlook: Outlook) -> list[Advice]:
    """What to change before the next search, the most promising first."""
    found = [a for name in search.space if (a := _edge(search, Scale.of(name, search.space[name])))]
    found += _failures(spent)
    found += _pruner(search, spent)
    found.append(_more(search, outlook))
    found += _fixed(search)
    return found


def _edge(search: Search, scale: Scale) -> Advice | None:
    """Whether the best trials crowd at an end of a range."""
    if scale.choices:
        return None
    complete = [t for t in search.ranked() if scale.name in t.params]
    best = complete[: max(FEWEST, len(complete) // BEST_SHARE)]
    if len(best) < FEWEST:
        return None
    places = [scale.place(t.params[scale.name]) for t in best]
    low, high = sum(p <= EDGE for p in places), sum(p >= 1 - EDGE for p in places)
    if 2 * max(low, high) <= len(best):
        return None
    end, bound, direction = ("low", scale.low, "lower") if low > high else ("high", scale.high, "higher")
    return Advice(
        f"Widen {scale.name}: {direction} than {end} {bound:g}",
        f"{max(low, high)} of the best {len(best)} trials lie in the outer tenth of its range at that end",
    )


def _failures(spent: Spent) -> list[Advice]:
    trials = spent.complete + spent.pruned + spent.failed
    if spent.failed <= MANY_FAILURES * trials:
        return []
    return [Advice("Look at the failed trials below", f"{spent.failed} of {trials} trials gave nothing")]


def _pruner(search: Search, spent: Spent) -> list[Advice]:
    if spent.pruned or len(search.of("COMPLETE")) < FEWEST:
        return []
    return [
        Advice(
            "Let a pruner stop hopeless trials (search.pruner)",
            "every trial ran to its end; on such a search that is usually most of the time",
        )
    ]


def _more(search: Search, outlook: Outlook) -> Advice:
    figures = f"the second half of {outlook.trials} trials brought {outlook.gain:+.4f} on average"
    if outlook.spread is None:
        return Advice("Judge by the curve of the best so far whether more trials pay", figures)
    against = f"{figures}; another seed changes a result by {outlook.spread:.4f}"
    if outlook.worth_it:
        return Advice(f"Raise search.n_trials: this search goes on where it ended ({search.study})", against)
    return Advice("Do not buy more trials of this space: more would mostly find luck", against)


def _fixed(search: Search) -> list[Advice]:
    """Dimensions that hardly matter, in one line."""
    idle = [n for n, share in search.importances.items() if share < UNIMPORTANT and n in search.space]
    if not idle:
        return []
    best: Trial = search.ranked()[0]
    shown = ", ".join(f"{name} at {_value(best, search, name)}" for name in idle)
    return [Advice(f"Fix {shown}", f"each decides less than {UNIMPORTANT:.0%} of the differences between trials")]


def _value(best: Trial, search: Search, name: str) -> str:
    value = best.params.get(name, search.fixed[name])
    return f"{value:.3g}" if isinstance(value, float) else str(value)
