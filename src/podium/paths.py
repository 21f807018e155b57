"""The only path constants of the project.

Stages run in the project's root. Under `dvc exp run --temp` they run in a copy below `.dvc/tmp`, while runs still
belong to the one real `mlruns/`: DVC names the real root in `DVC_ROOT`.
"""

import hashlib
import os
from pathlib import Path

LONGEST_FILE = 200
"""Bytes of a name that every file system takes, with an ending."""
PARAMS = Path("params.yaml")
PRESETS = Path("presets")

DATA = Path("data")
CODE = DATA / "code"
WEIGHTS = DATA / "weights"
SPLIT = DATA / "split/split.csv"
LABELS = DATA / "labels"
PREPARED = DATA / "prepared"
SEALED = DATA / "sealed"
SEARCH = DATA / "search"
SELECTED = DATA / "selected"
RETRAINED = DATA / "retrained"
EVALUATED = DATA / "evaluated"
REGISTERED = DATA / "registered"
REPORT = DATA / "report"


def root() -> Path:
    """The project's real root, also from inside an experiment's temporary copy."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def decoded() -> Path:
    """The cache of decoded images. DVC does not track it, since it deletes outputs before a stage runs."""
    return root() / DATA / ".decoded"


def mlruns() -> Path:
    """The folder of everything that ran: tracking database, artifacts, studies, checkpoints."""
    return root() / "mlruns"


def lock(name: str) -> Path:
    """The lock of the search or the retraining called `name`; a name that is no file's has a digest in its place."""
    if "/" in name or "\0" in name or not name.isprintable() or len(name.encode()) > LONGEST_FILE:
        name = f"study-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
    return mlruns() / "locks" / f"{name}.lock"
