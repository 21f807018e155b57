"""When a run is saved, and how that is kept cheap: a copy of the state is made between two steps and written by a
thread meanwhile, as often as that costs a small part of the time, whatever the size of the model.

The interval follows from the cost of a checkpoint (J. Mohan et al., CheckFreq, FAST 2021): its copy, and the processor
time of its writing, which may be the training's own core. Time in which other threads had this one's core does not
count: of what a busy machine leaves to the training, checkpoints would take many times their share. A kill loses the
steps since the last whole file.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from podium.training import checkpoint

ASSUMED = 2.0e8
"""Bytes a second of a checkpoint, before this process has written one."""
_measured: list[float] = []
"""Bytes a second of the last checkpoint of this process that was large enough to tell."""
WAITED = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds that this thread has run, and that it has waited for a core (kernel, sched-stats.rst)."""
TELLING = 1_000_000
"""Bytes from which on a checkpoint's time is its size's."""


class Run(Protocol):
    """What is saved."""

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        ...


class Saver:
    """Writes checkpoints of one run to `path`.

    One at a time, at the earliest `seconds` after the last, and so that all take no more than the fraction `share` of
    the time. With a `share` of 1 each is written at once, before the run goes on.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        seconds: float,
        share: float,
        on_save: Callable[[], None] = lambda: None,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        """`on_save` is called when a file is whole, `on_error` where the disk takes none, which is raised else."""
        self._path, self._identity, self._seconds, self._share = path, identity, seconds, share
        self._on_save, self._on_error = on_save, on_error
        self._saved = time.monotonic()
        self._waited = waited()
        """As it was at the last one."""
        self._writing: threading.Thread | None = None
        self._abandoned = threading.Event()
        self._failed: Exception | None = None
        self.cost = 0.0
        """Seconds of the last checkpoint: its copy, and the processor time of its writing."""
        self.spent = 0.0
        """Seconds of all of them."""

    def is_due(self, run: Run) -> bool:
        """Whether it is time for the next one. Raises why the last one failed, unless `on_error` was told."""
        self._raise_failure()
        passed = time.monotonic() - self._saved
        if passed < self._seconds or self._is_writing():
            return False
        if self._share >= 1:
            return True
        if not self.cost:
            self.cost = size_of(run.state()) / (_measured[-1] if _measured else ASSUMED)
        wanted = self.cost / self._share
        return passed >= wanted and passed - (waited() - self._waited) >= wanted

    def save(self, run: Run) -> None:
        """Copy the state of `run` now and write it meanwhile. Without `on_error` an OSError comes with the next one."""
        if self._share >= 1:
            self.save_now(run)
            return
        self._raise_failure()
        started, before = time.monotonic(), waited()
        state = snapshot(run.state())
        self._waited = waited()
        copied = time.monotonic() - started - (self._waited - before)
        self._writing = threading.Thread(target=self._work, args=(state, copied), name="podium-checkpoint", daemon=True)
        self._writing.start()
        self._saved = time.monotonic()

    def save_now(self, run: Run) -> None:
        """Write the state of `run`, and return when that is done; what is being written is abandoned for it.

        Raises OSError where the disk does not take it and there is no `on_error`.
        """
        self.close()
        started = time.monotonic()
        self._write(run.state())
        self._saved, self._waited = time.monotonic(), waited()
        self._account(self._saved - started)
        self._raise_failure()

    def close(self) -> None:
        """Abandon what is being written: no file changes from now on, and the last whole one stays."""
        self._abandoned.set()
        if self._writing is not None:
            self._writing.join()
        self._writing = None
        self._abandoned.clear()

    def _is_writing(self) -> bool:
        return self._writing is not None and self._writing.is_alive()

    def _work(self, state: dict[str, Any], copied: float) -> None:
        started = time.thread_time()
        try:
            self._write(state)
        except Exception as error:  # raised where the run hears of it, at its next step
            self._failed = error
            return
        took = time.thread_time() - started
        if (size := size_of(state)) >= TELLING:
            _measured[:] = [size / max(copied + took, 1e-6)]
        self._account(copied + took)

    def _write(self, state: dict[str, Any]) -> None:
        try:
            if checkpoint.save(self._path, self._identity, state, self._abandoned.is_set):
                self._on_save()
        except OSError as error:
            if self._on_error is None:
                self._failed = error
            else:
                self._on_error(error)

    def _account(self, seconds: float) -> None:
        self.cost = seconds
        self.spent += seconds

    def _raise_failure(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed


def waited() -> float:
    """Seconds in which this thread could have run while others had its core; 0.0 where the system does not say."""
    try:
        return int(WAITED.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def snapshot(value: Any) -> Any:
    """`value`, of plain dicts, lists and tuples, with a copy of each tensor in the machine's memory: training changes
    them in place.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(one) for key, one in value.items()}
    if isinstance(value, list):
        return [snapshot(one) for one in value]
    if isinstance(value, tuple):
        return tuple(snapshot(one) for one in value)
    return value


def size_of(value: Any) -> int:
    """Bytes of the tensors in `value`."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(size_of(one) for one in parts)
