"""How soon a search without a first guess has a configuration that holds on new seeds: freeze-thaw and TPE.

The plain script's three dimensions (SGD, constant rate), nothing else, on the digits. Each search runs for a fixed time
and is read as it goes: its choice at any moment is the configuration and number of epochs with the best value so far.
Afterwards every choice is trained again on three fresh seeds; the first moment whose choice is within one image of the
best mean that was found for any of them is what is compared. Start-up counts.

  thaw         search.method: thaw
  tpe          TPE and the median pruner, one number of epochs for each trial, as params.yaml has it
  tpe_shared   the same with search.shared_epochs
  random       random proposals and successive halving, with search.shared_epochs

A search is given --seconds (default 90) on an idle machine; the confirmations take about as long again. So ten seeds of
the first two take about an hour on two cores.
"""

import json
import multiprocessing
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from measuring import Project, axes, parser, publish, table
from podium.config.params import load
from podium.training.seeds import derive
from search_time import PLAIN_SPACE, _stop

SETTINGS: dict[str, dict[str, Any]] = {
    "thaw": {"search__method": "thaw", "search__until": "budget"},
    "tpe": {},
    "tpe_shared": {"search__shared_epochs": True},
    "random": {"search__shared_epochs": True, "search__sampler": "random", "search__pruner": "halving"},
}
FRESH = 3
"""Seeds on which a choice is trained again."""
LOOK = 0.02
"""Seconds between looks at the study."""
Choice = tuple[str, int]
"""A configuration (its fields as JSON) and a number of epochs."""


@dataclass
class Followed:
    """A search, as it went."""

    seed: int
    choices: list[tuple[float, Choice, float]] = field(default_factory=list)
    """Seconds since the start, the choice from then on, and its value."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10, help="searches of each (default 10)")
    options.add_argument("--seconds", type=float, default=90.0, help="of each search (default 90)")
    options.add_argument("--contenders", default="thaw,tpe", help=f"of {', '.join(SETTINGS)} (thaw,tpe)")
    options.add_argument("--workers", type=int, default=2, help="of a search, and for the confirmations (default 2)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.seconds = 1, min(arguments.seconds, 150.0)
    names = arguments.contenders.split(",")
    found: dict[str, list[Followed]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        for seed in range(arguments.seeds):
            for name in names:  # in turns: what disturbs the machine disturbs all
                found[name].append(follow(project, name, seed, arguments.seconds, arguments.workers))
        means = confirm(project.prepared, found, arguments.workers)
        images = _count(project)
    report(found, means, images, arguments)


def _count(project: Project) -> int:
    from podium.data.dataset import open_split

    return len(open_split(project.prepared / "val").labels)


def follow(project: Project, name: str, seed: int, seconds: float, workers: int) -> Followed:
    """Run one search for so long, and read its choices from its journal as it is written."""
    project.forget()
    (project.folder / "params.yaml").write_bytes((Path(__file__).parents[1] / "params.yaml").read_bytes())
    project.set(search__n_trials=10_000, search__seed=seed, search__space=PLAIN_SPACE, search__defaults_first=False)
    project.set(train__optimizer="sgd", train__momentum=0.0, train__schedule="constant", train__label_smoothing=0.0)
    project.set(train__weight_decay=0.0, search__timeout=10 * seconds, runtime__workers=workers, **SETTINGS[name])
    process = project.start(["-m", "podium.stages.search"])
    written: list[tuple[float, int]] = []
    while time.time() - project.started < seconds:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended by itself:\n{project.output()[-3000:]}")
        size = project.journal.stat().st_size if project.journal.is_file() else 0
        if not written or size > written[-1][1]:
            written.append((time.time() - project.started, size))
        time.sleep(LOOK)
    content = project.journal.read_bytes() if project.journal.is_file() else b""
    _stop(process)
    followed = Followed(seed, choices(project, content, written))
    print(f"seed {seed}: {name}: {len(followed.choices)} choices, the last of {_value(followed):.4f}", flush=True)
    return followed


def _value(followed: Followed) -> float:
    return followed.choices[-1][2] if followed.choices else 0.0


def choices(project: Project, journal: bytes, written: list[tuple[float, int]]) -> list[tuple[float, Choice, float]]:
    """What the search would have chosen when: after each line of its `journal`, whose size at each moment is known."""
    from optuna.study import StudyDirection

    from podium.tuning.shared_epochs import best_epoch, dimension_of

    params = load(project.folder / "params.yaml")
    recipes: dict[int, dict[str, Any]] = {}
    values: dict[int, dict[int, float]] = {}
    found: list[tuple[float, Choice, float]] = []
    best = 0.0
    for at, line in _lines(journal, written):
        record = json.loads(line)
        number = record.get("trial_id")
        if "recipe" in record.get("user_attr", {}):
            recipes[number] = record["user_attr"]["recipe"]
        if "intermediate_value" not in record:
            continue
        values.setdefault(number, {})[int(record["step"])] = float(record["intermediate_value"])
        recipe = params.recipe().replace(recipes[number])
        dimension = dimension_of(params.search, recipe)
        epoch = int(record["step"])
        if dimension is not None:
            result = best_epoch(values[number], dimension, StudyDirection.MAXIMIZE)
        else:
            result = (epoch, values[number][epoch]) if epoch == recipe.train.epochs else None
        if result is not None and result[1] > best:
            best = result[1]
            fields = recipe.replace({"train.epochs": result[0]}).nested()
            found.append((at, (json.dumps(fields, sort_keys=True), result[0]), best))
    return found


def _lines(journal: bytes, written: list[tuple[float, int]]) -> list[tuple[float, bytes]]:
    """The lines that each look found new, with its time."""
    lines = []
    for (_, before), (at, after) in pairwise([(0.0, 0), *written]):
        start = journal.rfind(b"\n", 0, before) + 1
        end = journal.rfind(b"\n", 0, after) + 1
        lines += [(at, line) for line in journal[start:end].splitlines()]
    return lines


def confirm(prepared: Path, found: dict[str, list[Followed]], workers: int) -> dict[Choice, float]:
    """The mean validation accuracy of every choice over fresh seeds, by choice."""
    wanted = sorted({choice for runs in found.values() for run in runs for _, choice, _ in run.choices})
    jobs = [(recipe, derive("fresh", index)) for recipe, _ in wanted for index in range(FRESH)]
    print(f"{len(wanted)} choices on {FRESH} fresh seeds each", flush=True)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        values = pool.starmap(partial(trained, str(prepared)), jobs, chunksize=1)
    return {choice: fmean(values[FRESH * k : FRESH * (k + 1)]) for k, choice in enumerate(wanted)}


def trained(prepared: str, recipe: str, seed: int) -> float:
    """The last validation accuracy of a training; 0 where it diverges."""
    import torch

    from podium.config.recipe import Recipe
    from podium.training.loop import DivergedError
    from podium.training.program import training
    from podium.tuning.work import TrialData

    torch.set_num_threads(1)
    data = TrialData.load(Path(prepared), torch.device("cpu"))
    run = training(Recipe.model_validate(json.loads(recipe)), data.images, seed, data.device)
    try:
        return float(run.train(data.train, data.val)[-1]["val_accuracy"])
    except DivergedError:
        return 0.0


def reached(run: Followed, means: dict[Choice, float], target: float) -> float | None:
    """When the search's choice was first as good as `target` on fresh seeds."""
    return next((at for at, choice, _ in run.choices if means[choice] >= target - 1e-9), None)


def report(found: dict[str, list[Followed]], means: dict[Choice, float], images: int, arguments: Any) -> None:
    """A row a search: when it had the target, in how many seeds, and whether sooner than TPE (Wilcoxon)."""
    from scipy.stats import wilcoxon

    if not means:
        raise SystemExit("no search had a value in its time: raise --seconds")
    best = max(means.values())
    target = best - 1 / images
    times = {name: [reached(run, means, target) for run in runs] for name, runs in found.items()}
    counted = {name: [at if at is not None else arguments.seconds for at in ats] for name, ats in times.items()}
    rows, summary = [], {}
    for name, runs in found.items():
        had = sum(at is not None for at in times[name])
        ratio = median(counted[name]) / median(counted["tpe"]) if "tpe" in counted else None
        differ = name != "tpe" and "tpe" in counted and counted[name] != counted["tpe"]
        p = float(wilcoxon(counted[name], counted["tpe"]).pvalue) if differ and len(runs) > 1 else None
        last = [means[run.choices[-1][1]] if run.choices else 0.0 for run in runs]
        rows.append([name, f"{had} of {len(runs)}", f"{median(counted[name]):.1f} s",
                     "" if ratio is None else f"{ratio:.2f}", "" if p is None else f"{p:.3f}",
                     f"{median(last):.4f}"])  # fmt: skip
        summary[name] = {"seconds": times[name], "ratio": ratio, "p": p, "confirmed": last}
    head = ["search", "reached", "after (median)", "of tpe's time", "p", "confirmed in the end (median)"]
    text = f"best on fresh seeds {best:.4f}, target {target:.4f}; {arguments.seconds:g} s each\n" + table(head, rows)
    publish("thaw", text, {"target": target, "searches": summary}, draw(found, means), quick=arguments.quick)


def draw(found: dict[str, list[Followed]], means: dict[Choice, float]) -> Any:
    """The mean on fresh seeds of each search's choice over time."""
    figure, drawn = axes(8, 4.5)
    for index, (name, runs) in enumerate(found.items()):
        for number, run in enumerate(runs):
            values = [means[choice] for _, choice, _ in run.choices]
            label = name if number == 0 else None
            drawn.step([at for at, *_ in run.choices], values, where="post", color=f"C{index}", label=label)
    drawn.set(xscale="log", xlabel="seconds since the process was started", ylabel="accuracy on fresh seeds")
    drawn.set_ylim(0.9, 1.0)
    drawn.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
