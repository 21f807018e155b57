"""The Pareto front of accuracy against latency on the digits, and whether its points hold when they are measured again.

python benchmarks/front.py             writes docs/benchmarks/front.json; five to fifteen minutes
python benchmarks/front.py --quick     a few trials, to see that it works

A search for [accuracy, latency_ms] over the network's width and its training. Then accuracy again: the front on fresh
seeds, as `select` does it. And latency again: each network of the front in a new process, --rounds times.
"""

import csv
import json
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from measuring import Project, parser, publish, shown, table

SPACE = {
    "model.width": {"low": 1, "high": 96, "log": True},
    "train.learning_rate": {"low": 1.0e-3, "high": 3.0e-2, "log": True},
    "train.batch_size": {"choices": [32, 64]},
}
APART = 1.25
"""Latencies of which one is at least so many times the other count as different."""
AGAIN = """
import json, sys
import torch
from pathlib import Path
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo
from podium.models.network_costs import costs
from podium.models.networks import ImageSpec
torch.set_num_threads(1)
images = ImageSpec.of(DatasetInfo.read(Path("data/prepared")))
recipes = json.loads(sys.stdin.read())
print(json.dumps([costs(Recipe().replace(one).model, images, ["latency_ms"])["latency_ms"] for one in recipes]))
"""


def main() -> None:
    """Search, confirm, measure again, publish."""
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=40, help="of the search (default 40)")
    options.add_argument("--rounds", type=int, default=3, help="new processes that measure latency (default 3)")
    options.add_argument("--seed", type=int, default=0, help="of the search (default 0)")
    options.add_argument("--workers", type=int, default=0, help="as runtime.workers (default 0: one per core)")
    arguments = options.parse_args()
    trials, epochs = (4, 1) if arguments.quick else (arguments.trials, 3)
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        project.set(search__n_trials=trials, search__metric=["accuracy", "latency_ms"], search__seed=arguments.seed)
        project.set(search__space=SPACE, train__epochs=epochs, select__top_k=30, select__seeds=3)
        project.set(runtime__workers=arguments.workers)
        seconds = project.run(["-m", "podium.stages.search"])
        project.run(["-m", "podium.stages.select"])
        front = confirmed(project.folder)
        measured = [again(project.folder, front) for _ in range(arguments.rounds)]
    for place, one in enumerate(front):
        one["again"] = [row[place] for row in measured]
        del one["recipe"]
    report(front, trials, seconds, arguments.workers, quick=arguments.quick)


def confirmed(folder: Path) -> list[dict[str, Any]]:
    """The front from the fastest to the slowest network, each with what `select` measured of it."""
    chosen = json.loads((folder / "data/selected/config.json").read_text(encoding="utf-8"))
    recipes = {e["trial"]: e["recipe"] for e in json.loads((folder / "data/search/ranking.json").read_text())}
    with (folder / "data/search/trials.csv").open(encoding="utf-8") as file:
        on_front = {int(row["number"]) for row in csv.DictReader(file) if row["front"] == "True"}
    found = [
        {
            "trial": one["trial"],
            "width": recipes[one["trial"]]["model.width"],
            "searched": one["metrics"],
            "confirmed": one["means"],
            "recipe": recipes[one["trial"]],
        }
        for one in chosen["candidates"]
        if one["mean"] is not None
    ]
    if not {one["trial"] for one in found} <= on_front:
        raise SystemExit("a candidate is not on the front of trials.csv")
    return sorted(found, key=lambda one: one["searched"]["latency_ms"])


def again(folder: Path, front: list[dict[str, Any]]) -> list[float]:
    """The latencies of the networks of `front`, measured in a new process."""
    recipes = json.dumps([one["recipe"] for one in front])
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], input=recipes, cwd=folder, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def report(front: list[dict[str, Any]], trials: int, seconds: float, workers: int, *, quick: bool) -> None:
    """The table, and how many pairs of the front keep their order."""
    rows = [
        [
            one["trial"],
            one["width"],
            f"{one['searched']['accuracy']:.4f}",
            f"{one['confirmed']['accuracy']:.4f}",
            f"{one['searched']['latency_ms']:.3f}",
            shown(one["again"], digits=3),
        ]
        for one in front
    ]
    head = ["trial", "width", "accuracy", "on fresh seeds", "latency_ms", "again (median; range)"]
    ratios = [sorted(one["again"])[len(one["again"]) // 2] / one["searched"]["latency_ms"] for one in front]
    apart = [
        (a, b) for a, b in combinations(front, 2) if b["searched"]["latency_ms"] >= APART * a["searched"]["latency_ms"]
    ]
    kept = sum(max(a["again"]) < min(b["again"]) for a, b in apart)
    better = [(a, b) for a, b in combinations(front, 2) if b["searched"]["accuracy"] > a["searched"]["accuracy"]]
    kept_accuracy = sum(b["confirmed"]["accuracy"] > a["confirmed"]["accuracy"] for a, b in better)
    text = "\n".join(
        [
            table(head, rows),
            "",
            f"{trials} trials in {seconds:.0f} s. Latency again over the search's: {shown(ratios)}.",
            f"Pairs {APART} times apart in latency that never overlap when measured again: {kept} of {len(apart)}.",
            f"Pairs whose accuracies keep their order on fresh seeds: {kept_accuracy} of {len(better)}.",
        ]
    )
    content = {"trials": trials, "workers": workers, "seconds": round(seconds, 1), "front": front}
    publish("front", text, content, quick=quick)


if __name__ == "__main__":
    main()
