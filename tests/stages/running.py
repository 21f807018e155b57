"""Stages as processes of their own, as DVC starts them, in a folder with data and mlruns of its own."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import tiny

TIMEOUT = 120.0
"""Seconds after which a stage counts as hanging."""


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

    def start(self, stage: str, file_size: int | None = None, within: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        """Start a stage in a process group of its own; its output goes to <stage>.log.

        No file can grow beyond `file_size` bytes, as on a disk that is full. `within` is what starts it elsewhere.
        """
        limit = resource.RLIM_INFINITY if file_size is None else file_size
        # One thread: two of them on a busy machine take ten times as long for batches this small.
        environment = os.environ | {"DVC_ROOT": str(self.folder), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{stage}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [*within, sys.executable, "-m", f"podium.stages.{stage}"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
            )

    def run(self, stage: str) -> float:
        """Run a stage to its end, which must be a good one. Returns the seconds it took."""
        started = time.monotonic()
        code = self.start(stage).wait(TIMEOUT)
        assert code == 0, self.log(stage)
        return time.monotonic() - started

    def log(self, stage: str) -> str:
        """What a stage has said so far, over all its runs."""
        return (self.folder / f"{stage}.log").read_text(encoding="utf-8")


def end_group(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGKILL) -> int:
    """Send `number` to the process and all its children, those that are still there; returns the exit code."""
    with suppress(ProcessLookupError):  # all of them may have ended just now
        os.killpg(process.pid, number)
    return process.wait(TIMEOUT)


def until(condition: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    """Wait until `condition` is true, which it must become while `process` runs."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        assert process is None or process.poll() is None, "the process ended before"
        time.sleep(0.01)
