"""Many short trials on several real workers, with every way to end and workers killed at random.

PODIUM_MASS_TRIALS makes it longer; PODIUM_BUDGET_TABLE names a Markdown file for the table of budgets.
"""

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

import tiny
from podium.config.params import RuntimeParams, SearchParams, TrackingParams
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.tuning.driver import Driver
from podium.tuning.pools.processes import ProcessPool, Setup
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.scripted import Recorder, search_params

TRIALS = int(os.environ.get("PODIUM_MASS_TRIALS", "60"))
SPACE = {
    "train.learning_rate": {"low": 1e-2, "high": 10.0, "log": True},  # the upper end diverges
    "train.epochs": {"low": 4, "high": 12},
    "train.momentum": {"choices": [0.0, 0.97]},
}
BASE = tiny.recipe(train__optimizer="sgd")
RUNTIME = RuntimeParams(checkpoint_seconds=0.01, checkpoint_share=1.0, max_restarts=1000)

pytestmark = pytest.mark.slow


class RandomKiller(Recorder):
    """Kills the worker of one reported epoch in `every`, `at_most` times."""

    def __init__(self, pool: ProcessPool, every: int, at_most: int, seed: int) -> None:
        super().__init__()
        self.pool = pool
        self.every = every
        self.left = at_most
        self.draw = random.Random(seed)  # noqa: S311 (moments, not secrets)
        self.kills = 0

    def running(self, trial: Any, history: list[Any]) -> None:
        if self.left and self.draw.randrange(self.every) == 0:
            worker = self.draw.choice([w for w in self.pool._workers if w.task is not None])
            worker.process.kill()
            self.left -= 1
            self.kills += 1


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


def _params(n_trials: int, **fields: Any) -> SearchParams:
    rules = {"pruner": "median", "pruner_startup": 3, "pruner_warmup": 1, "max_failures": n_trials}
    return search_params(**{"n_trials": n_trials, "space": SPACE} | rules | fields)


def _session(
    folder: Path, study_name: str, params: SearchParams, pool: ProcessPool, watchers: list[Any], stop_after: int = 10**9
) -> optuna.Study:
    """One session, which a signal ends after so many trials."""
    study = open_study(open_storage(folder / "optuna.journal"), study_name, params, {})

    def stopping() -> bool:
        return sum(t.state.is_finished() for t in study.get_trials(deepcopy=False)) >= stop_after

    try:
        Driver(study, pool, params, RUNTIME, BASE, folder / "checkpoints", watchers, stopping).run()
    finally:
        pool.close()
    return study


def test_mirror_of_many_short_trials_is_true(prepared: Path, tmp_path: Path, store: TrackingParams) -> None:
    params = _params(TRIALS)
    study = open_study(open_storage(tmp_path / "optuna.journal"), "search-mass", params, {})
    study.enqueue_trial({"train.learning_rate": 10.0, "train.epochs": 12, "train.momentum": 0.97})
    mirror = Mirror(study, store, Parent("search-mass", {}))  # that one diverges before any may be pruned
    pool = ProcessPool(4, Setup(str(prepared), "cpu", 1))
    killer = RandomKiller(pool, every=20, at_most=TRIALS // 6, seed=3)
    _session(tmp_path, "search-mass", params, pool, [mirror, killer])
    mirror.close()
    states = Counter(trial.state.name for trial in study.trials)
    print(f"{TRIALS} trials on 4 workers, {killer.kills} workers killed: {dict(states)}")
    assert states.total() == TRIALS
    assert set(states) == {"COMPLETE", "PRUNED", "FAIL"}
    assert killer.kills > 0
    tracking = connect(store)
    assert differences(tracking, study) == []
    statuses = Counter(run.info.status for run in runs_of(tracking, "search-mass"))
    assert statuses == {"FINISHED": states["COMPLETE"], "KILLED": states["PRUNED"], "FAILED": states["FAIL"]}


BUDGETS = [(n, workers, kills) for n in (1, 5, 12) for workers in (1, 2, 4) for kills in (0, 4)]


def test_budget_is_exact_whatever_is_killed(prepared: Path, tmp_path: Path) -> None:
    rows = []
    for n_trials, workers, kills in BUDGETS:
        folder = tmp_path / f"{n_trials}-{workers}-{kills}"
        params = _params(n_trials)
        watcher = Recorder()
        for stop_after in (n_trials // 2, n_trials):  # two sessions: the first is told to stop in the middle
            pool = ProcessPool(workers, Setup(str(prepared), "cpu", 1))
            watcher = RandomKiller(pool, every=3, at_most=kills, seed=n_trials) if kills else Recorder()
            study = _session(folder, "search", params, pool, [watcher], stop_after)
        states = Counter(trial.state.name for trial in study.trials)
        rows.append((n_trials, workers, kills, states.total(), dict(states)))
        assert states.total() == n_trials, rows[-1]
        assert not set(states) - {"COMPLETE", "PRUNED", "FAIL"}, rows[-1]
    _write_table(rows)


def _write_table(rows: list[tuple[Any, ...]]) -> None:
    if "PODIUM_BUDGET_TABLE" not in os.environ:
        return
    lines = ["| n_trials | workers | kills a session, at most | trials run | states |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    Path(os.environ["PODIUM_BUDGET_TABLE"]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_memory_of_a_worker_does_not_grow_with_its_trials(prepared: Path, tmp_path: Path) -> None:
    pool = ProcessPool(1, Setup(str(prepared), "cpu", 1))
    memory: list[int] = []

    class Scale(Recorder):
        def ended(self, trial: Any) -> None:
            super().ended(trial)
            if len(self.told) % 40 == 0:
                memory.append(psutil.Process(pool._workers[0].process.pid).memory_full_info().uss)

    _session(tmp_path, "search", _params(200, pruner="none"), pool, [Scale()])
    warm, last = memory[0], memory[-1]
    print(f"a worker's own memory after 40 trials {warm / 2**20:.1f} MiB, after 200 {last / 2**20:.1f} MiB")
    assert len(memory) == 5
    assert last < warm + 8 * 2**20, memory
