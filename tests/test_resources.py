import os
from pathlib import Path

import pytest

from podium import resources

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups, in whose /a/b this process is."""
    own = tmp_path / "own"
    own.write_text("12:cpu:/x\n0::/a/b\n", encoding="ascii")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    monkeypatch.setattr(resources, "OWN", own)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("cpu.max", "100000 100000", 1),
        ("a/cpu.max", "50000 100000", 1),
        ("a/b/cpu.max", "150000 100000", min(HERE, 2)),
        ("a/b/cpu.max", "max 100000", HERE),
        ("a/b/cpu.max", "6400000 100000", HERE if HERE <= 64 else 64),
        ("a/b/cpu.max", "nonsense", HERE),
        ("nothing", "", HERE),
    ],
)
def test_cores_are_those_of_the_quota(groups: Path, file: str, content: str, expected: int) -> None:
    (groups / file).write_text(content + "\n", encoding="ascii")
    assert resources.cores() == expected


def test_quota_of_the_first_version_of_control_groups_counts(groups: Path) -> None:
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text("100000\n", encoding="ascii")
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert resources.cores() == 1


@pytest.mark.parametrize(
    ("file", "limit", "expected"),
    [
        ("memory.max", "1048576", 1048576),
        ("a/memory.max", "4096", 4096),
        ("a/memory.high", "8192", 8192),
        ("a/b/memory.high", "max", MACHINE),
        ("a/b/memory.max", "max", MACHINE),
        ("a/b/memory.max", str(10**18), MACHINE),
        ("nothing", "", MACHINE),
    ],
)
def test_memory_is_the_machines_or_the_least_of_its_groups(groups: Path, file: str, limit: str, expected: int) -> None:
    (groups / file).write_text(limit + "\n", encoding="ascii")
    assert resources.memory() == expected


def test_memory_of_the_first_version_of_control_groups_counts(groups: Path) -> None:
    (groups / "memory").mkdir()
    (groups / "memory" / "memory.limit_in_bytes").write_text("2097152\n", encoding="ascii")
    assert resources.memory() == 2097152


@pytest.mark.parametrize(
    ("line", "tree", "at", "quota"),
    [
        ("4:cpu,cpuacct:/slurm/job_1/step_0", "cpu,cpuacct", "slurm/job_1", "50000"),
        ("4:cpuacct,cpu:/slurm/job_1", "cpuacct,cpu", "slurm/job_1", "100000"),
        ("4:cpu:/docker/0a:b", "cpu", "docker/0a:b", "100000"),
        ("4:cpu,cpuacct:/docker/0a", "cpu,cpuacct", "", "100000"),
        ("4:cpu,cpuacct:/slurm/job_1", "cpu", "slurm/job_1", "100000"),
    ],
)
def test_quota_of_a_jobs_group_in_the_first_version_counts(
    groups: Path, line: str, tree: str, at: str, quota: str
) -> None:
    (groups / "own").write_text(f"{line}\n1:name=systemd:/x\n", encoding="ascii")
    folder = groups / tree / at
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n", encoding="ascii")
    (folder / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert resources.cores() == 1


@pytest.mark.parametrize(("at", "expected"), [("slurm/job_1", 4194304), ("slurm", 4194304), ("other", MACHINE)])
def test_memory_of_a_jobs_group_in_the_first_version_counts(groups: Path, at: str, expected: int) -> None:
    (groups / "own").write_text("9:memory:/slurm/job_1\n0::/init.scope\n", encoding="ascii")
    folder = groups / "memory" / at
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("4194304\n", encoding="ascii")
    assert resources.memory() == expected
