"""How every command ends: a sentence and an exit code for what a person can act on, a traceback for a bug."""

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

from podium.errors import PodiumError

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What a disk says that takes no more: a matter for a person, not a bug."""
WATCH_EVERY = 0.5
"""Seconds between two looks at whether DVC is still there."""


def run(main: Callable[[], object]) -> None:
    """Call `main`; exit 0 when it returns, or with the error's own code after printing its message to stderr."""
    try:
        main()
        sys.stdout.flush()
        gc.freeze()  # no last collection over what torch and mlflow made: leaving takes 0.3 s instead of 1.6 s
    except PodiumError as error:
        print(f"podium: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"podium: {_about_the_disk(error)}", file=sys.stderr)
        sys.exit(PodiumError.exit_code)


def run_stage(main: Callable[[], object]) -> None:
    """The same for a stage: it ends with the `dvc repro` that started it, as if it had been sent SIGTERM.

    A stage whose DVC was killed would else go on unseen, and hold up or double what the next `dvc repro` does.
    """
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), name="podium-dvc", daemon=True).start()
    run(main)


def _about_the_disk(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}. What was recorded before is whole; make room or make it writable, then run the same"
        " again: it goes on from there (`df -h` shows the space, `podium gc` frees some)"
    )


def _end_with(parent: int) -> None:
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(WATCH_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
