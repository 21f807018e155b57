"""The whole pipeline in a temporary clone: the real dvc.yaml and params.yaml, the numbers shrunk."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from waiting import PATIENCE

ROOT = Path(__file__).parents[1]
STAGES = ("prepare", "search", "select", "retrain", "evaluate", "register", "report")
SHRUNK = {
    "model.width": 8,
    "model.hidden": 32,
    "train.epochs": 3,
    "search.n_trials": 8,
    "search.startup_trials": 3,
    "search.pruner_startup": 2,
    "search.pruner_warmup": 1,
    "search.space.train.epochs": {"low": 3, "high": 6},
    "search.space.train.batch_size": {"choices": [16, 32]},
    "select.top_k": 2,
    "select.seeds": 2,
    "retrain.profile_steps": 2,
    "runtime.workers": 1,
    "runtime.checkpoint_seconds": 0.1,
    "runtime.checkpoint_share": 1.0,
    "tracking.flush_seconds": 0.5,
}
"""What makes the default pipeline one of half a minute, reproducible bit for bit."""
FOREIGN = re.compile(r"(Downloading|Uploading) artifacts|\d+it/s")
"""What no command may say into a file or a pipe: progress bars of libraries."""


class Clone:
    """A clone of this project with the working tree's files, in which commands run as a user would type them."""

    def __init__(self, folder: Path, changes: Mapping[str, Any] = SHRUNK, store: Path | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        listed = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        for compiled in (ROOT / "src").rglob("__pycache__"):  # it is of use to files of the same age: a second a clone
            with suppress(OSError):  # another test may be writing there
                shutil.copytree(compiled, folder / compiled.relative_to(ROOT), ignore=shutil.ignore_patterns("*.pyc.*"))
        if store is not None:  # a store whose migrations have run saves three seconds
            (folder / "mlruns").mkdir()
            shutil.copy(store, folder / "mlruns" / "mlflow.db")
        self.set(changes)
        for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@example.org commit -qm clone"):
            subprocess.run(["git", *command.split()], cwd=folder, check=True)

    def set(self, changes: Mapping[str, Any]) -> None:
        """Change parameters by their dotted paths; what is in `search.space` keeps its dot."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        raw = yaml.load(path)
        for name, value in changes.items():
            *sections, field = re.sub(r"space\.(train|model)\.", r"space.\1/", name).split(".")
            section = raw
            for key in sections:
                section = section[key]
            section[field.replace("/", ".")] = value
        yaml.dump(raw, path)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start `command` in a process group of its own; its output goes to output.log."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
        binaries = str(Path(sys.executable).parent)
        environment |= {
            "PATH": os.pathsep.join([binaries, environment.get("PATH", "")]),
            "PYTHONPATH": str(self.folder / "src"),  # its own code, not the one that is installed
            "PYTHONUNBUFFERED": "1",
        }
        with (self.folder.parent / f"{self.folder.name}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(self, *command: str, code: int = 0) -> str:
        """Run `command` to its end and return what it said; it must end with `code`."""
        before = len(self.log())
        process = self.start(*command)
        try:
            got = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{' '.join(command)} took longer than {PATIENCE} s:\n{self.log()[before:]}") from None
        said = self.log()[before:]
        assert got == code, said
        assert not FOREIGN.search(said), said
        return said

    def log(self) -> str:
        """What all commands have said so far."""
        path = self.folder.parent / f"{self.folder.name}.log"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def json(self, name: str) -> Any:
        """A JSON file of data/."""
        return json.loads((self.folder / "data" / name).read_text(encoding="utf-8"))


def stage_of(process: psutil.Process) -> str:
    """The stage that `process` runs; empty for any other process."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    named = [word for word in words if word.startswith("podium.stages.")]
    return named[0].removeprefix("podium.stages.") if named and "-m" in words else ""


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Every process that `process` has started, however deep, itself not among them."""
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.Error:
        return []
