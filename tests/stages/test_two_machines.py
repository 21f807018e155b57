"""The stage `search` on a Ray cluster of two machines, as far as one can be two: network namespaces and a cable.

The cable is pulled in the middle. The trials on the far machine go on at the near one; when the cable is back, what
the far one still has to say is void.
"""

import csv
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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
from waiting import until

NEAR, FAR = (f"podium-{where}-{os.getpid()}" for where in ("near", "far"))
ADDRESSES = {NEAR: "10.79.13.1", FAR: "10.79.13.2"}
STORE = 80 * 2**20
TRIALS = 4
SPACE = "{train.learning_rate: {low: 1.0e-3, high: 0.1}, train.epochs: {low: 200, high: 300}}"
LONG = f"n_trials: {TRIALS}\ndefaults_first: false\nspace: {SPACE}"
LOCAL = TrackingParams(flush_seconds=0.2)
SOON = {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "1000"}
SOON |= {"RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3"}
"""A node counts as gone after some seconds instead of Ray's minute."""

pytestmark = pytest.mark.slow


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _in(machine: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", machine)


@pytest.fixture
def cable() -> Iterator[None]:
    """Two network namespaces with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    try:
        for machine in ADDRESSES:
            _ip(f"netns add {machine}")
        _ip(f"link add near netns {NEAR} type veth peer name far netns {FAR}")
        for machine, link in ((NEAR, "near"), (FAR, "far")):
            _ip(f"-n {machine} addr add {ADDRESSES[machine]}/24 dev {link}")
            for name in (link, "lo"):
                _ip(f"-n {machine} link set {name} up")
        yield
    finally:
        for machine in ADDRESSES:
            pids = subprocess.run(["ip", "netns", "pids", machine], check=False, capture_output=True, text=True).stdout
            subprocess.run(["kill", "-9", *pids.split()], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", machine], check=False, capture_output=True)


@pytest.fixture
def head(cable: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster with a node on each machine."""
    for name, value in {**SOON, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)  # what a local cluster of this process set
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--disable-usage-stats"]
    ray += ["--num-cpus=1", f"--object-store-memory={STORE}"]
    address = f"{ADDRESSES[NEAR]}:6379"
    nodes = {NEAR: ["--head", "--port=6379", "--include-dashboard=false"], FAR: [f"--address={address}"]}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # short: it holds sockets
        nodes[NEAR] += [f"--temp-dir={folder}"]
        for machine, words in nodes.items():
            command = [*_in(machine), *ray, f"--node-ip-address={ADDRESSES[machine]}", *words]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        yield address


def test_pulled_cable_costs_no_trial(
    head: str, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = f"engine: ray\naddress: {head}\ndevice: cpu\ncheckpoint_seconds: 0.1\ncheckpoint_share: 1.0"
    project = Project(tmp_path / "project", mlflow_template, tiny.params_yaml(LOCAL, LONG, runtime))
    process = project.start("search", within=_in(NEAR))
    try:
        until(lambda: len(list((project.folder / "mlruns/checkpoints").rglob("*.ckpt"))) == 2, process)
        pulled = time.monotonic()
        _ip(f"-n {NEAR} link set near down")
        until(lambda: "its node is gone" in project.log("search"), process)
        print(f"the far machine's trial was handed out again after {time.monotonic() - pulled:.1f} s")
        _ip(f"-n {NEAR} link set near up")
        until(lambda: process.poll() is not None)
        assert process.returncode == 0, project.log("search")
    finally:
        end_group(process)
    with (project.folder / paths.SEARCH / "trials.csv").open(newline="", encoding="utf-8") as file:
        assert [row["number"] for row in csv.DictReader(file)] == [str(number) for number in range(TRIALS)]
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    (study,) = studies(project.folder / "mlruns" / "optuna.journal")
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    assert "resumes from epoch" in project.log("search")
    tracking = connect(LOCAL)
    assert differences(tracking, study) == []
    assert len(runs_of(tracking, study.study_name)) == TRIALS
