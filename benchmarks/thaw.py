"""How soon a search without a first guess has a configuration that holds on new seeds: freeze-thaw and TPE.

Real searches of a problem (problems.py): the plain script's three dimensions on the digits if no other is named. Each
runs for a fixed time and is read as it goes: at any moment it has finalists, the --top configurations and numbers of
epochs with the best values so far, as the stage `select` takes them. Afterwards they are trained again on fresh seeds
(--fresh), the last ones and in order those until the target; the first moment that has one within one image of the best
mean is what is compared. Start-up counts. Of a script, and of searches that were recorded so, only the best counts.

  thaw         search.method: thaw
  tpe          TPE and the median pruner, one number of epochs for each trial, as params.yaml has it
  tpe_shared   the same with search.shared_epochs
  random       random proposals and successive halving, with search.shared_epochs
  plain, ray, lightning    the blog post's program, Ray Tune with ASHA, Lightning with Optuna, as search_time.py
               starts them (on the problem `script`): their choice is the trial with the best value that has ended

Ten seeds of three contenders take 32 minutes for the searches, which need two idle cores, and an hour and more for the
confirmations. What is done is stored in the folder --work, search by search: the same command continues where it was
stopped, and prints the verdict again where nothing is left to do. Searches in benchmarks/searches are not run again.
"""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from fresh_seeds import FRESH, Choice, confirm
from measuring import ROOT, Project, axes, parser, publish, table
from photo_sets import CACHE
from podium.config.params import load
from podium.config.recipe import Recipe
from problems import PROBLEMS, Problem
from search_time import SCRIPTS, _stop, said

SETTINGS: dict[str, dict[str, Any]] = {
    "thaw": {"search__method": "thaw", "search__until": "budget"},
    "tpe": {},
    "tpe_shared": {"search__shared_epochs": True},
    "random": {"search__shared_epochs": True, "search__sampler": "random", "search__pruner": "halving"},
}
TOGETHER = 3
"""Sets of finalists of a search that are trained again at once, where the first of them has to be."""
LOOK = 0.02
"""Seconds between looks at the study."""
RECORDED = Path(__file__).parent / "searches"
"""Searches that were followed before (docs/benchmarks/search.md says how); --again follows new ones."""
DEMANDS = {"tpe": 0.6, "plain": 0.5, "ray": 0.5, "lightning": 0.5}
"""How much of the time of each freeze-thaw may take: issue 19."""


Written = tuple[float, int]
"""Seconds since the start, and the bytes of the journal then."""


@dataclass
class Followed:
    """A search, as it went."""

    seed: int
    finalists: list[tuple[float, list[Choice], float]] = field(default_factory=list)
    """Seconds since the start, the finalists from then on, the best first, and its value."""
    written: list[Written] = field(default_factory=list)
    """When the journal was how long."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--problem", choices=list(PROBLEMS), default="bare", help="what is searched (bare)")
    options.add_argument("--seeds", type=int, default=10, help="searches of each (default 10)")
    options.add_argument("--seconds", type=float, default=60.0, help="of each search (default 60)")
    known = ", ".join([*SETTINGS, *SCRIPTS])
    options.add_argument("--contenders", default="thaw,tpe", help=f"of {known} (thaw,tpe)")
    options.add_argument("--top", type=int, default=1, help="finalists; params.yaml has select.top_k: 3 (default 1)")
    options.add_argument("--fresh", type=int, default=FRESH, help=f"seeds of a confirmation (default {FRESH})")
    options.add_argument("--workers", type=int, default=2, help="of a search, and for the confirmations (default 2)")
    options.add_argument("--again", action="store_true", help="search also where a search is recorded")
    options.add_argument("--searches-only", action="store_true", help="leave the confirmations to another call")
    options.add_argument("--work", type=Path, default=CACHE / "thaw", help="folder of what is done")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.seconds = 1, min(arguments.seconds, 150.0)
    names = arguments.contenders.split(",")
    # Another length or number of workers is another measurement.
    about = f"{arguments.problem}-{arguments.seconds:g}s-{arguments.workers}"
    about += f"-top{arguments.top}" if arguments.top > 1 else ""
    folder = arguments.work / about
    project = opened(PROBLEMS[arguments.problem], folder / "project")
    found: dict[str, list[Followed]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:  # in turns: what disturbs the machine disturbs all
            found[name].append(_once(folder / f"{name}-{seed}.json", project, name, seed, arguments))
    if not arguments.quick:
        record(folder, project, found)
    if arguments.searches_only:
        return
    means: dict[Choice, float] = {}
    images = _count(project)
    while wanted := asked_for(found, means, images):
        means |= confirm(project.prepared, folder / "confirmed.jsonl", wanted, arguments.workers, arguments.fresh)
    report(found, means, images, arguments)


def opened(problem: Problem, folder: Path) -> Project:
    """A project with the images of `problem`, prepared once, and its parameters in problem.yaml.

    Where a head alone is trained, the features of the images are there too.
    """
    project = Project(folder)
    if not (project.prepared / "dataset.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, folder / name)
        project.set(**{name.replace(".", "__", 1): value for name, value in problem.changes.items()})
        space = {name: d.model_dump(exclude_defaults=True) for name, d in problem.params().search.space.items()}
        project.set(search__space=space, search__defaults_first=problem.first_guess, search__n_trials=10_000)
        shutil.copy(folder / "params.yaml", folder / "problem.yaml")
        if problem.pictures is not None:
            problem.pictures(folder / "data/raw/images")
        project.run(["-m", "podium.stages.prepare"])
        if problem.changes.get("train.backbone_rate") == 0:  # every search finds the features of the images
            project.set(search__n_trials=1)
            project.run(["-m", "podium.stages.search"])
    return project


def _once(path: Path, project: Project, name: str, seed: int, arguments: Any) -> Followed:
    """A search that was followed before, here or where it was recorded, or is now."""
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Followed(seed, [(at, [(r, e) for r, e in few], value) for at, few, value in known["finalists"]])
    recorded = read_recorded(RECORDED / f"{path.parent.name}.json").get(name, [])
    if not arguments.again and seed < len(recorded):
        base = load(project.folder / "problem.yaml").recipe()
        found = [(at, [_choice(base.replace(fields)) for fields in few], value) for at, few, value in recorded[seed]]
        return Followed(seed, found)
    followed = follow(project, name, seed, arguments, path.with_suffix(".journal"))
    path.write_text(json.dumps(asdict(followed)), encoding="utf-8")
    return followed


def _choice(recipe: Recipe) -> Choice:
    return json.dumps(recipe.nested(), sort_keys=True), recipe.train.epochs


def record(folder: Path, project: Project, found: dict[str, list[Followed]]) -> None:
    """Store the searches: they need an idle machine for an hour, the confirmations do not."""
    base = load(project.folder / "problem.yaml").recipe().nested()
    content = {
        name: [
            [[round(at, 2), [_changed(base, r) for r, _ in few], value] for at, few, value in run.finalists]
            for run in runs
        ]
        for name, runs in found.items()
    }
    RECORDED.mkdir(exist_ok=True)
    path = RECORDED / f"{folder.name}.json"
    path.write_text(json.dumps(read_recorded(path) | content, separators=(",", ":")) + "\n", encoding="utf-8")


def read_recorded(path: Path) -> dict[str, list[list[tuple[float, list[dict[str, Any]], float]]]]:
    """Of each kind of search its runs: seconds, of each finalist the fields that are not those of problem.yaml, and
    the best one's value."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _changed(base: dict[str, dict[str, Any]], recipe: str) -> dict[str, Any]:
    """The fields of `recipe` that are others than in `base`."""
    return {
        f"{section}.{name}": value
        for section, fields in json.loads(recipe).items()
        for name, value in fields.items()
        if base.get(section, {}).get(name) != value
    }


def _count(project: Project) -> int:
    from podium.data.dataset import open_split

    return len(open_split(project.prepared / "val").labels)


def follow(project: Project, name: str, seed: int, arguments: Any, journal: Path) -> Followed:
    """Run one search for its time, and read its finalists from its journal as it is written; a copy is `journal`."""
    seconds, workers = arguments.seconds, arguments.workers
    project.forget()
    shutil.copy(project.folder / "problem.yaml", project.folder / "params.yaml")
    if name in SCRIPTS:
        process = project.start(["-m", SCRIPTS[name], str(project.prepared), "10000", str(seed)])
    else:
        project.set(search__seed=seed, search__timeout=10 * seconds, runtime__workers=workers, **SETTINGS[name])
        process = project.start(["-m", "podium.stages.search"])
    written: list[Written] = []
    while time.time() - project.started < seconds:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended by itself:\n{project.output()[-3000:]}")
        size = project.journal.stat().st_size if project.journal.is_file() else 0
        if not written or size > written[-1][1]:
            written.append((time.time() - project.started, size))
        time.sleep(LOOK)
    content = project.journal.read_bytes() if project.journal.is_file() else b""
    _stop(process)
    journal.write_bytes(content)
    found = said_finalists(project) if name in SCRIPTS else finalists(project, content, written, arguments.top)
    followed = Followed(seed, [one for one in found if one[0] < seconds], written)
    best = followed.finalists[-1][2] if followed.finalists else 0.0
    print(f"seed {seed}: {name}: {len(followed.finalists)} sets of finalists, the last best of {best:.4f}", flush=True)
    return followed


def finalists(
    project: Project, journal: bytes, written: list[Written], top: int
) -> list[tuple[float, list[Choice], float]]:
    """The finalists of the search: after each line of its `journal`, whose size at each moment is known."""
    from optuna.study import StudyDirection

    from podium.tuning.shared_epochs import best_epoch, dimension_of

    params = load(project.folder / "params.yaml")
    recipes: dict[int, dict[str, Any]] = {}
    values: dict[int, dict[int, float]] = {}
    found: list[tuple[float, list[Choice], float]] = []
    results: dict[int, tuple[float, float, Choice]] = {}
    losses = losses_of(journal)
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
        if result is None:
            continue
        loss = losses.get((number, result[0]), math.inf)
        results[number] = -result[1], loss, _choice(recipe.replace({"train.epochs": result[0]}))
        best = sorted(results.values(), key=lambda one: one[:2])[:top]  # podium/tuning/outcome.py, `ranked`
        few = [choice for *_, choice in best]
        if not found or few != found[-1][1]:
            found.append((at, few, -best[0][0]))
    return found


def losses_of(journal: bytes) -> dict[tuple[int, int], float]:
    """The validation loss of each trial after each epoch, by which equal values are ranked."""
    found = {}
    for line in journal.splitlines():
        if b'"history"' in line and b'"user_attr"' in line:
            record = json.loads(line)
            for epoch in record["user_attr"]["history"]:
                found[record["trial_id"], int(epoch["epoch"])] = float(epoch["val_loss"])
    return found


def said_finalists(project: Project) -> list[tuple[float, list[Choice], float]]:
    """What a script would have chosen when: after each trial that has ended."""
    params = load(project.folder / "params.yaml")
    found: list[tuple[float, list[Choice], float]] = []
    for ended, value, settings in sorted(said(project), key=lambda one: one[0]):
        if value > (found[-1][2] if found else 0.0):
            found.append((ended - project.started, [_choice(params.recipe().replace(settings))], value))
    return found


def _lines(journal: bytes, written: list[Written]) -> list[tuple[float, bytes]]:
    """The lines that each look found new, with its time."""
    lines = []
    for (_, before), (at, after) in pairwise([(0.0, 0), *written]):
        start = journal.rfind(b"\n", 0, before) + 1
        end = journal.rfind(b"\n", 0, after) + 1
        lines += [(at, line) for line in journal[start:end].splitlines()]
    return lines


def asked_for(found: dict[str, list[Followed]], means: dict[Choice, float], images: int) -> set[Choice]:
    """What has to be trained again next: each search's last finalists; then, in order, those until the target.

    What comes after that changes nothing but by being the best of all, which the last ones are asked for.
    """
    searches = [run for runs in found.values() for run in runs if run.finalists]
    if last := {choice for run in searches for choice in run.finalists[-1][1]} - means.keys():
        return last
    target = target_of(means, images)
    wanted: set[Choice] = set()
    for run in searches:
        sets = [few for _, few, _ in run.finalists]
        first = next((i for i, few in enumerate(sets) if any(means.get(c, 1.0) >= target - 1e-9 for c in few)), None)
        if first is not None and set(sets[first]) - means.keys():
            wanted |= {choice for few in sets[first : first + TOGETHER] for choice in few} - means.keys()
    return wanted


def target_of(means: dict[Choice, float], images: int) -> float:
    """Within one validation image of the best on fresh seeds."""
    return max(means.values(), default=0.0) - 1 / images


def reached(run: Followed, means: dict[Choice, float], target: float) -> float | None:
    """When one of the search's finalists was first as good as `target` on fresh seeds."""
    return next((at for at, few, _ in run.finalists if _best(few, means) >= target - 1e-9), None)


def _best(few: list[Choice], means: dict[Choice, float]) -> float:
    """The mean on fresh seeds of the best of them, which `select` would take."""
    return max((means.get(choice, 0.0) for choice in few), default=0.0)


def report(found: dict[str, list[Followed]], means: dict[Choice, float], images: int, arguments: Any) -> None:
    """A row a search: when it had the target, in how many seeds, and how much of its time thaw took (Wilcoxon)."""
    from scipy.stats import wilcoxon

    if not means:
        raise SystemExit("no search had a value in its time: raise --seconds")
    best, target = max(means.values()), target_of(means, images)
    times = {name: [reached(run, means, target) for run in runs] for name, runs in found.items()}
    counted = {name: [at if at is not None else arguments.seconds for at in ats] for name, ats in times.items()}
    ours = counted.get("thaw", [])
    rows, summary = [], {}
    for name, runs in found.items():
        had = sum(at is not None for at in times[name])
        other = bool(ours) and name != "thaw"
        ratio = median(ours) / median(counted[name]) if other else None
        p = float(wilcoxon(ours, counted[name]).pvalue) if other and len(runs) > 1 and ours != counted[name] else None
        last = [_best(run.finalists[-1][1], means) if run.finalists else 0.0 for run in runs]
        rows.append([name, f"{had} of {len(runs)}", f"{median(counted[name]):.1f} s",
                     "" if ratio is None else f"{ratio:.2f}", "" if p is None else f"{p:.3f}",
                     f"{median(last):.4f}"])  # fmt: skip
        summary[name] = {"seconds": times[name], "thaw_of_it": ratio, "p": p, "confirmed": last}
    head = ["search", "reached", "after (median)", "thaw's time of it", "p", "confirmed in the end (median)"]
    text = f"{arguments.problem}: best on fresh seeds {best:.4f}, target {target:.4f}; {arguments.seconds:g} s each;"
    text += f" {arguments.fresh} fresh seeds\n"
    text += "\n".join([table(head, rows), *(verdict(summary, name) for name in summary if name in DEMANDS and ours)])
    name = "thaw" if arguments.problem == "bare" else f"thaw_{arguments.problem}"
    name += f"_top{arguments.top}" if arguments.top > 1 else ""
    publish(name, text, {"target": target, "searches": summary}, draw(found, means), quick=arguments.quick)


def verdict(summary: dict[str, Any], name: str) -> str:
    """Whether the demand of issue 19 beside `name` holds: reached by every seed, the ratio, p below 0.05, ten seeds."""
    seconds, of_it, p = summary["thaw"]["seconds"], summary[name]["thaw_of_it"], summary[name]["p"]
    rules = {
        "reached by every seed": all(at is not None for at in seconds),
        f"at most {DEMANDS[name]:g} of its time": of_it <= DEMANDS[name],
        "p below 0.05": p is not None and p < 0.05,
        "at least 10 seeds": len(seconds) >= 10,
    }
    words = "; ".join(f"{rule}: {'yes' if kept else 'no'}" for rule, kept in rules.items())
    return f"thaw beside {name}: the demand {'holds' if all(rules.values()) else 'does not hold'} ({words})"


def draw(found: dict[str, list[Followed]], means: dict[Choice, float]) -> Any:
    """The mean on fresh seeds of each search's best finalist over time."""
    figure, drawn = axes(8, 4.5)
    for index, (name, runs) in enumerate(found.items()):
        for number, run in enumerate(runs):
            points = [(at, _best(few, means)) for at, few, _ in run.finalists if set(few) <= means.keys()]
            label = name if number == 0 else None
            drawn.step(*zip(*points, strict=True), where="post", color=f"C{index}", label=label) if points else None
    drawn.set(xscale="log", xlabel="seconds since the process was started", ylabel="accuracy on fresh seeds")
    drawn.set_ylim(0.9, 1.0)
    drawn.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
