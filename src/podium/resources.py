"""What this process may use of its machine: cores and memory, also where a container or a service limits them.

Linux limits by control groups (kernel documentation, cgroup-v2.rst and sched-bwc.rst): a quota of processor time and a
number of bytes, each for a group and for all groups above it.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
"""Where the kernel shows the groups; a container sees its own group here."""
OWN = Path("/proc/self/cgroup")
"""In which groups this process is."""


def cores() -> int:
    """Cores that this process may use: by affinity, and by the quota of its control groups, rounded up."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([here, *(math.ceil(quota) for quota in _quotas())]))


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or the least that its control groups have.

    Above memory.high (MemoryHigh of systemd) a group is not ended, but slowed down until hardly anything goes on.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_read(group / name) for group in _groups() for name in ("memory.max", "memory.high")]
    limits += [_read(group / "memory.limit_in_bytes") for group in _old_groups("memory")]
    return min([machine, *(int(limit) for limit in limits if limit.isdecimal())])


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each group has, where it is limited."""
    for group in _groups():
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)
    for group in _old_groups("cpu"):
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def _groups() -> list[Path]:
    """The folders of this process's group and of those above it."""
    return _with_those_above(ROOT, next((path for kinds, path in _own() if not kinds), ""))


def _old_groups(kind: str) -> list[Path]:
    """The same in the first version of control groups, where each kind of limit has a tree of its own: of a batch
    system's job the limit is deep in it.
    """
    found = [(kinds, path) for kinds, path in _own() if kind in kinds.split(",")] or [(kind, "")]
    roots = [ROOT / name for name in dict.fromkeys([kind, *(kinds for kinds, _ in found), f"{kind},{kind}acct"])]
    return [group for root in roots for group in _with_those_above(root, found[0][1])]


def _own() -> list[tuple[str, str]]:
    """Kinds of limits and path of each group of this process; the second version names no kind (cgroups(7))."""
    lines = (line.split(":", 2) for line in _read(OWN).splitlines())
    return [(line[1], line[2]) for line in lines if len(line) == 3]


def _with_those_above(root: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:length]) for length in range(len(parts) + 1)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
