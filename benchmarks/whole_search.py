"""How long a search of 100 trials takes, and what it is worth: samplers and pruners beside each other, no first guess.

Real searches of a problem (problems.py) to their own end, two workers, start-up included, the kinds in turns. The three
best configurations of each, which `select` confirms, are trained again on fresh seeds; the best mean of the three is
what the search is worth. A search that is quicker and worth as much is better: both are shown. Wilcoxon's signed ranks
compare each kind with the default, seed by seed.

  tpe           TPE and the median pruner, as params.yaml has it
  tpe_halving   TPE and successive halving
  random        random proposals and successive halving, with search.shared_epochs

What is done is stored in the folder --work: the same command continues where it was stopped. The searches need idle
cores, the confirmations do not.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import thaw
from fresh_seeds import FRESH, Choice, confirm
from measuring import Project, parser, publish, table
from photo_sets import CACHE
from podium.config.params import load
from problems import PROBLEMS

SETTINGS = thaw.SETTINGS | {"tpe_halving": {"search__pruner": "halving"}}
KINDS = ("tpe", "tpe_halving", "random")
TOP = 3
"""Finalists: params.yaml's select.top_k."""


@dataclass
class Whole:
    """A search that has ended."""

    seconds: float
    finalists: list[Choice]
    values: list[float]
    """What the search saw of each."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--problem", choices=list(PROBLEMS), default="digits", help="what is searched (digits)")
    options.add_argument("--seeds", type=int, default=10, help="searches of each (default 10)")
    options.add_argument("--trials", type=int, default=100, help="of each search (default 100)")
    options.add_argument("--contenders", default="tpe,random", help=f"of {', '.join(KINDS)} (tpe,random)")
    options.add_argument("--fresh", type=int, default=FRESH, help=f"seeds of a confirmation (default {FRESH})")
    options.add_argument("--workers", type=int, default=2, help="of a search, and for the confirmations (default 2)")
    options.add_argument("--searches-only", action="store_true", help="leave the confirmations to another call")
    options.add_argument("--work", type=Path, default=CACHE / "whole", help="folder of what is done")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.trials = 1, 8
    names = arguments.contenders.split(",")
    folder = arguments.work / f"{arguments.problem}-{arguments.trials}-{arguments.workers}"
    project = thaw.opened(PROBLEMS[arguments.problem], folder / "project")
    found: dict[str, list[Whole]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:  # in turns: what disturbs the machine disturbs all
            found[name].append(_once(folder / f"{name}-{seed}.json", project, name, seed, arguments))
    if arguments.searches_only:
        return
    wanted = {choice for runs in found.values() for run in runs for choice in run.finalists}
    means = confirm(project.prepared, folder / "confirmed.jsonl", wanted, arguments.workers, arguments.fresh)
    report(found, means, arguments)


def _once(path: Path, project: Project, name: str, seed: int, arguments: Any) -> Whole:
    """A search that was done before, or is now."""
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Whole(**known | {"finalists": [(recipe, epochs) for recipe, epochs in known["finalists"]]})
    project.forget()
    shutil.copy(project.folder / "problem.yaml", project.folder / "params.yaml")
    trials, workers = arguments.trials, arguments.workers
    project.set(search__seed=seed, search__n_trials=trials, runtime__workers=workers, **SETTINGS[name])
    seconds = project.run(["-m", "podium.stages.search"])
    base = load(project.folder / "params.yaml").recipe()
    ranking = json.loads((project.folder / "data/search/ranking.json").read_text(encoding="utf-8"))[:TOP]
    finalists = [thaw._choice(base.replace(entry["recipe"])) for entry in ranking]
    whole = Whole(seconds, finalists, [entry["value"] for entry in ranking])
    path.write_text(json.dumps(asdict(whole)), encoding="utf-8")
    print(f"seed {seed}: {name}: {seconds:.1f} s, best {whole.values[0]:.4f}", flush=True)
    return whole


def report(found: dict[str, list[Whole]], means: dict[Choice, float], arguments: Any) -> None:
    """A row a kind: seconds, and what it is worth, both beside the first kind."""
    first = next(iter(found))
    seconds = {name: [run.seconds for run in runs] for name, runs in found.items()}
    worth = {name: [max(means[choice] for choice in run.finalists) for run in runs] for name, runs in found.items()}
    rows = [
        [name, f"{median(seconds[name]):.1f} s", f"{median(seconds[name]) / median(seconds[first]):.2f}",
         _p(seconds[name], seconds[first]), f"{median(worth[name]):.4f}", _p(worth[name], worth[first])]
        for name in found
    ]  # fmt: skip
    head = ["search", "time (median)", f"of {first}'s", "p", f"best of {TOP} on fresh seeds (median)", "p"]
    text = f"{arguments.problem}: {arguments.trials} trials, {arguments.seeds} seeds, {arguments.fresh} fresh ones\n"
    content = {name: {"seconds": seconds[name], "worth": worth[name]} for name in found}
    publish(f"whole_search_{arguments.problem}", text + table(head, rows), content, quick=arguments.quick)


def _p(ours: list[float], theirs: list[float]) -> str:
    from scipy.stats import wilcoxon

    return "" if ours == theirs or len(ours) < 2 else f"{wilcoxon(ours, theirs).pvalue:.3f}"


if __name__ == "__main__":
    main()
