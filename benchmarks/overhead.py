"""What checkpointing and logging cost of the training time of the default search.

The shipped search (params.yaml as it is, pruned trials and all) is run twice by two worker processes:

  with     as the stage does: study in its journal, mirror in MLflow, checkpoints every runtime.checkpoint_seconds
  without  the same tasks handed to the same pool in the same order, each stopped after as many epochs as it had; Optuna
           proposes and judges as much, but in memory: nothing is written anywhere, and there is no checkpoint

In turn, several times, from the first trial's start to the last one's end, in a project that has been searched before:
what a first search pays once (MLflow's database is made, some 1.5 s of a core) is not in it, nor is the stage's start
(pipeline_time.py has it). `--fresh` measures a project's first search.

Beside the time, which a shared machine blurs by more than what is measured, the processors' time of the driver, its
mirror and the workers together. Less blurred are its parts, as shares of the whole: what the driver's process takes
more (journal, mirror, answers), and the checkpoints, of which a trial has one every runtime.checkpoint_seconds, each
measured by itself.
"""

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from measuring import ROOT, Project, family, parser, publish, shown, spread, table
from podium.config.params import load
from podium.tuning import study as studies
from podium.tuning.messages import Event, Report, Task
from podium.tuning.pools.processes import ProcessPool, Setup, warm_up
from podium.tuning.study import suggest

WHOLES = ("time", "processor time")
PARTS = ("of it the driver's", "checkpoints")
WARM = 4.0
"""Seconds that the fork server has for it: more than it needs, so that nothing of it is counted."""
SAVES = 20
"""Checkpoints by which one is measured."""
FIRST = 4
"""Trials of the search that a project has seen before."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=2, help="pairs (default 2)")
    options.add_argument("--trials", type=int, default=100, help="trials of each (default 100, as shipped)")
    options.add_argument("--fresh", action="store_true", help="in a project that has not been searched before")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.trials = 1, 8
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        pairs = [pair(project, arguments.trials, arguments.fresh) for _ in range(arguments.rounds)]
    sides = ("with", "without")
    both = [(one["with"], one["without"]) for one in pairs]
    costs = {kind: [more[kind] / less[kind] - 1 for more, less in both] for kind in WHOLES}
    costs |= {kind: [(more[kind] - less[kind]) / less[WHOLES[1]] for more, less in both] for kind in PARTS}
    rows = [[side, *(shown([one[side][kind] for one in pairs], " s") for kind in costs)] for side in sides]
    rows.append(["more", *(shown([100 * one for one in cost], " %", 1) for cost in costs.values())])
    costs["parts together"] = [sum(parts) for parts in zip(*(costs[kind] for kind in PARTS), strict=True)]
    lasts = [less[WHOLES[1]] / arguments.trials for _, less in both]
    text = table([f"{arguments.trials} trials", *WHOLES, *PARTS], rows)
    text += f"\nthe last two together {shown([100 * one for one in costs['parts together']], ' %', 1)}"
    text += f"\na trial takes {shown(lasts, ' s')} of a core"
    content = {"pairs": pairs, "share": {kind: spread(cost) for kind, cost in costs.items()}}
    publish("overhead", text, content, quick=arguments.quick)


def pair(project: Project, trials: int, fresh: bool) -> dict[str, dict[str, float]]:
    """What each side took."""
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.forget()
    if not fresh:
        project.set(search__n_trials=FIRST, search__seed=1)
        project.run(["-m", "podium.stages.search"])
        project.journal.unlink()
    project.set(search__n_trials=trials, search__seed=0, runtime__workers=2)
    process = project.start(["-m", "podium.stages.search"])
    with Processors(process.pid) as used:
        if process.wait():
            raise SystemExit(project.output())
    storage = JournalStorage(JournalFileBackend(str(project.journal)))
    recorded = sorted(optuna.load_study(study_name=None, storage=storage).trials, key=lambda t: t.number)
    starts = [t.datetime_start for t in recorded if t.datetime_start]
    ends = [t.datetime_complete for t in recorded if t.datetime_complete]
    began, ended = min(starts).timestamp(), max(ends).timestamp()
    found = {"with": used.between(began, ended), "without": Bare(project, recorded).run()}
    found["with"] |= {PARTS[1]: checkpoints(project, recorded)}
    found["without"] |= {PARTS[1]: 0.0}
    print(found, flush=True)
    return found


def checkpoints(project: Project, recorded: list[optuna.trial.FrozenTrial]) -> float:
    """Seconds of a processor that the trials' checkpoints took."""
    import torch

    from podium.data.dataset import DatasetInfo
    from podium.models.networks import ImageSpec
    from podium.training import checkpoint
    from podium.training.loop import TrainingRun

    params, images = load(project.folder / "params.yaml"), ImageSpec.of(DatasetInfo.read(project.prepared))
    every = params.runtime.checkpoint_seconds
    count = sum(int(trial.duration.total_seconds() / every) for trial in recorded if trial.duration)
    run = TrainingRun(params.recipe(), images, 0, torch.device("cpu"))
    batch = torch.zeros((32, *images.shape), dtype=torch.uint8), torch.zeros(32, dtype=torch.int64)
    run.train_step(*batch, 1e-3)  # the optimizer has its state
    before = time.process_time()
    for _ in range(SAVES):
        checkpoint.save(project.folder / "one.ckpt", "one", run.state())
    return count * (time.process_time() - before) / SAVES


class Processors:
    """The processors' time of a process and its descendants, looked at four times a second."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seconds: dict[int, float] = {}
        self._seen: list[tuple[float, float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Processors":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, began: float, ended: float) -> dict[str, float]:
        """What passed between two moments (seconds since 1970)."""
        moments, *totals = zip(*self._seen, strict=True)
        passed = [float(np.diff(np.interp([began, ended], moments, total))[0]) for total in totals]
        return dict(zip((*WHOLES, PARTS[0]), (ended - began, *passed), strict=True))

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            for process in family(self._root):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._seconds[process.pid] = times.user + times.system
            own = time.thread_time() if self._root == os.getpid() else 0.0  # watching is not what is measured
            driver = self._seconds.get(self._root, 0.0) - own
            self._seen.append((time.time(), sum(self._seconds.values()) - own, driver))


class Bare:
    """The recorded trials once more, in the same order on the same kind of pool, and nothing written."""

    def __init__(self, project: Project, recorded: list[optuna.trial.FrozenTrial]) -> None:
        self.params = load(project.folder / "params.yaml")
        self.base = self.params.recipe()
        self.study = studies.open_study(optuna.storages.InMemoryStorage(), "bare", self.params.search, {})
        self.recorded = recorded
        self.asked: dict[int, optuna.Trial] = {}
        warm_up()  # the search's fork server has imported torch before its first trial, too
        time.sleep(WARM)
        self.pool = ProcessPool(2, Setup(str(project.prepared), "cpu", 1))

    def run(self) -> dict[str, float]:
        """What all of them take."""
        waiting, running = list(self.recorded), 0
        with Processors(os.getpid()) as used:
            time.sleep(0.5)  # until it has looked
            began = time.time()
            while waiting or running:
                while waiting and running < self.pool.capacity:
                    self.submit(waiting.pop(0))
                    running += 1
                running -= sum(self.ended(event) for event in self.pool.events(0.2))
            ended = time.time()
            time.sleep(0.5)
        self.pool.close()
        return used.between(began, ended)

    def submit(self, trial: optuna.trial.FrozenTrial) -> None:
        """Hand `trial` to a worker, after as much thought as the search gave it."""
        self.asked[trial.number] = studies.ask(self.study, self.params.search)
        suggest(self.asked[trial.number], self.params.search, self.base)
        recipe = self.base.replace(trial.user_attrs["recipe"]).model_dump()
        self.pool.submit(Task(trial.number, 1, trial.user_attrs["seed"], recipe, "nowhere", checkpoint_seconds=1e9))

    def ended(self, event: Event) -> bool:
        """Answer a report as the search did; tell of an end."""
        recorded, trial = self.recorded[event.number], self.asked[event.number]
        if isinstance(event, Report):
            epoch = int(event.epoch["epoch"])
            trial.report(event.epoch["val_accuracy"], epoch)
            trial.should_prune()
            self.pool.answer(event, epoch < max(recorded.intermediate_values))
            return False
        pruned = recorded.state == TrialState.PRUNED
        self.study.tell(trial, None if pruned else recorded.value, state=recorded.state)
        return True


if __name__ == "__main__":
    main()
