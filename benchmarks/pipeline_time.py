"""From a clean clone to a registered model, `dvc repro` with nothing to do, and what each stage does beyond its work.

The project's last commit is cloned into a folder of its own; `make install` there uses the package cache as it finds
it. Then `dvc repro`, then `dvc repro` again several times. At last each stage once more by itself: its seconds, and how
many of them it imported (python -X importtime; modules that its workers import are not its own). For the search:
seconds from the start of the stage to the start of the first training step.
"""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import ROOT, Project, parser, publish, shown, spread, table

STAGES = ("prepare", "search", "select", "retrain", "evaluate", "register")
REPORT = '"op_code":7,'
"""What the journal says when an epoch has been reported."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5, help="times of dvc repro with nothing to do (default 5)")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "podium"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        install = timed(clone, ["make", "install"])
        if arguments.quick:
            path = clone / "params.yaml"
            path.write_text(re.sub(r"n_trials: \d+", "n_trials: 4", path.read_text()))
        first = timed(clone, [".venv/bin/dvc", "repro"])
        nothing = [timed(clone, [".venv/bin/dvc", "repro"]) for _ in range(arguments.rounds)]
        stages = {name: stage(clone, name) for name in STAGES}
        starts = [start_of_search(Path(folder) / f"start-{i}") for i in range(1 if arguments.quick else 3)]
    rows = [
        ["make install, package cache as it was", f"{install:.1f} s"],
        ["first dvc repro", f"{first:.1f} s"],
        ["dvc repro with nothing to do", shown(nothing, " s")],
        ["start of the search to its first training step", shown(starts, " s")],
    ]
    text = table(["", "seconds"], rows) + "\n\n"
    rows = [[name, f"{one['seconds']:.1f}", f"{one['imports']:.1f}"] for name, one in stages.items()]
    text += table(["stage, again by itself", "seconds", "of them imports"], rows)
    content = {
        "install": install,
        "first": first,
        "nothing": spread(nothing),
        "start": spread(starts),
        "stages": stages,
    }
    publish("pipeline_time", text, content, quick=arguments.quick)


def timed(folder: Path, command: list[str]) -> float:
    """Seconds of a command that has to succeed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")}
    environment["PATH"] = f"{folder / '.venv' / 'bin'}:{environment['PATH']}"
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    print(f"{' '.join(command)}: {seconds:.1f} s", flush=True)
    return seconds


def stage(clone: Path, name: str) -> dict[str, float]:
    """A stage whose outputs are there: the search and the confirmation find that nothing is left to train."""
    command = [str(clone / ".venv/bin/python"), "-m", f"podium.stages.{name}"]
    seconds = timed(clone, command)
    done = subprocess.run([command[0], "-X", "importtime", *command[1:]], cwd=clone, capture_output=True, text=True)
    own = re.findall(r"^import time: +(\d+) \|", done.stderr, re.MULTILINE)
    return {"seconds": round(seconds, 2), "imports": round(sum(map(int, own)) / 1e6, 2)}


def start_of_search(folder: Path) -> float:
    """Seconds from the start of the stage to the first training step: the first report less its epoch's seconds."""
    folder.mkdir()
    project = Project.make(folder)
    project.set(search__n_trials=2)
    process = project.start(["-m", "podium.stages.search"])
    while process.poll() is None and not (project.journal.is_file() and REPORT in project.journal.read_text()):
        time.sleep(0.005)
    reported = time.time() - project.started
    if process.wait():
        raise SystemExit(project.output())
    return reported - _first_epoch(project.journal)


def _first_epoch(journal: Path) -> float:
    """Seconds that the first report's epoch took."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study: Any = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
    return min(float(trial.user_attrs["history"][0]["seconds"]) for trial in study.trials)


if __name__ == "__main__":
    main()
