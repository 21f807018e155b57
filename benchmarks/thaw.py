"""How soon a search without a first guess has a configuration that holds on new seeds: freeze-thaw and TPE.

Real searches of a problem (problems.py): the plain script's three dimensions on the digits if no other is named. Each
runs for a fixed time and is read as it goes: its choice at any moment is the configuration and number of epochs with
the best value so far. Afterwards choices are trained again on three fresh seeds, the last ones and in order those until
the target; the first moment whose choice is within one image of the best mean is what is compared. Start-up counts.

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
import shutil
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from fresh_seeds import Choice, confirm
from measuring import ROOT, Project, axes, parser, publish, table
from photo_sets import CACHE
from podium.config.params import load
from problems import PROBLEMS, Problem
from search_time import SCRIPTS, _stop, said

SETTINGS: dict[str, dict[str, Any]] = {
    "thaw": {"search__method": "thaw", "search__until": "budget"},
    "tpe": {},
    "tpe_shared": {"search__shared_epochs": True},
    "random": {"search__shared_epochs": True, "search__sampler": "random", "search__pruner": "halving"},
}
TOGETHER = 3
"""Choices of a search that are trained again at once, where the first of them has to be."""
LOOK = 0.02
"""Seconds between looks at the study."""
RECORDED = Path(__file__).parent / "searches"
"""Searches that were followed before (docs/benchmarks/search.md says how); --again follows new ones."""
DEMANDS = {"tpe": 0.6, "plain": 0.5, "ray": 0.5, "lightning": 0.5}
"""How much of the time of each freeze-thaw may take: issue 19."""


@dataclass
class Followed:
    """A search, as it went."""

    seed: int
    choices: list[tuple[float, Choice, float]] = field(default_factory=list)
    """Seconds since the start, the choice from then on, and its value."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--problem", choices=list(PROBLEMS), default="bare", help="what is searched (bare)")
    options.add_argument("--seeds", type=int, default=10, help="searches of each (default 10)")
    options.add_argument("--seconds", type=float, default=60.0, help="of each search (default 60)")
    known = ", ".join([*SETTINGS, *SCRIPTS])
    options.add_argument("--contenders", default="thaw,tpe", help=f"of {known} (thaw,tpe)")
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
        means |= confirm(project.prepared, folder / "confirmed.jsonl", wanted, arguments.workers)
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
        return Followed(seed, [(at, (choice[0], choice[1]), value) for at, choice, value in known["choices"]])
    recorded = read_recorded(RECORDED / f"{path.parent.name}.json").get(name, [])
    if not arguments.again and seed < len(recorded):
        base = load(project.folder / "problem.yaml").recipe()
        made = [(at, base.replace(fields), value) for at, fields, value in recorded[seed]]
        return Followed(seed, [(at, (_text(one.nested()), one.train.epochs), value) for at, one, value in made])
    followed = follow(project, name, seed, arguments.seconds, arguments.workers)
    path.write_text(json.dumps(asdict(followed)), encoding="utf-8")
    return followed


def record(folder: Path, project: Project, found: dict[str, list[Followed]]) -> None:
    """Store the searches: they need an idle machine for an hour, the confirmations do not."""
    base = load(project.folder / "problem.yaml").recipe().nested()
    content = {
        name: [[[round(at, 2), _changed(base, choice[0]), value] for at, choice, value in run.choices] for run in runs]
        for name, runs in found.items()
    }
    RECORDED.mkdir(exist_ok=True)
    path = RECORDED / f"{folder.name}.json"
    path.write_text(json.dumps(read_recorded(path) | content, separators=(",", ":")) + "\n", encoding="utf-8")


def read_recorded(path: Path) -> dict[str, list[list[tuple[float, dict[str, Any], float]]]]:
    """Of each kind of search its runs: seconds, the fields that are not those of problem.yaml, and the value."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _changed(base: dict[str, dict[str, Any]], recipe: str) -> dict[str, Any]:
    """The fields of `recipe` that are others than in `base`."""
    return {
        f"{section}.{name}": value
        for section, fields in json.loads(recipe).items()
        for name, value in fields.items()
        if base.get(section, {}).get(name) != value
    }


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True)


def _count(project: Project) -> int:
    from podium.data.dataset import open_split

    return len(open_split(project.prepared / "val").labels)


def follow(project: Project, name: str, seed: int, seconds: float, workers: int) -> Followed:
    """Run one search for so long, and read its choices from its journal as it is written."""
    project.forget()
    shutil.copy(project.folder / "problem.yaml", project.folder / "params.yaml")
    if name in SCRIPTS:
        process = project.start(["-m", SCRIPTS[name], str(project.prepared), "10000", str(seed)])
    else:
        project.set(search__seed=seed, search__timeout=10 * seconds, runtime__workers=workers, **SETTINGS[name])
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
    found = choices_said(project) if name in SCRIPTS else choices(project, content, written)
    followed = Followed(seed, [choice for choice in found if choice[0] < seconds])
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
            found.append((at, (_text(fields), result[0]), best))
    return found


def choices_said(project: Project) -> list[tuple[float, Choice, float]]:
    """What a script would have chosen when: after each trial that has ended."""
    params = load(project.folder / "params.yaml")
    found: list[tuple[float, Choice, float]] = []
    for ended, value, settings in sorted(said(project), key=lambda one: one[0]):
        if value > (found[-1][2] if found else 0.0):
            fields = _text(params.recipe().replace(settings).nested())
            found.append((ended - project.started, (fields, settings["train.epochs"]), value))
    return found


def _lines(journal: bytes, written: list[tuple[float, int]]) -> list[tuple[float, bytes]]:
    """The lines that each look found new, with its time."""
    lines = []
    for (_, before), (at, after) in pairwise([(0.0, 0), *written]):
        start = journal.rfind(b"\n", 0, before) + 1
        end = journal.rfind(b"\n", 0, after) + 1
        lines += [(at, line) for line in journal[start:end].splitlines()]
    return lines


def asked_for(found: dict[str, list[Followed]], means: dict[Choice, float], images: int) -> set[Choice]:
    """The choices that have to be trained again next: each search's last one; then, in order, those until the target.

    A choice after that changes nothing but by being the best of all, which the last ones are asked for.
    """
    searches = [run for runs in found.values() for run in runs if run.choices]
    if last := {run.choices[-1][1] for run in searches} - means.keys():
        return last
    target = target_of(means, images)
    wanted: set[Choice] = set()
    for run in searches:
        first = next((i for i, (_, c, _) in enumerate(run.choices) if means.get(c, 1.0) >= target - 1e-9), None)
        if first is not None and run.choices[first][1] not in means:
            wanted |= {choice for _, choice, _ in run.choices[first : first + TOGETHER]} - means.keys()
    return wanted


def target_of(means: dict[Choice, float], images: int) -> float:
    """Within one validation image of the best on fresh seeds."""
    return max(means.values(), default=0.0) - 1 / images


def reached(run: Followed, means: dict[Choice, float], target: float) -> float | None:
    """When the search's choice was first as good as `target` on fresh seeds."""
    return next((at for at, choice, _ in run.choices if means.get(choice, 0.0) >= target - 1e-9), None)


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
        last = [means[run.choices[-1][1]] if run.choices else 0.0 for run in runs]
        rows.append([name, f"{had} of {len(runs)}", f"{median(counted[name]):.1f} s",
                     "" if ratio is None else f"{ratio:.2f}", "" if p is None else f"{p:.3f}",
                     f"{median(last):.4f}"])  # fmt: skip
        summary[name] = {"seconds": times[name], "thaw_of_it": ratio, "p": p, "confirmed": last}
    head = ["search", "reached", "after (median)", "thaw's time of it", "p", "confirmed in the end (median)"]
    text = f"{arguments.problem}: best on fresh seeds {best:.4f}, target {target:.4f}; {arguments.seconds:g} s each\n"
    text += "\n".join([table(head, rows), *(verdict(summary, name) for name in summary if name in DEMANDS and ours)])
    name = "thaw" if arguments.problem == "bare" else f"thaw_{arguments.problem}"
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
    """The mean on fresh seeds of each search's choice over time."""
    figure, drawn = axes(8, 4.5)
    for index, (name, runs) in enumerate(found.items()):
        for number, run in enumerate(runs):
            points = [(at, means[choice]) for at, choice, _ in run.choices if choice in means]
            label = name if number == 0 else None
            drawn.step(*zip(*points, strict=True), where="post", color=f"C{index}", label=label) if points else None
    drawn.set(xscale="log", xlabel="seconds since the process was started", ylabel="accuracy on fresh seeds")
    drawn.set_ylim(0.9, 1.0)
    drawn.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
