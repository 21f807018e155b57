"""The stage `search` with its trials on a Ray cluster, as a process of its own."""

import csv
import ipaddress
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from podium import paths
from podium.config.params import TrackingParams
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.tuning.upkeep import studies
from stages.running import Project, end_group
from tuning.ray_cluster import TwoNodes
from waiting import until

pytestmark = pytest.mark.slow
LOCAL = TrackingParams(flush_seconds=0.2)
SPACE = "{train.learning_rate: {low: 1.0e-3, high: 0.1}, train.epochs: {low: 15, high: 30}}"
LONG = f"n_trials: 5\ndefaults_first: false\nspace: {SPACE}"
SLOW = "Ray could not start a cluster on this machine"
LISTEN = "0A"
"""How /proc/net/tcp calls a socket that listens."""


def _params(runtime: str) -> str:
    return tiny.params_yaml(
        LOCAL, LONG, f"engine: ray\ndevice: cpu\ncheckpoint_seconds: 0.1\ncheckpoint_share: 1.0\n{runtime}"
    )


def _has_checkpoint(project: Project) -> bool:
    return any((project.folder / "mlruns" / "checkpoints").rglob("*.ckpt"))


def _assert_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five trials, each ended and each a run of its own."""
    with (project.folder / paths.SEARCH / "trials.csv").open(newline="", encoding="utf-8") as file:
        assert [row["number"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4"]
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    (study,) = studies(project.folder / "mlruns" / "optuna.journal")
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    tracking = connect(LOCAL)
    assert differences(tracking, study) == []
    assert sum(Counter(run.info.status for run in runs_of(tracking, study.study_name)).values()) == 5
    assert not _has_checkpoint(project)


def test_killed_driver_goes_on_where_it_was(
    two_nodes: TwoNodes, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _params(f"address: {two_nodes.address}\ntrial_gpus: 0.5\nworkers: 2")
    project = Project(tmp_path / "project", mlflow_template, params)
    process = project.start("search")
    until(lambda: _has_checkpoint(project), process)
    end_group(process)
    project.run("search")
    assert "was left running and resumes" in project.log("search")
    assert "resumes from epoch" in project.log("search")
    _assert_whole(project, monkeypatch)


OWN = """
from pathlib import Path

from own_layers.head import head

with Path({marks!r}).open("a") as file:
    file.write(__file__ + "\\n")


def net(num_classes: int, in_channels: int):
    return head(in_channels, num_classes)
"""
HEAD = """
from torch import nn


def head(channels: int, classes: int):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, classes))
"""


def test_workers_of_a_cluster_get_the_projects_own_modules(
    two_nodes: TwoNodes, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = f"engine: ray\ndevice: cpu\naddress: {two_nodes.address}\ntrial_gpus: 0.5\nworkers: 1"
    search = "n_trials: 5\nspace: {train.learning_rate: {low: 1.0e-3, high: 0.1, log: true}}"
    params = tiny.params_yaml(LOCAL, search, runtime).replace("{width: 2, hidden: 8}", "{name: 'own_net:net'}")
    project = Project(tmp_path / "project", mlflow_template, params)
    source, marks = project.folder / "src", tmp_path / "imported.txt"
    (source / "own_layers").mkdir(parents=True)
    (source / "own_layers" / "head.py").write_text(HEAD, encoding="utf-8")
    (source / "own_net.py").write_text(OWN.format(marks=str(marks)), encoding="utf-8")
    project.run("search")
    imported = set(marks.read_text(encoding="utf-8").splitlines())
    assert any(not Path(path).is_relative_to(source) for path in imported), "a worker takes the copy that Ray brought"
    _assert_whole(project, monkeypatch)


def test_cluster_of_this_machine_listens_on_loopback_alone_and_ends_with_its_driver(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project", mlflow_template, _params("workers: 1"))
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    process = _patiently(project, lambda process: _has_checkpoint(project))
    members = _group(process.pid)
    assert len(members) > 3  # driver, head, node
    addresses = _listening(members)
    assert addresses
    assert addresses <= {"127.0.0.1", "::1"}, addresses
    assert end_group(process, signal.SIGTERM) == 143
    until(lambda: not any(_lives(pid) for pid in members))
    assert "more saved in the middle; `dvc repro` resumes from here" in project.log("search")
    assert _patiently(project, lambda process: process.poll() == 0).poll() == 0, project.log("search")
    _assert_whole(project, monkeypatch)


def _patiently(project: Project, condition: Callable[["subprocess.Popen[str]"], bool]) -> "subprocess.Popen[str]":
    """A search of which `condition` became true. Ray gives its servers 30 s to start: on a busy machine, try again."""
    for tries in range(1, 11):
        process = project.start("search")
        until(lambda: condition(process) or process.poll() is not None)  # noqa: B023 (called before the next round)
        if condition(process) or project.log("search").count(SLOW) < tries:
            return process
    raise AssertionError(project.log("search"))


def _group(leader: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and _lives(int(path.name)) and os.getsid(int(path.name)) == leader:
            found.add(int(path.name))
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _listening(pids: set[int]) -> set[str]:
    """The addresses on which these processes listen for TCP."""
    sockets: set[str] = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except (FileNotFoundError, ProcessLookupError):  # the second where it ends between open and read
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in sockets:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """/proc/net/tcp's hexadecimal address, as people write it; IPv4 in IPv6 as IPv4."""
    words = bytes.fromhex(text)
    straight = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    address = ipaddress.ip_address(straight)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
