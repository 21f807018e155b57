"""Errors of a split on disk whose files can't be read: they are damaged, or something keeps this process from them."""

import errno
from pathlib import Path

from podium.errors import InputError, PodiumError

FILES = "A large split is up to 64 files, each open while it is read: allow more open files (ulimit -n)"
PERMISSIONS = "Let this user read the folder and its files (permissions, and the rules of the system or container)"
MOUNT = "Its disk, mount or file server fails, not what was written: the system's log says more; try again after that"
REMEDIES = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.ENOMEM: "The images are mapped into memory: allow a larger address space (ulimit -v unlimited)",
    errno.EACCES: PERMISSIONS,
    errno.EPERM: PERMISSIONS,
    errno.ESTALE: "The file server replaced its files while they were read: try again, or mount the folder again",
}
"""Of what keeps a process from reading files that are whole; MOUNT for others."""
OTHER_FILES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Not a failure to read: the files there are not those of a split."""


def unreadable(path: Path, error: Exception) -> PodiumError:
    """That the folder of a split, or a file beside it, can't be read for `error`."""
    if not isinstance(error, OSError) or error.errno is None or error.errno in OTHER_FILES:
        return damaged(path, str(error))
    return PodiumError(f"{path} can't be read: {error.strerror}. {REMEDIES.get(error.errno, MOUNT)}")


def damaged(path: Path, what: str) -> InputError:
    """That `path`, a split or a file beside it, is not what was written, and `what` is wrong."""
    return InputError(f"{path} is damaged: {what}; run `dvc repro prepare`")
