"""What a trial costs beyond its training, and a search to start: in process, worker processes, Ray, and Ray Tune.

Each engine runs the same search of trivial trials (one epoch on 60 images of 8x8, a few milliseconds) with one worker.
A trial's overhead is the wall time between two trials' ends less what the trial itself says it trained. It is shown for
the first and the last hundred trials: a search must not slow down as it grows. Ray Tune runs the same trainings with
its own OptunaSearch. The rounds are interleaved, and ratios are within one: on a busy machine only they mean something.
"""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # tiny images

import optuna

import tiny
from measuring import parser, publish, shown, table
from podium import cluster
from podium.config.params import RuntimeParams, SearchParams
from podium.training.epochs import Epoch
from podium.tuning.driver import Driver
from podium.tuning.pools import Pool
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study

SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
EDGE = 100


@dataclass
class Clock:
    """A watcher that notes when each trial ended and how long it trained."""

    started: float = field(default_factory=time.perf_counter)
    ends: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)

    def running(self, trial: Any, history: list[Epoch]) -> None:
        """Nothing."""

    def rested(self, trial: Any, history: list[Epoch]) -> None:
        """Nothing."""

    def ended(self, trial: Any) -> None:
        """Note it."""
        self.ends.append(time.perf_counter())
        self.trained.append(sum(epoch["seconds"] for epoch in trial.user_attrs["history"]))

    def note(self, line: str) -> None:
        """Nothing."""

    @property
    def start_up(self) -> float:
        """Seconds from nothing to the first trial's end."""
        return self.ends[0] - self.started

    def figures(self) -> dict[str, float]:
        """What is shown of the search."""
        count = len(self.ends)
        first, last = self.overhead(0, EDGE), self.overhead(max(0, count - 1 - EDGE), count)
        return {"trials": count, "start_up": self.start_up, "first": first, "last": last}

    def overhead(self, first: int, last: int) -> float:
        """Median milliseconds a trial beyond training, of the trials from `first` to `last`."""
        between = [b - a - t for a, b, t in zip(self.ends, self.ends[1:], self.trained[1:], strict=False)]
        return 1000 * statistics.median(between[first:last])


def _podium(engine: str, prepared: Path, trials: int) -> Clock:
    runtime = RuntimeParams.model_validate({"engine": engine, "workers": 1, "device": "cpu"})
    clock = Clock()
    params = SearchParams.model_validate(
        {"n_trials": trials, "sampler": "random", "pruner": "none", "space": SPACE, "max_failures": 3}
    )
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(open_storage(Path(folder) / "optuna.journal"), engine, params, {})
        pool = _pool(engine, prepared, runtime)
        base = tiny.recipe(train__epochs=1)
        try:
            Driver(study, pool, params, runtime, base, Path(folder) / "checkpoints", [clock]).run()
        finally:
            pool.close()
    return clock


def _pool(engine: str, prepared: Path, runtime: RuntimeParams) -> Pool:
    from podium.tuning.session import open_pool

    return open_pool(prepared, runtime, 10**6) if engine != "inline" else open_pool(prepared, runtime, 1)


def _tune(prepared: Path, trials: int) -> Clock:
    """The same trainings by Ray Tune: its searcher around Optuna, one trial at a time."""
    cluster.prepare(RuntimeParams(engine="ray"))
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    clock = Clock()
    from ray import cloudpickle, tune
    from ray.tune.search.optuna import OptunaSearch

    cloudpickle.register_pickle_by_value(tiny)  # type: ignore[no-untyped-call] # Ray's workers do not find it

    def train(config: dict[str, float]) -> None:
        import torch

        from podium.training.loop import TrainingRun

        torch.set_num_threads(1)
        material = tiny.trial_data(prepared)
        recipe = tiny.recipe(train__epochs=1, train__learning_rate=config["learning_rate"])
        run = TrainingRun(recipe, material.images, 0, material.device)
        run.train(material.train, material.val)
        tune.report(run.history[-1])

    class Watch(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            clock.ends.append(time.perf_counter())
            clock.trained.append(trial.last_result["seconds"])

    with cluster.opened(RuntimeParams(engine="ray"), 1), tempfile.TemporaryDirectory() as folder:
        search = OptunaSearch(metric="val_accuracy", mode="max", sampler=optuna.samplers.RandomSampler(seed=0))
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"learning_rate": tune.loguniform(1e-3, 1e-1)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1, search_alg=search),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Watch()], verbose=0),
        )
        tuner.fit()
    return clock


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=500, help="trials of each search of ours (default 500)")
    options.add_argument("--tune-trials", type=int, default=20, help="trials of Ray Tune; 0: without (default 20)")
    options.add_argument("--rounds", type=int, default=3, help="turns of each engine (default 3)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.trials, arguments.tune_trials, arguments.rounds = 30, 4, 1
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    engines = ["inline", "processes", "ray", *(["Ray Tune"] if arguments.tune_trials else [])]
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        prepared = tiny.prepare(Path(folder))
        for _ in range(arguments.rounds):
            for engine in engines:
                ours = engine != "Ray Tune"
                clock = _podium(engine, prepared, arguments.trials) if ours else _tune(prepared, arguments.tune_trials)
                found[engine].append(clock.figures())
                print(engine, found[engine][-1], flush=True)
    rows = [_row(engine, rounds, found["inline"]) for engine, rounds in found.items()]
    head = ["engine", "trials", "start-up", "first 100, ms a trial", "last 100", "of inline's"]
    publish("engine", table(head, rows), {"engines": found}, quick=arguments.quick)


def _row(engine: str, rounds: list[dict[str, float]], inline: list[dict[str, float]]) -> list[object]:
    times = [one["last"] / other["last"] for one, other in zip(rounds, inline, strict=True)]
    start, first, last = ([one[name] for one in rounds] for name in ("start_up", "first", "last"))
    trials = int(rounds[0]["trials"])
    return [engine, trials, shown(start, " s", 1), shown(first, "", 1), shown(last, "", 1), shown(times, "x", 1)]


if __name__ == "__main__":
    main()
