"""Stages as processes of their own, as DVC starts them, in a folder with data and mlruns of its own."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import tiny
from starting import with_ctrl_c
from waiting import PATIENCE

ONE_PROCESS = """
import importlib, sys
for stage in sys.argv[1:]:
    importlib.import_module(f"podium.stages.{stage}").main()
"""
"""Stages one after the other in one process: starting each costs five seconds."""


class Project:
    """A folder in which stages run: tiny images in data/prepared, a migrated MLflow store in mlruns."""

    def __init__(self, folder: Path, store: Path, params: str) -> None:
        self.folder = folder
        (folder / "mlruns").mkdir(parents=True)
        (folder / "mlruns" / "mlflow.db").write_bytes(store.read_bytes())
        tiny.prepare(folder / "data" / "prepared", train=120, val=30)
        self.write(params)

    def write(self, params: str) -> None:
        """Write params.yaml."""
        (self.folder / "params.yaml").write_text(params, encoding="utf-8")

    def start(
        self, *stages: str, file_size: int | None = None, within: tuple[str, ...] = ()
    ) -> "subprocess.Popen[str]":
        """Start a stage in a process group of its own; its output goes to <stage>.log. Several are one process.

        No file can grow beyond `file_size` bytes, as on a disk that is full. `within` is what starts it elsewhere.
        """
        limit = resource.RLIM_INFINITY if file_size is None else file_size

        def as_in_a_terminal() -> None:
            with_ctrl_c()
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        # One thread: two of them on a busy machine take ten times as long for batches this small.
        environment = os.environ | {"DVC_ROOT": str(self.folder), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        command = ["-c", ONE_PROCESS, *stages] if len(stages) > 1 else ["-m", f"podium.stages.{stages[0]}"]
        with (self.folder / f"{'-'.join(stages)}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [*within, sys.executable, *command],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=as_in_a_terminal,
            )

    def run(self, *stages: str, code: int = 0) -> None:
        """Run a stage, or several in one process, to their end; it must end with `code`."""
        got = self.start(*stages).wait(PATIENCE)
        assert got == code, self.log(*stages)

    def log(self, *stages: str) -> str:
        """What a stage, or several in one process, has said so far, over all its runs."""
        return (self.folder / f"{'-'.join(stages)}.log").read_text(encoding="utf-8")


def end_group(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGKILL) -> int:
    """Send `number` to the process and all its children, those that are still there; returns the exit code."""
    with suppress(ProcessLookupError):  # all of them may have ended just now
        os.killpg(process.pid, number)
    return process.wait(PATIENCE)
