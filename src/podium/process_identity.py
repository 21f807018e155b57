"""Which process wrote something that outlives it, and whether that process has ended.

A number alone does not say: it is given again, after a restart of the machine too, and every container counts its own.
"""

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
IDENTITY = re.compile(
    r"(?P<machine>[0-9a-f-]{36} \d{1,20} \S{1,255}) (?P<process>[1-9]\d{0,9}) (?P<start>\d{1,20})", re.ASCII
)
STATE, START = 0, 19
"""Fields of /proc/PID/stat behind the name of the program, which may hold blanks (proc(5))."""


def own() -> str:
    """What tells this process from all others of any machine; empty where the system does not say (it is no Linux)."""
    try:
        return f"{_machine()} {os.getpid()} {_stat(os.getpid())[START]}"
    except (OSError, IndexError):
        return ""


def has_ended(identity: str) -> bool:
    """Whether the process of `identity` is known to have ended.

    Of another machine or container, or where `identity` says nothing, that is not known: False.
    """
    said = IDENTITY.fullmatch(identity)
    try:
        if said is None or said["machine"] != _machine():
            return False
        with suppress(PermissionError):  # another user's
            os.kill(int(said["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    try:
        stat = _stat(int(said["process"]))
    except OSError:  # its entry is hidden from this user, or has just gone: the next look tells
        return False
    return stat[STATE] in "ZX" or stat[START] != said["start"]  # a zombie, or another one with its number


def is_gone(process: int) -> bool:
    """Whether the process with this number has ended: here, not on another machine or in another container.

    One that nobody has collected has: the first process of a container may collect none. False where that is not known.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        return False
    try:
        return _stat(process)[STATE] in "ZX"
    except OSError:
        return False


def _machine() -> str:
    """This start of this machine, the container within it, and what they are called. Raises OSError."""
    boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    numbers = (PROC / "self/ns/pid").stat().st_ino
    return f"{boot} {numbers} {socket.gethostname()}"


def _stat(process: int) -> list[str]:
    return (PROC / f"{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
