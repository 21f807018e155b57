"""kill -9 of any process of the pipeline at random moments: what comes out is what an undisturbed run gives.

PODIUM_KILL_SEED repeats a run, PODIUM_KILL_ROUNDS makes it longer, and PODIUM_KILL_TABLE names a Markdown file for its
table.
"""

import os
import random
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import STAGES, Clone, family, stage_of
from podium.config.params import TrackingParams
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tuning.upkeep import studies
from waiting import PATIENCE, gone, until

ROUNDS = int(os.environ.get("PODIUM_KILL_ROUNDS", "4"))
ROUNDS_A_PIPELINE = 6
VICTIMS = ("worker", "driver", "dvc", "group")
FILES = (
    *(f"search/{name}" for name in ("trials.csv", "best.json", "ranking.json", "importances.json")),
    "selected/config.json",
    "retrained/history.csv",
    "evaluated/metrics.json",
    "evaluated/predictions.csv",
)


@dataclass(frozen=True)
class Round:
    """One kill."""

    pipeline: int
    victim: str
    stage: str
    after: float
    """Seconds after the stage that was to be killed began."""


@dataclass
class Campaign:
    """Kills of one pipeline, one after the other, until it has come to its end."""

    clone: Clone
    number: int
    draw: random.Random
    seconds: dict[str, float]
    """How long each stage takes undisturbed."""
    rounds: list[Round] = field(default_factory=list)

    def kill(self, stage: str, victim: str) -> bool:
        """Run the pipeline, and kill `victim` at a random moment of `stage`. Returns whether that came about.

        On a machine whose load changes the moment may lie in a later stage: then that one is killed.
        """
        process = self.clone.start("dvc", "repro")
        until(lambda: process.poll() is not None or _reached(process, stage))
        began, moment = time.monotonic(), self.draw.uniform(0.05, 1.0) * self.seconds[stage]
        time.sleep(moment)
        until(lambda: process.poll() is not None or _targets(process, victim))
        reached, after = _reached(process, stage), time.monotonic() - began
        there = process.poll() is None and _kill(process, victim)
        if there:
            self.rounds.append(Round(self.number, victim, reached or stage, round(after, 2)))
        process.wait(PATIENCE)  # after a worker's death it goes on to its end, after all others it ends now
        return there


def _reached(process: "subprocess.Popen[str]", stage: str) -> str:
    """The stage that runs where it is `stage` or a later one, else empty."""
    running = [name for child in family(process) if (name := stage_of(child)) in STAGES]
    return next((name for name in running if STAGES.index(name) >= STAGES.index(stage)), "")


def _targets(process: "subprocess.Popen[str]", victim: str) -> list[psutil.Process]:
    """The pipeline's `victim`; nothing where there is none just now. A stage without workers is its own."""
    everyone = family(process)
    if victim in ("dvc", "group"):
        return [psutil.Process(process.pid), *(everyone if victim == "group" else [])]
    stages = [child for child in everyone if stage_of(child)]
    if victim == "driver" or any(stage_of(child) not in ("search", "select") for child in stages):
        return stages[:1]
    return [child for child in everyone if _is_worker(child)][-1:]


def _kill(process: "subprocess.Popen[str]", victim: str) -> bool:
    """kill -9 of the pipeline's `victim`; False where there is none just now.

    What is left must end by itself: the workers of a dead driver, the stage of a dead dvc.
    """
    everyone, targets = family(process), _targets(process, victim)
    for target in targets:
        with suppress(psutil.Error):
            target.kill()
    if targets and victim != "worker":
        process.wait(PATIENCE)
        until(lambda: all(gone(one.pid) for one in everyone), said=lambda: f"{everyone} outlive the killed {victim}")
    return bool(targets)


def _is_worker(process: psutil.Process) -> bool:
    """Whether `process` was forked from the server of all workers."""
    try:
        parent = process.parent()
        return parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())
    except psutil.Error:
        return False


def _outcome(clone: Clone, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Everything that must not depend on kills."""
    files = {name: _without_ids((clone.folder / "data" / name).read_text(encoding="utf-8")) for name in FILES}
    patch.setenv("DVC_ROOT", str(clone.folder))
    tracking = connect(TrackingParams())
    runs = tracking.client.search_runs([tracking.experiment_id], max_results=1000)
    found = studies(clone.folder / "mlruns" / "optuna.journal")
    versions = tracking.client.search_model_versions("name = 'digits-classifier'")
    return {
        "files": files,
        "weights": clone.json("retrained/model.json")["weights_digest"],
        "trials": {study.study_name: [_trial(trial) for trial in study.trials] for study in found},
        "statuses": Counter(run.info.status for run in runs),
        "kinds": Counter(run.data.tags.get("podium.kind") for run in runs),
        "versions": [version.version for version in versions],
        "differences": [line for study in found for line in differences(tracking, study)],
    }


def _trial(trial: Any) -> tuple[Any, ...]:
    return trial.number, trial.state.name, trial.values, trial.params, trial.intermediate_values


def _without_ids(text: str) -> str:
    """The text without the lines that name a run of MLflow."""
    return "\n".join(line for line in text.splitlines() if "run_id" not in line)


def _undisturbed(clone: Clone) -> dict[str, float]:
    """Run the pipeline undisturbed; returns the seconds of each stage."""
    process = clone.start("dvc", "repro")
    began: dict[str, float] = {}
    while process.poll() is None:
        for child in family(process):
            if stage := stage_of(child):
                began.setdefault(stage, time.monotonic())
        time.sleep(0.02)
    assert process.returncode == 0, clone.log()
    ends = [*list(began.values())[1:], time.monotonic()]
    return {stage: end - start for (stage, start), end in zip(began.items(), ends, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(0 if ROUNDS > 10 else 3000)  # two minutes of a quiet core
def test_killed_pipeline_ends_as_the_undisturbed_one(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("PODIUM_KILL_SEED", time.time()))
    print(f"PODIUM_KILL_SEED={seed}")
    draw = random.Random(seed)  # noqa: S311 (moments, not secrets)
    undisturbed = Clone(tmp_path / "undisturbed", store=mlflow_template)
    seconds = _undisturbed(undisturbed)
    with monkeypatch.context() as patch:
        wanted = _outcome(undisturbed, patch)
    assert wanted["differences"] == []
    assert wanted["versions"] == ["1"] or wanted["versions"] == [1]
    rounds: list[Round] = []
    pipeline = 0
    while len(rounds) < ROUNDS:
        pipeline += 1
        clone = Clone(tmp_path / f"killed-{pipeline}", store=mlflow_template)
        campaign = Campaign(clone, pipeline, draw, seconds)
        for stage in _moments(draw, min(ROUNDS_A_PIPELINE, ROUNDS - len(rounds))):
            victim = draw.choice(VICTIMS if stage in ("search", "select") else VICTIMS[1:])
            campaign.kill(stage, victim)
        clone.run("dvc", "repro")
        with monkeypatch.context() as patch:
            got = _outcome(clone, patch)
        for key, value in wanted.items():
            assert got[key] == value, f"{key}, PODIUM_KILL_SEED={seed}, {campaign.rounds}\n{clone.log()}"
        rounds += campaign.rounds
        print(*campaign.rounds, sep="\n")
    _write_table(rounds, seed)


def _moments(draw: random.Random, count: int) -> list[str]:
    """The stages in which to kill, in the pipeline's order: half of them in the search."""
    return sorted((draw.choice((*STAGES, *["search"] * 4)) for _ in range(count)), key=STAGES.index)


def _write_table(rounds: list[Round], seed: int) -> None:
    if "PODIUM_KILL_TABLE" not in os.environ:
        return
    lines = ["| round | pipeline | killed | in stage | seconds after its start |", "|---|---|---|---|---|"]
    lines += [f"| {n} | {r.pipeline} | {r.victim} | {r.stage} | {r.after} |" for n, r in enumerate(rounds, 1)]
    heading = f"{len(rounds)} kills, PODIUM_KILL_SEED={seed}; every pipeline ended as the undisturbed one.\n\n"
    Path(os.environ["PODIUM_KILL_TABLE"]).write_text(heading + "\n".join(lines) + "\n", encoding="utf-8")
