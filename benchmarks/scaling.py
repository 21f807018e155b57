"""Trials a second and memory with 1, 2 and 4 workers, and what `search.deterministic` costs.

Every search trains the same trials of equal length (fixed epochs and batch size, random sampler, no pruning), so that
only the number of workers differs; the time is that from the first trial's start to the last one's end. Memory is
the proportional set size of the driver and all its workers: pages that they share count once. The searches take
turns.

The cost of a deterministic search is measured on params.yaml as it is shipped, with as many workers as cores.
"""

import argparse
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from measuring import ROOT, Project, axes, family, parser, publish, shown, spread, table

WORKERS = (1, 2, 4)
SPACE = {"train.learning_rate": {"low": 1.0e-3, "high": 1.0e-2, "log": True}}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=1, help="searches with each number of workers (default 1)")
    options.add_argument(
        "--pairs", type=int, default=1, help="searches of each kind, free and deterministic (default 1)"
    )
    options.add_argument("--trials", type=int, default=48, help="trials of a search; a multiple of 4 (default 48)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.pairs, arguments.trials = 1, 1, 4
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        scaled = [{n: equal(project, n, arguments.trials) for n in WORKERS} for _ in range(arguments.rounds)]
        modes = [{mode: shipped(project, mode, arguments) for mode in (False, True)} for _ in range(arguments.pairs)]
    rows = []
    for workers in WORKERS:
        rates = [arguments.trials / one[workers]["seconds"] for one in scaled]
        gains = [one[1]["seconds"] / one[workers]["seconds"] for one in scaled]
        memory = [one[workers]["megabytes"] for one in scaled]
        rows.append([workers, shown(rates), shown(gains, "x"), shown(memory, " MB", 0)])
    slower = [one[True]["seconds"] / one[False]["seconds"] for one in modes]
    text = table(["workers", "trials/s", "of one worker's", "memory"], rows)
    text += f"\nsearch.deterministic takes {shown(slower, 'x')} the time of the free-running search"
    content = {"trials": arguments.trials, "searches": scaled, "deterministic": modes, "slower": spread(slower)}
    publish("scaling", text, content, draw(scaled, arguments.trials), quick=arguments.quick)


def equal(project: Project, workers: int, trials: int) -> dict[str, float]:
    """A search of equal trials."""
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.set(search__n_trials=trials, search__space=SPACE, search__sampler="random", search__pruner="none")
    project.set(runtime__workers=workers, train__epochs=10)
    return search(project)


def shipped(project: Project, deterministic: bool, arguments: argparse.Namespace) -> dict[str, float]:
    """The shipped search."""
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.set(search__n_trials=2 * arguments.trials, search__deterministic=deterministic)
    return search(project)


def search(project: Project) -> dict[str, float]:
    """Run the stage. Returns the seconds from the first trial's start to the last one's end, and the highest memory."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    project.forget()
    process = project.start(["-m", "podium.stages.search"])
    watch = Watch(process.pid)
    code = process.wait()
    watch.over.set()
    if code:
        raise SystemExit(project.output())
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(project.journal))))
    starts = [t.datetime_start for t in study.trials if t.datetime_start]
    ends = [t.datetime_complete for t in study.trials if t.datetime_complete]
    seconds = (max(ends) - min(starts)).total_seconds()
    print(f"{len(ends)} trials in {seconds:.1f} s, {watch.highest:.0f} MB", flush=True)
    return {"seconds": seconds, "megabytes": watch.highest, "best": study.best_value}


class Watch:
    """The highest memory of a process and its descendants, looked at twice a second."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.highest = 0.0
        self.over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.over.wait(0.5):
            self.highest = max(self.highest, sum(map(megabytes, family(self.root))))


def megabytes(process: psutil.Process) -> float:
    """The proportional set size; none where it has ended."""
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss) / 2**20
    return 0.0


def draw(scaled: list[dict[int, Any]], trials: int) -> Any:
    figure, drawn = axes(5, 3.5)
    drawn.plot(WORKERS, [[trials / one[n]["seconds"] for one in scaled] for n in WORKERS], "o-")
    drawn.set(xlabel="workers", ylabel="trials/s", xticks=WORKERS, ylim=(0, None))
    return figure


if __name__ == "__main__":
    main()
