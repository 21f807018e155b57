"""What the driver sustains where a thousand workers report to it: no training, all else as in a search.

Workers follow a script: 20 epochs each, reported at once. So the driver is never idle, and its rate is its limit: the
search bends where workers together report more often than that. Two things make up the limit: the driver's own time,
counted in seconds of its processor (a busy machine does not blur them), and the journal's waits for the disk, which are
counted here and cost what the disk takes (`fsync` in the last line).
"""

import cProfile
import os
import pstats
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna

from measuring import parser, publish, table
from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.training.epochs import Epoch
from podium.training.seeds import derive
from podium.tuning.driver import Driver
from podium.tuning.messages import Ended, Event, Report, Task
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study

EPOCHS = 20
BATCH = 64
"""Events that are waiting when the driver looks: a pool hands over what has arrived."""


class Script:
    """Workers that take no time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reports = 0
        self._waiting: deque[tuple[Task, int]] = deque()
        self._asked: dict[int, Task] = {}

    def submit(self, task: Task) -> None:
        """Its first epoch is over."""
        self._waiting.append((task, 1))

    def events(self, timeout: float) -> list[Event]:
        """The reports of the workers that have waited longest."""
        found: list[Event] = []
        for _ in range(min(BATCH, len(self._waiting))):
            task, number = self._waiting.popleft()
            if number > EPOCHS:
                found.append(Ended(task.number, 1, "finished"))
            elif number < 0:
                found.append(Ended(task.number, 1, "stopped"))
            else:
                self._asked[task.number] = task
                found.append(Report(task.number, 1, _epoch(task, number)))
        return found

    def answer(self, report: Report, go_on: bool) -> None:
        """The next epoch is over at once."""
        self.reports += 1
        self._waiting.append((self._asked.pop(report.number), int(report.epoch["epoch"]) + 1 if go_on else -1))

    def abandon(self, numbers: Collection[int]) -> None:
        """No worker hangs."""

    def pause(self) -> None:
        """Nothing to save."""

    def close(self) -> None:
        """Nothing to end."""


def _epoch(task: Task, number: int) -> Epoch:
    value = derive(task.seed, number) % 1000 / 1000
    return {
        "epoch": number,
        "train_loss": 1 - value,
        "learning_rate": 0.1,
        "val_loss": 1 - value,
        "val_accuracy": value,
        "seconds": 1.0,
    }


def _search(workers: int, trials: int, sampler: str, pruner: str) -> tuple[float, int, int, list[float]]:
    """Seconds, reports, waits for the disk, and seconds a trial in each quarter."""
    params = SearchParams.model_validate(
        {
            "n_trials": trials,
            "sampler": sampler,
            "pruner": pruner,
            "space": {
                "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
                "train.batch_size": {"choices": [16, 32, 64, 128]},
                "train.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            },
        }
    )
    base = Recipe().replace({"train.epochs": EPOCHS})
    with tempfile.TemporaryDirectory() as folder:
        kept = open_storage(Path(folder) / "optuna.journal")
        study = open_study(kept, "thousand", params, {})
        pool = Script(workers)
        syncs, sync = [0], os.fsync

        def count(file: int) -> None:
            syncs[0] += 1

        os.fsync = count  # type: ignore[assignment]
        clock = _Clock()
        started = time.process_time()
        Driver(study, pool, params, RuntimeParams(), base, Path(folder), [clock]).run()
        seconds = time.process_time() - started
        os.fsync = sync
    marks = [0.0, *(clock.ends[round(q * trials / 4) - 1] - started for q in range(1, 5))]
    return seconds, pool.reports, syncs[0], [(b - a) / (trials / 4) for a, b in pairwise(marks)]


def _fsync() -> float:
    """Seconds that a write takes to reach the disk of the temporary folder."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(20):
            file.write(b"x" * 200)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


class _Clock:
    def __init__(self) -> None:
        self.ends: list[float] = []

    def running(self, trial: object, history: list[Epoch]) -> None:
        """Nothing."""

    def rested(self, trial: object, history: list[Epoch]) -> None:
        """Nothing."""

    def ended(self, trial: object) -> None:
        """When a trial was told."""
        self.ends.append(time.process_time())

    def note(self, line: str) -> None:
        """Nothing."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000], help="default 10 100 1000")
    options.add_argument("--trials", type=int, default=2000, help="trials of each search (default 2000)")
    options.add_argument("--profile", action="store_true", help="of the last search")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.workers, arguments.trials = [10], 100
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searches = [
        search(workers, arguments.trials, sampler, pruner)
        for sampler, pruner in (("random", "none"), ("random", "median"), ("tpe", "median"))
        for workers in arguments.workers
    ]
    head = ["workers", "sampler", "pruner", "reports/s", "trials/s", "fsyncs a trial", "ms a trial, by quarter"]
    text = table(head, [_row(one) for one in searches])
    wait = 1000 * _fsync()
    text += f"\nper second of the driver's processor; an fsync takes {wait:.1f} ms here (median of 20)"
    publish("thousand_workers", text, {"fsync_ms": wait, "searches": searches}, quick=arguments.quick)
    if arguments.profile:
        with cProfile.Profile() as profile:
            search(arguments.workers[-1], arguments.trials, "tpe", "median")
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


def search(workers: int, trials: int, sampler: str, pruner: str) -> dict[str, Any]:
    """One search, and what is shown of it."""
    seconds, reports, syncs, quarters = _search(workers, trials, sampler, pruner)
    found = {
        "workers": workers,
        "sampler": sampler,
        "pruner": pruner,
        "reports_per_second": reports / seconds,
        "trials_per_second": trials / seconds,
        "fsyncs_a_trial": syncs / trials,
        "quarters_ms": [1000 * quarter for quarter in quarters],
    }
    print(found, flush=True)
    return found


def _row(one: dict[str, Any]) -> list[object]:
    quarters = ", ".join(f"{quarter:.1f}" for quarter in one["quarters_ms"])
    rates = [f"{one['reports_per_second']:,.0f}", f"{one['trials_per_second']:,.1f}", f"{one['fsyncs_a_trial']:.0f}"]
    return [f"{one['workers']:,}", one["sampler"], one["pruner"], *rates, quarters]


if __name__ == "__main__":
    main()
