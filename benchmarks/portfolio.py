"""A portfolio of starts: configurations, cheapest first, one of which is good on most problems; learnt, and tried out.

The configurations that are recorded for all problems of SAME_SPACE (problems.py) are candidates, but for the shipped
first guess, which was tuned on the digits. Greedily the one is added after which the mean over problems of what the
portfolio's best is short of the problem's best (in the logarithm of the error) falls most (F. Winkelmolen et al.,
Practical and Sample Efficient Zero-Shot HPO, arXiv 2007.13382). Each problem is left out once: the portfolio of the
others is what the simulated searches on it begin with.

    python benchmarks/portfolio.py            learn, leave one out, simulate; print how much it helps
    python benchmarks/portfolio.py --write    write the portfolio of all problems to src/podium/tuning/portfolio.json
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import numpy as np
import optuna

import curves
import simulation
from measuring import ROOT, parser, publish, table
from podium.config.space import Value
from podium.tuning.study import point
from problems import SAME_SPACE
from worlds import World

SIZE = 6
"""Configurations."""
WRITTEN = ROOT / "src/podium/tuning/portfolio.json"
METHODS = ("tpe + median", "thaw")
LIMITS = {"digits": 400.0, "letters": 800.0, "photos": 15.0, "icons": 15.0}
"""Simulated seconds of a search at most."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="simulated searches of each (default 20)")
    options.add_argument("--limits", default="", help="other seconds of a search at most, as in photos=8,digits=100")
    options.add_argument("--write", action="store_true", help="write the portfolio of all problems")
    arguments = options.parse_args()
    limits = LIMITS | limits_of(arguments.limits, options.error)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    worlds = {name: World.open(name) for name in SAME_SPACE if curves.table(name).is_file()}
    if arguments.write:
        write(WRITTEN, worlds)
        return
    rows, content = [], {}
    for name, world in worlds.items():
        others = {other: one for other, one in worlds.items() if other != name}
        starts = [values_of(world, number) for number in learn(others)]
        for method in METHODS:
            found = {
                which: [
                    simulation.simulate(world, simulation.SEARCHES[method], seed, limit=limits[name], enqueued=first)
                    for seed in range(2 if arguments.quick else arguments.seeds)
                ]
                for which, first in (("without", ()), ("with", starts))
            }
            rows.append([name, method, *_compared(found)])
            content[f"{name}: {method}"] = {which: [vars(one) for one in runs] for which, runs in found.items()}
    head = ["left out", "search", "without, s", "with, s", "with / without", "p"]
    publish("portfolio", table(head, rows), {"searches": content}, quick=arguments.quick)


def limits_of(text: str, refuse: Callable[[str], NoReturn]) -> dict[str, float]:
    """Those of `text`, such as photos=8,digits=100."""
    found = {}
    for part in text.split(",") if text else []:
        name, _, value = part.partition("=")
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if name not in LIMITS or not 0 < seconds < math.inf:
            refuse(f"--limits must be some of {', '.join(LIMITS)}, each with seconds above 0: photos=8; got {part}")
        found[name] = seconds
    return found


def _compared(found: dict[str, list[simulation.Outcome]]) -> list[str]:
    """Medians of the seconds to what counts, their ratio, and Wilcoxon's p."""
    from scipy.stats import wilcoxon

    times = {which: [one.had.get(simulation.COUNTS, one.seconds) for one in runs] for which, runs in found.items()}
    reached = {which: sum(simulation.COUNTS in one.had for one in runs) for which, runs in found.items()}
    shown = [f"{median(times[which]):.1f} ({reached[which]} of {len(times[which])})" for which in ("without", "with")]
    differ = times["with"] != times["without"]
    p = f"{wilcoxon(times['with'], times['without']).pvalue:.3g}" if differ else ""
    return [*shown, f"{median(times['with']) / median(times['without']):.2f}", p]


def learn(worlds: dict[str, World]) -> list[int]:
    """The numbers of the portfolio's configurations, cheapest first."""
    numbers = sorted(set.intersection(*({one.number for one in world.table} for world in worlds.values())))
    short = np.array([_shortfall(world, numbers) for world in worlds.values()])
    chosen: list[int] = []
    reached = np.full(len(short), np.inf)
    while len(chosen) < SIZE:
        scores = np.minimum(short, reached[:, None]).mean(axis=0)
        if chosen and scores.min() >= reached.mean():  # nothing adds to it: a second round, of the next best
            reached = np.full(len(short), np.inf)
            scores = short.mean(axis=0)
        scores[chosen] = np.inf
        best = int(np.argmin(scores))
        chosen.append(best)
        reached = np.minimum(reached, short[:, best])
    cost = {row: sum(_seconds(world, numbers[row]) for world in worlds.values()) for row in chosen}
    return [numbers[row] for row in sorted(cost, key=lambda row: cost[row])]


def _shortfall(world: World, numbers: Sequence[int]) -> list[float]:
    """What each configuration is short of the best, in the logarithm of the error; one that diverges: of the worst."""
    known = {one.number: world.smooth[row][-1] if len(one.accuracy) == one.recipe.train.epochs else np.inf
             for row, one in enumerate(world.table)}  # fmt: skip
    ends = np.array([known[number] for number in numbers])
    ends = np.minimum(ends, ends[np.isfinite(ends)].max())
    return list(ends - ends.min())


def _seconds(world: World, number: int) -> float:
    """Seconds of a training, as a fraction of the problem's median one."""
    took = {one.number: world.seconds(one.recipe) * one.recipe.train.epochs for one in world.table}
    return took[number] / median(took.values())


def values_of(world: World, number: int) -> dict[str, Value]:
    """A configuration by dimension of a problem's space."""
    values = point(world.params.space, curves.configuration(world.problem, number), world.base)
    if isinstance(values, str):
        raise SystemExit(f"portfolio: configuration {number}: {values}")
    return values


def write(path: Path, worlds: dict[str, World]) -> None:
    """Write the portfolio of all problems: `learnt_on`, and `starts` by dimension of the digits' space."""
    starts = [values_of(worlds["digits"], number) for number in learn(worlds)]
    rounded = [{name: _rounded(value) for name, value in one.items()} for one in starts]
    content: dict[str, Any] = {"learnt_on": sorted(worlds), "starts": rounded}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(starts)} configurations")


def _rounded(value: Value) -> Value:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
