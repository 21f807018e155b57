"""What checkpointing and logging cost of the training time of the default search.

The shipped search (params.yaml as it is, pruned trials and all) is run twice by two worker processes:

  with     as the stage does: study in its journal, mirror in MLflow, checkpoints every runtime.checkpoint_seconds
  without  the same tasks handed to the same pool in the same order, each stopped after as many epochs as it had; Optuna
           proposes and judges as much, but in memory: nothing is written anywhere, and there is no checkpoint

In turn, several times, from the first trial's start to the last one's end, in a project that has been searched before:
what a first search pays once (MLflow's database is made, some 1.5 s of a core) is not in it, nor is the stage's start
(pipeline_time.py has it). `--fresh` measures a project's first search.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from measuring import ROOT, Project, parser, publish, shown, spread, table
from podium.params import load
from podium.search import study as studies
from podium.search.messages import Event, Report, Task
from podium.search.processes import ProcessPool, Setup
from podium.search.space import suggest

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
    costs = [one["with"] / one["without"] - 1 for one in pairs]
    rows = [[name, shown([one[name] for one in pairs], " s")] for name in ("with", "without")]
    text = table([f"{arguments.trials} trials", "seconds"], rows)
    per_trial = shown([1000 * (one["with"] - one["without"]) / arguments.trials for one in pairs], " ms", 0)
    text += f"\ncheckpoints and logging take {shown([100 * c for c in costs], ' %', 1)} of the training time,"
    text += f"\n{per_trial} of two cores for each trial, which trains for {shown([lasts(pairs, arguments)], ' s')}"
    publish("overhead", text, {"pairs": pairs, "share": spread(costs)}, quick=arguments.quick)


def lasts(pairs: list[dict[str, float]], arguments: Any) -> float:
    """Seconds of a core that a trial trains for, on average."""
    return float(2 * sum(one["without"] for one in pairs) / len(pairs) / arguments.trials)


def pair(project: Project, trials: int, fresh: bool) -> dict[str, float]:
    """The seconds of each side."""
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.forget()
    if not fresh:
        project.set(search__n_trials=FIRST, search__seed=1)
        project.run(["-m", "podium.stages.search"])
        project.journal.unlink()
    project.set(search__n_trials=trials, search__seed=0, runtime__workers=2)
    project.run(["-m", "podium.stages.search"])
    storage = JournalStorage(JournalFileBackend(str(project.journal)))
    recorded = sorted(optuna.load_study(study_name=None, storage=storage).trials, key=lambda t: t.number)
    starts = [t.datetime_start for t in recorded if t.datetime_start]
    ends = [t.datetime_complete for t in recorded if t.datetime_complete]
    found = {"with": (max(ends) - min(starts)).total_seconds(), "without": Bare(project, recorded).seconds()}
    print(found, flush=True)
    return found


class Bare:
    """The recorded trials once more, in the same order on the same kind of pool, and nothing written."""

    def __init__(self, project: Project, recorded: list[optuna.trial.FrozenTrial]) -> None:
        self.params = load(project.folder / "params.yaml")
        self.base = self.params.recipe()
        self.study = studies.open_study(optuna.storages.InMemoryStorage(), "bare", self.params.search, {})
        self.recorded = recorded
        self.asked: dict[int, optuna.Trial] = {}
        self.pool = ProcessPool(2, Setup(str(project.prepared), "cpu", 1))

    def seconds(self) -> float:
        """Seconds that all of them take."""
        started, waiting, running = time.time(), list(self.recorded), 0
        try:
            while waiting or running:
                while waiting and running < self.pool.capacity:
                    self.submit(waiting.pop(0))
                    running += 1
                running -= sum(self.ended(event) for event in self.pool.events(0.2))
            return time.time() - started
        finally:
            self.pool.close()

    def submit(self, trial: optuna.trial.FrozenTrial) -> None:
        """Hand `trial` to a worker, after as much thought as the search gave it."""
        self.asked[trial.number] = studies.ask(self.study, self.params.search)
        suggest(self.asked[trial.number], self.params.search.space, self.base)
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
