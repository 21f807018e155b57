"""One call of git, which ends: a key may have a passphrase, a hook may hang, and nobody may be there."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from podium.errors import PodiumError, RefusedError
from podium.text import one_line

PATIENCE = 120.0
"""Seconds in which a person may type a passphrase."""
ALONE = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
"""No tag is worth a password for a remote: commits that are not here are not fetched."""


class UnansweredError(RefusedError):
    """Git did not end in time."""


def run(root: Path, *arguments: str, stdin: str) -> bytes:
    """What git prints in `root`. Raises PodiumError with what it says where it fails, UnansweredError."""
    try:
        process = subprocess.Popen(
            ["git", *arguments],
            cwd=root,
            env=os.environ | ALONE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise PodiumError(f"git can't be run ({error.strerror})") from None
    with process:
        try:
            out, errors = process.communicate(stdin.encode(), PATIENCE)
        except subprocess.TimeoutExpired as expired:
            if process.poll() is None:
                raise UnansweredError(
                    f"`git {_shown(arguments)}` did not end within {PATIENCE:g} s. Does a key wait for its passphrase?"
                    " Unlock that in an agent first (`git tag -s` must work without a question), or see which hook of"
                    " git hangs"
                ) from None
            # Git has ended; something that a hook left behind keeps its output open.
            out, errors = expired.output or b"", expired.stderr or b""
        finally:
            _end(process)
    if process.returncode:
        said = one_line(" ".join(errors.decode(errors="replace").split()))[:300]
        raise PodiumError(said or f"`git {_shown(arguments)}` ended with code {process.returncode}")
    return out


def _shown(arguments: tuple[str, ...]) -> str:
    return next(one for one in arguments if one.isascii() and one.replace("-", "").isalpha() and one[0] != "-")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End git, and then what it has started, if they are still there: what asks for a passphrase restores the terminal.

    Git first: it takes a signing program that was ended for one that has signed, and writes the tag (2.39).
    """
    if process.poll() is not None:
        return
    with suppress(psutil.Error):
        git = psutil.Process(process.pid)
        started = git.children(recursive=True)
        _end_all([git])
        _end_all(started)


def _end_all(family: list[psutil.Process]) -> None:
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for one in family:
            with suppress(psutil.Error):
                end(one)
        _, family = psutil.wait_procs(family, timeout=2)
