"""The lock under which processes of one machine look for something in an MLflow store, and then make it once."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from podium import paths
from podium.locks import LockFileError, locked

NAME = "mlflow.lock"
_held = threading.local()
"""The stores whose lock this thread has."""


@contextmanager
def alone(database: Path | None, address: str) -> Iterator[None]:
    """Hold the lock of a store: of the file `database`, beside which it lies; None: of the server at `address`.

    The clients of a server may stand anywhere: in a Podium project its lock is in mlruns; elsewhere, or where that
    can't be written, in the system's folder for temporary files.

    A thread that has it gets it again: Python may collect a TrialLogger that nobody uses any more, and so end its runs,
    at any moment, also within such a block.
    """
    held: set[str] = vars(_held).setdefault("stores", set())
    if address in held:
        yield
        return
    with ExitStack() as stack:
        if database is not None:
            stack.enter_context(locked(database.parent / NAME, wait=True))
        else:
            _take(stack, address)
        held.add(address)
        stack.callback(held.discard, address)
        yield


def _take(stack: ExitStack, address: str) -> None:
    """Take the lock of the server at `address`, until `stack` ends."""
    try:
        if (folder := paths.mlruns()).is_dir():
            stack.enter_context(locked(folder / NAME, wait=True))
            return
    except (LockFileError, FileNotFoundError):  # the second one: the folder where the program stands was removed
        pass
    digest = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:16]
    stack.enter_context(locked(Path(tempfile.gettempdir()) / f"podium-{os.getuid()}-{digest}.lock", wait=True))
