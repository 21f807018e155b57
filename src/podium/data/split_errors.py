"""Errors of a split on disk whose files can't be read: they are damaged, or this process may not read them."""

import errno
from pathlib import Path

from podium.errors import InputError, PodiumError

FILES = "A large split is up to 64 files, each open while it is read: allow more open files (ulimit -n)"
REMEDIES = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.ENOMEM: "The images are mapped into memory: allow a larger address space (ulimit -v unlimited)",
    errno.EACCES: "Change the permissions of its files",
}
"""Of what keeps a process from reading files that are whole."""


def unreadable(folder: Path, error: Exception) -> PodiumError:
    """That a file of the split in `folder` can't be read for `error`."""
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return damaged(folder, str(error))
    return PodiumError(f"{folder} can't be read: {error.strerror}. {REMEDIES[error.errno]}")


def damaged(folder: Path, what: str) -> InputError:
    """That the split in `folder` is not what was written, and `what` is wrong."""
    return InputError(f"{folder} is damaged: {what}; run `dvc repro prepare`")
