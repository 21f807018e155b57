"""Best validation accuracy over wall-clock time, imports included, and the time to the plain script's final best.

On the same prepared images, seed by seed and one after the other:

  plain      the blog post's program (peers/plain.py): a DataLoader, no pruning, an in-memory study; to its end
  podium     `python -m podium.stages.search` with params.yaml as it is shipped
  podium_3d  the same, but the plain script's three dimensions and nothing else: SGD, constant rate, no first guess
  ray        Ray Tune with ASHA, OptunaSearch and its MLflow callback (peers/ray_tune.py)
  lightning  Lightning with Optuna, a median pruner and its MLflow logger (peers/lightning_optuna.py)

The others are stopped when they have the plain script's best, or have taken as long as its whole run (--whole: never).
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ROOT, Project, axes, parser, publish, shown, spread, table

Point = tuple[float, float]
"""(seconds since the process was started, validation accuracy of the trial that ended then)."""
LABELS = {
    "plain": "plain Optuna script",
    "podium": "Podium",
    "podium_3d": "Podium, the script's 3 dimensions",
    "ray": "Ray Tune: ASHA, OptunaSearch, MLflow",
    "lightning": "Lightning + Optuna, MLflow",
}
SCRIPTS = {"plain": "peers.plain", "ray": "peers.ray_tune", "lightning": "peers.lightning_optuna"}
PLAIN_SPACE = {
    "train.learning_rate": {"low": 1.0e-5, "high": 1.0e-1, "log": True},
    "train.batch_size": {"choices": [16, 32, 64, 128]},
    "train.epochs": {"low": 10, "high": 50},
}
COMPLETE = 1
"""optuna.trial.TrialState.COMPLETE in the journal."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=1, help="runs of each (default 1)")
    options.add_argument("--trials", type=int, default=100, help="trials of each run (default 100)")
    options.add_argument("--contenders", default=",".join(LABELS), help="which, with commas; plain is always one")
    options.add_argument("--further", action="store_true", help="keep the rounds of an earlier call and add seeds")
    options.add_argument("--whole", action="store_true", help="let every run come to its end")
    arguments = options.parse_args()
    trials = arguments.trials
    if arguments.quick:
        os.environ["PEER_EPOCHS"], trials = "1 2", 3
    others = [name for name in arguments.contenders.split(",") if name != "plain"]
    rounds: list[dict[str, Any]] = earlier(trials) if arguments.further else []
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        for seed in range(len(rounds), len(rounds) + arguments.seeds):
            rounds.append(compare(project, others, trials, seed, arguments.whole))
            write(rounds, trials, arguments.quick)  # after each: an hour's work outlives a closed terminal


def earlier(trials: int) -> list[dict[str, Any]]:
    """The rounds that are published, each with its own run of the plain script."""
    found = json.loads((ROOT / "docs/benchmarks/search_time.json").read_text(encoding="utf-8"))
    if found["trials"] != trials:
        raise SystemExit(f"the published rounds had {found['trials']} trials, not {trials}")
    return list(found["rounds"])


def compare(project: Project, others: list[str], trials: int, seed: int, whole: bool) -> dict[str, Any]:
    """One run of each, the plain script first: its best is what the others have to reach."""
    plain = run(project, "plain", trials, seed, lambda curve, seconds: False)
    target = best(plain["curve"])
    runs = {"plain": plain}
    for name in others:

        def enough(curve: list[Point], seconds: float) -> bool:
            return not whole and (reached(curve, target) is not None or seconds > plain["seconds"])

        runs[name] = run(project, name, trials, seed, enough)
    for found in runs.values():
        found["had_it"] = reached(found["curve"], target)
    return {"seed": seed, "target": target, "runs": runs}


def run(
    project: Project, name: str, trials: int, seed: int, enough: Callable[[list[Point], float], bool]
) -> dict[str, Any]:
    """Start `name`, follow what it prints or writes, and stop it at the latest when `enough`."""
    project.forget()
    process = _start(project, name, trials, seed)
    curve: list[Point] = []
    try:
        while process.poll() is None and not enough(curve, time.time() - project.started):
            time.sleep(0.05)
            curve = read(project, name)
    finally:
        seconds = time.time() - project.started
        stopped = process.poll() is None
        if stopped:
            _stop(process)
    curve = read(project, name)
    if (not stopped and process.returncode) or not curve:
        raise SystemExit(f"{name} ended with exit code {process.returncode}:\n{project.output()[-3000:]}")
    print(f"seed {seed}: {name}: {len(curve)} values in {seconds:.0f} s, best {best(curve):.4f}", flush=True)
    return {"seconds": round(seconds, 2), "stopped": stopped, "curve": curve}


def _start(project: Project, name: str, trials: int, seed: int) -> "subprocess.Popen[bytes]":
    if name in SCRIPTS:
        return project.start(["-m", SCRIPTS[name], str(project.prepared), str(trials), str(seed)])
    project.set(search__n_trials=trials, search__seed=seed)
    if name == "podium_3d":
        project.set(search__space=PLAIN_SPACE, search__defaults_first=False, train__optimizer="sgd")
        project.set(train__momentum=0.0, train__schedule="constant", train__label_smoothing=0.0)
        project.set(train__weight_decay=0.0)
    else:
        _as_shipped(project, trials, seed)
    return project.start(["-m", "podium.stages.search"])


def _as_shipped(project: Project, trials: int, seed: int) -> None:
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.set(search__n_trials=trials, search__seed=seed)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read(project: Project, name: str) -> list[Point]:
    """Each trial's end so far."""
    ended: list[Point] = []
    if name in SCRIPTS:
        ended = [(at, value) for at, value, _ in said(project)]
    elif project.journal.is_file():
        ended = list(map(_ended, _records(project.journal)))
    return sorted((at - project.started, value) for at, value in ended)


def said(project: Project) -> list[tuple[float, float, dict[str, Any]]]:
    """What a script has printed of its trials so far: when each ended, its value, and its settings."""
    lines = [line for line in project.output().splitlines() if line.startswith("ended ")]
    return [tuple(json.loads(line.removeprefix("ended "))) for line in lines]


def _records(journal: Path) -> list[dict[str, Any]]:
    """The journal's records of trials that completed; a last line may be half written."""
    text = journal.read_text(encoding="utf-8")
    records = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if '"values":[' in line]
    return [record for record in records if record.get("state") == COMPLETE]


def _ended(record: dict[str, Any]) -> Point:
    from datetime import datetime

    return datetime.fromisoformat(record["datetime_complete"]).timestamp(), float(record["values"][0])


def best(curve: list[Point]) -> float:
    """The highest value of `curve`; 0 where there is none."""
    return max((value for _, value in curve), default=0.0)


def reached(curve: list[Point], target: float) -> float | None:
    """When `curve` first had `target`."""
    return next((at for at, value in curve if value >= target - 1e-9), None)


def write(rounds: list[dict[str, Any]], trials: int, quick: bool) -> None:
    """A row a contender: when it had the target, and how many times sooner than the plain script."""
    rows = []
    summary: dict[str, Any] = {}
    for name in LABELS:
        those = [r for r in rounds if name in r["runs"]]
        if not those:
            continue
        both = [(r["runs"]["plain"], r["runs"][name]) for r in those if r["runs"][name]["had_it"] is not None]
        first = [plain["had_it"] / run["had_it"] for plain, run in both]
        whole = [plain["seconds"] / run["had_it"] for plain, run in both]
        had = [run["had_it"] for _, run in both]
        seen = [best(r["runs"][name]["curve"]) for r in those]
        rows.append([LABELS[name], f"{len(both)} of {len(those)}", shown(had, " s", 1), shown(first, "x", 1),
                     shown(whole, "x", 1), f"{max(seen):.4f}"])  # fmt: skip
        if both:
            summary[name] = {"had_it": spread(had), "than_first": spread(first), "than_whole": spread(whole)}
    head = ["search", "had the script's best", "after", "sooner than the script", "than its whole run", "best seen"]
    content = {"trials": trials, "summary": summary, "rounds": rounds}
    publish("search_time", table(head, rows), content, draw(rounds), quick=quick)


def draw(rounds: list[dict[str, Any]]) -> Any:
    """Best so far over time, one line a run."""
    figure, drawn = axes(8, 4.5)
    for index, name in enumerate(LABELS):
        for number, r in enumerate(r for r in rounds if name in r["runs"]):
            curve = r["runs"][name]["curve"]
            so_far = [best(curve[: i + 1]) for i in range(len(curve))]
            label = LABELS[name] if number == 0 else None
            drawn.step([at for at, _ in curve], so_far, where="post", color=f"C{index}", label=label)
    drawn.set(xscale="log", xlabel="seconds since the process was started", ylabel="best validation accuracy")
    drawn.set_ylim(0.9, 1.0)
    drawn.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
