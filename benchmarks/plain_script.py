"""The blog post's program beside Podium's search: best validation accuracy over wall-clock time, imports included.

Both read the same prepared images and train the same network on the same machine, one after the other, seed by seed.
`python benchmarks/plain_script.py --seeds 3` prints a table and writes docs/benchmarks/plain_script.{json,png}.
The plain script as a user would write it is at the end of this file (`--plain`): a DataLoader, no pruning, an
in-memory study.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

Curve = list[tuple[float, float]]
"""(seconds since the process was started, validation accuracy of the trial that ended then)."""

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, interleaved (default 3)")
    parser.add_argument("--trials", type=int, default=100, help="trials of each run (default 100)")
    parser.add_argument("--plain", nargs=3, metavar=("PREPARED", "TRIALS", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        prepared, trials, seed = arguments.plain
        plain(Path(prepared), int(trials), int(seed))
        return
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        pairs: list[dict[str, Any]] = []
        for seed in range(arguments.seeds):
            pairs.append(compare(project, arguments.trials, seed))
            write(pairs, arguments.trials)  # after each: an hour's work outlives a closed terminal


def make_project(folder: Path) -> Path:
    """A copy of the project with its images prepared."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    run(folder, ["-m", "podium.stages.prepare"])
    return folder


def compare(project: Path, trials: int, seed: int) -> dict[str, Any]:
    """One run of each, the plain script first."""
    command = [__file__, "--plain", str(project / "data/prepared"), str(trials), str(seed)]
    slow, slow_whole = timed(project, command)
    set_params(project, trials, seed)
    shutil.rmtree(project / "mlruns", ignore_errors=True)
    _, fast_whole, started = run(project, ["-m", "podium.stages.search"])
    fast = podium_curve(project, started)
    target = max(value for _, value in slow)
    pair = {
        "seed": seed,
        "target": target,
        "plain_had_it": reached(slow, target),
        "plain_whole": slow_whole,
        "podium_had_it": reached(fast, target),
        "podium_whole": fast_whole,
        "podium_best": max(value for _, value in fast),
        "plain_curve": slow,
        "podium_curve": fast,
    }
    print(line(pair), flush=True)
    return pair


def run(project: Path, arguments: list[str]) -> tuple[str, float, float]:
    """Run Python in `project`: its output, its seconds, and when it was started (seconds since 1970)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    started = time.time()
    done = subprocess.run([sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout, time.time() - started, started


def timed(project: Path, arguments: list[str]) -> tuple[Curve, float]:
    output, whole, started = run(project, arguments)
    ended: list[tuple[float, float]] = json.loads(output.splitlines()[-1])
    return [(at - started, value) for at, value in ended], whole


def set_params(project: Path, trials: int, seed: int) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    path = project / "params.yaml"
    params = yaml.load(path)
    params["search"]["n_trials"] = trials
    params["search"]["seed"] = seed
    yaml.dump(params, path)


def podium_curve(project: Path, started: float) -> Curve:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(project / "mlruns/optuna.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    ended = [(t.datetime_complete, t.value) for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    return sorted((at.timestamp() - started, value) for at, value in ended if at is not None and value is not None)


def reached(curve: Curve, target: float) -> float | None:
    """When `curve` first had `target`."""
    return next((at for at, value in curve if value >= target - 1e-9), None)


def line(pair: dict[str, Any]) -> str:
    had = pair["podium_had_it"]
    if had is None:
        return f"seed {pair['seed']}: target {pair['target']:.4f} not reached by Podium ({pair['podium_best']:.4f})"
    return (
        f"seed {pair['seed']}: target {pair['target']:.4f}; plain had it at {pair['plain_had_it']:.0f} s of"
        f" {pair['plain_whole']:.0f} s, Podium at {had:.0f} s of {pair['podium_whole']:.0f} s:"
        f" {pair['plain_had_it'] / had:.1f}x and {pair['plain_whole'] / had:.1f}x less;"
        f" best {pair['podium_best']:.4f}"
    )


def write(pairs: list[dict[str, Any]], trials: int) -> None:
    """Print the medians so far, and write them with everything measured to docs/benchmarks/."""
    both = [p for p in pairs if p["podium_had_it"] is not None]
    summary: dict[str, Any] = {"reached": f"{len(both)} of {len(pairs)}"}
    if both:
        first = [p["plain_had_it"] / p["podium_had_it"] for p in both]
        whole = [p["plain_whole"] / p["podium_had_it"] for p in both]
        summary["times_less_than_first"] = {"median": median(first), "min": min(first), "max": max(first)}
        summary["times_less_than_whole"] = {"median": median(whole), "min": min(whole), "max": max(whole)}
        print(f"median: {median(first):.1f}x less than plain's first, {median(whole):.1f}x less than its whole run")
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("torch", "optuna", "mlflow")}
    about = {"date": date.today().isoformat(), "trials": trials, **machine, **versions}
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"about": about, "summary": summary, "pairs": pairs}
    (RESULTS / "plain_script.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(pairs, RESULTS / "plain_script.png")


def draw(pairs: list[dict[str, Any]], path: Path) -> None:
    """Best so far over time, one line a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for pair in pairs:
        for who, colour in (("plain", "tab:gray"), ("podium", "tab:blue")):
            curve = pair[f"{who}_curve"]
            best = [max(value for _, value in curve[: i + 1]) for i in range(len(curve))]
            label = {"plain": "plain Optuna script", "podium": "Podium"}[who] if pair is pairs[0] else None
            axes.step([at for at, _ in curve], best, where="post", color=colour, label=label)
    axes.set(xscale="log", xlabel="seconds since the process was started", ylabel="best validation accuracy")
    axes.set_ylim(0.93, 1.0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def plain(prepared: Path, trials: int, seed: int) -> None:
    """The blog post's program: 100 trials over learning rate, batch size and epochs; prints when each trial ended."""
    import numpy as np
    import optuna
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.manual_seed(seed)

    def split(name: str) -> TensorDataset:
        images = torch.from_numpy(np.load(prepared / name / "images.npy").astype("float32") / 255)
        return TensorDataset(images, torch.from_numpy(np.load(prepared / name / "labels.npy")))

    train, val = split("train"), split("val")
    ended: Curve = []

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        batch_size = trial.suggest_categorical("batch_size", [16, 32, 64, 128])
        epochs = trial.suggest_int("epochs", 10, 50)
        model = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10),
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        criterion = nn.CrossEntropyLoss()
        train_loader = DataLoader(train, batch_size=batch_size, shuffle=True)
        val_loader = DataLoader(val, batch_size=batch_size)
        for _ in range(epochs):
            model.train()
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = criterion(model(images), labels)
                loss.backward()
                optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in val_loader:
                right += int((model(images).argmax(1) == labels).sum())
        return right / len(val)

    def record(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        ended.append((time.time(), float(trial.value or 0.0)))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=trials, callbacks=[record])
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
