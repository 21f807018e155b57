"""What checkpointing and logging cost of the training time of the default search.

The shipped search's own trials (recorded, without pruning) are trained twice by the same two worker processes:

  with     as the stage does: study in its journal, mirror in MLflow, checkpoints every runtime.checkpoint_seconds
  without  the same tasks handed to the same pool, every report answered at once, nothing recorded, no checkpoint

In turn, several times. Start-up (imports, workers) is not counted on either side; its figure is in pipeline_time.py.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import ROOT, Project, parser, publish, shown, spread, table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=2, help="pairs (default 2)")
    options.add_argument("--trials", type=int, default=16, help="trials of each (default 16)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.trials = 1, 3
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        pairs = [pair(project, arguments.trials) for _ in range(arguments.rounds)]
    costs = [one["with"] / one["without"] - 1 for one in pairs]
    rows = [[name, shown([one[name] for one in pairs], " s")] for name in ("with", "without")]
    text = table([f"{arguments.trials} trials", "seconds"], rows)
    text += f"\ncheckpoints and logging take {shown([100 * cost for cost in costs], ' %', 1)} of the training time"
    publish("overhead", text, {"pairs": pairs, "share": spread(costs)}, quick=arguments.quick)


def pair(project: Project, trials: int) -> dict[str, float]:
    """The seconds of each side."""
    (project.folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project.set(search__n_trials=trials, search__pruner="none", runtime__workers=2)
    project.forget()
    project.run(["-m", "podium.stages.search"])
    study = _study(project.journal)
    recorded = sorted(study.trials, key=lambda t: t.number)
    starts = [t.datetime_start for t in recorded if t.datetime_start]
    ends = [t.datetime_complete for t in recorded if t.datetime_complete]
    found = {"with": (max(ends) - min(starts)).total_seconds(), "without": bare(project, recorded)}
    print(found, flush=True)
    return found


def _study(journal: Path) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))


def bare(project: Project, recorded: list[Any]) -> float:
    """The same tasks in the same order on the same pool, and nothing else."""
    from podium.params import load
    from podium.search.messages import Report, Task
    from podium.search.processes import ProcessPool, Setup

    base = load(ROOT / "params.yaml").recipe()
    tasks = []
    for trial in recorded:
        recipe = base.replace(trial.user_attrs["recipe"]).model_dump()
        checkpoint = str(project.folder / "none" / f"{trial.number}.ckpt")
        tasks.append(Task(trial.number, 1, trial.user_attrs["seed"], recipe, checkpoint, checkpoint_seconds=1e9))
    pool = ProcessPool(2, Setup(str(project.prepared), "cpu", 1))
    started, running = time.time(), 0
    try:
        while tasks or running:
            while tasks and running < pool.capacity:
                pool.submit(tasks.pop(0))
                running += 1
            for event in pool.events(0.2):
                if isinstance(event, Report):
                    pool.answer(event, True)
                else:
                    running -= 1
        return time.time() - started
    finally:
        pool.close()


if __name__ == "__main__":
    main()
