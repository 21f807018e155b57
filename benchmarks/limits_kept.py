"""Whether each model that a search with search.limits selects keeps them: 20 seeds on the digits.

python benchmarks/limits_kept.py             writes docs/benchmarks/limits_kept.json; ten to thirty minutes
python benchmarks/limits_kept.py --quick     two seeds, to see that it works

`search` and `select` as the stages have them, on one thread. Of what each seed selects: the costs again, in a new
process; the least recall of a class on the validation images as the mean of more fresh seeds, and on the test images
after training on both. A seed that selects nothing, since no candidate keeps the limits on fresh seeds, is told.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from measuring import Project, parser, publish, table
from podium.api import PreparedData, load_params, prepared_data
from podium.components import Choice
from podium.config import limits
from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.metrics import scores
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.tuning.confirm import confirm
from podium.tuning.outcome import search
from podium.tuning.work import TrialData

LIMITS = {"latency_ms": 0.2, "parameters": 60_000, "size_mb": 0.25, "min_recall": 0.85}
SPACE = {
    "model.width": {"low": 2, "high": 96, "log": True},
    "model.hidden": {"low": 16, "high": 512, "log": True},
    "train.learning_rate": {"low": 1.0e-3, "high": 3.0e-2, "log": True},
    "train.batch_size": {"choices": [16, 32]},
}
AGAIN, FIRST_AGAIN = 3, 500_000
"""Trainings that measure the recall again, and the seed of the first: no search has it."""
CPU = torch.device("cpu")
COSTS = """
import json, sys
import torch
from pathlib import Path
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo
from podium.models.network_costs import costs
from podium.models.networks import ImageSpec
torch.set_num_threads(1)
images = ImageSpec.of(DatasetInfo.read(Path("data/prepared")))
recipes, wanted = json.loads(sys.stdin.read())
print(json.dumps([costs(Recipe().replace(one).model, images, wanted) for one in recipes]))
"""


def main() -> None:
    """Search with each seed, measure again, publish."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--trials", type=int, default=20, help="of each search (default 20)")
    options.add_argument("--metric", default="accuracy", help="search.metric")
    arguments = options.parse_args()
    seeds, trials = (2, 4) if arguments.quick else (arguments.seeds, arguments.trials)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        project.set(search__n_trials=trials, search__metric=arguments.metric, search__limits=LIMITS)
        project.set(search__space=SPACE, train__epochs=3, select__top_k=3, select__seeds=3)
        project.set(runtime__engine="inline", runtime__device="cpu")
        os.chdir(project.folder)
        rows = [_selected(seed) for seed in range(seeds)]
        _measure_again([row for row in rows if "recipe" in row])
    _report(rows, trials, quick=arguments.quick)


def _selected(seed: int) -> dict[str, Any]:
    """What the search with `seed` has selected, and what of it is measured again in this process."""
    for place in ("mlruns/optuna.journal", "data/search", "data/selected"):  # nothing is taken over from another seed
        path = Path(place)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    params = load_params("params.yaml", {"search.seed": seed})
    prepared = Path("data/prepared")
    found: dict[str, Any] = {"seed": seed}
    try:
        study = search(params, prepared, Path("data/search"))
        found["over"] = sum(any(value > 0 for value in trial.constraints.values()) for trial in study.trials)
        chosen = confirm(params, prepared, Path("data/search"), Path("data/selected"))
    except PodiumError as error:
        return found | {"none": str(error)}
    figures = {trial.number: trial for trial in study.trials}[chosen["trial"]]
    last = figures.user_attrs["history"][-1]
    data = prepared_data(device="cpu")
    return found | {
        "trial": chosen["trial"],
        "searched": figures.user_attrs["costs"] | {"min_recall": last["val_min_recall"]},
        "confirmed": chosen["mean"],
        "again": {
            "min_recall": fmean(_recall(chosen, data, FIRST_AGAIN + n, data.train, data.val) for n in range(AGAIN))
        },
        "test": {"min_recall": _recall(chosen, data, 0, *_both_and_test(data))},
        "recipe": chosen["recipe"],
    }


def _both_and_test(data: PreparedData) -> tuple[Batches, Batches]:
    """Training and validation images together, and the test images."""
    images, labels = (np.load(f"data/sealed/test/{name}.npy") for name in ("images", "labels"))
    both = TrialData(data.train, data.val, data.images, CPU).both
    return both, Batches(torch.from_numpy(images), torch.from_numpy(labels))


def _recall(chosen: dict[str, Any], data: PreparedData, seed: int, train: Batches, judges: Batches) -> float:
    """The least recall of a class of `judges` after a training of the chosen configuration."""
    recipe = Recipe().replace(chosen["recipe"])
    run = TrainingRun(recipe, data.images, seed, CPU, scores.of(Choice(name="min_recall")))
    return float(run.train(train, judges)[-1]["val_min_recall"])


def _measure_again(rows: list[dict[str, Any]]) -> None:
    """Give each of `rows` the costs of its network, measured in a new process."""
    given = json.dumps([[row["recipe"] for row in rows], list(limits.of_costs(LIMITS))])
    done = subprocess.run([sys.executable, "-c", COSTS], input=given, capture_output=True, text=True, check=True)
    for row, found in zip(rows, json.loads(done.stdout.splitlines()[-1]), strict=True):
        row["again"] |= found


def _report(rows: list[dict[str, Any]], trials: int, *, quick: bool) -> None:
    """A line for each seed, and how often each limit is kept by what was measured when."""
    selected = [row for row in rows if "recipe" in row]
    lines = [[row["seed"], row["trial"], row["over"], *(_cell(row, name) for name in LIMITS)] for row in selected]
    head = ["seed", "trial", "trials over", *(f"{name} ({limit:,})" for name, limit in LIMITS.items())]
    text = [table(head, lines), "", "Each cell: in the search / again (new process; fresh seeds) / test.", ""]
    for name in LIMITS:
        parts = []
        for when in ("searched", "again", "test"):
            known = [row[when][name] for row in selected if name in row[when]]
            kept = sum(_is_kept(name, value) for value in known)
            parts += [f"{when} {kept} of {len(known)}"] if known else []
        text.append(f"{name} kept: {', '.join(parts)}.")
    text += [f"Seed {row['seed']} selected nothing: {row['none']}" for row in rows if "none" in row]
    publish("limits_kept", "\n".join(text), {"limits": LIMITS, "trials": trials, "rows": rows}, quick=quick)


def _cell(row: dict[str, Any], name: str) -> str:
    values = [row[when][name] for when in ("searched", "again", "test") if name in row[when]]
    return " / ".join(f"{value:.4g}" if value < 1000 else f"{value:,.0f}" for value in values)


def _is_kept(name: str, value: float) -> bool:
    return limits.excess({name: LIMITS[name]}, {limits.figure_of(name)[1]: value})[name] <= 0


if __name__ == "__main__":
    main()
