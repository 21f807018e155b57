"""The process that keeps the workers of a server, with workers that are as small as they can be."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from starting import with_ctrl_c, with_nohup
from waiting import PATIENCE, until

pytestmark = pytest.mark.slow

SUPERVISOR = """
import os, sys
from podium.process import run
from podium.serving import workers
from podium.serving.workers import Worker, supervise

workers.AGAIN_SECONDS = 0.01
run(lambda: supervise(lambda: Worker([sys.executable, "-c", sys.argv[1]], os.environ, []), 2, 30))
"""
WORKER = """
import os, signal, sys, time
from pathlib import Path
from podium.serving import workers

log = Path("log")

def say(what):
    with log.open("a") as file:
        file.write(what + "\\n")

def second(number, _):
    say("second")
    os._exit(143)

def first(number, _):
    signal.signal(number, second)
    say("first")
    if ENDS:
        sys.exit(0)

signal.signal(signal.SIGTERM, first)
"""


def start(code: str, *, ends: bool = True, nohup: bool = False) -> "subprocess.Popen[bytes]":
    worker = WORKER.replace("ENDS", str(ends)) + textwrap.dedent(code)
    command = [sys.executable, "-c", SUPERVISOR, worker]
    return subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=with_nohup if nohup else with_ctrl_c)


def log() -> list[str]:
    path = Path("log")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def wait_for(what: str, count: int) -> None:
    until(lambda: log().count(what) >= count)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_worker_that_ends_before_it_has_its_model_is_not_tried_again() -> None:
    code = """
    say("started")
    while log.read_text().count("started") < 2:
        time.sleep(0.01)
    sys.exit(3)
    """
    with start(code) as process:
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        assert b"before it had the model: see above" in process.stderr.read()
    assert log().count("started") == 2


def test_worker_that_had_its_model_is_replaced_however_soon_it_ended() -> None:
    code = """
    say("started")
    workers.tell_ready()
    if log.read_text().count("started") <= 3:
        say("ended")
        sys.exit(3)
    say("stays")
    time.sleep(600)
    """
    with start(code) as process:
        wait_for("stays", 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert log().count("first") == 2


def test_workers_that_answer_go_on_where_another_one_can_not_get_the_model_any_more() -> None:
    code = """
    say(f"started by {os.getpid()}")
    number = [line for line in log.read_text().splitlines() if "by" in line].index(f"started by {os.getpid()}") + 1
    if 3 <= number <= 4:  # the registry is away, for a time
        say("fails")
        sys.exit(1)
    workers.tell_ready()
    say("ready")
    while log.read_text().count("ready") < 2:
        time.sleep(0.01)
    if number == 1:
        sys.exit(137)
    time.sleep(600)
    """
    with start(code) as process:
        wait_for("ready", 3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read().count(b"before it had the model: see above; others answer") == 2
    assert log().count("first") == 2


def test_hangup_ends_the_workers_unless_nohup_says_that_they_outlive_the_terminal() -> None:
    ready = "workers.tell_ready(); say('ready')\nwhile True: time.sleep(1)"
    with start(ready) as process:
        wait_for("ready", 2)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 0
    with start(ready, nohup=True) as process:
        wait_for("ready", 4)
        process.send_signal(signal.SIGHUP)  # were it awaited, the next would be the second
        process.send_signal(signal.SIGUSR1)
        assert process.wait(PATIENCE) == 0
    assert log().count("first") == 4


def test_second_signal_ends_workers_that_are_at_work_at_once() -> None:
    with start("workers.tell_ready(); say('ready')\nwhile True: time.sleep(1)", ends=False) as process:
        wait_for("ready", 2)
        process.send_signal(signal.SIGTERM)
        wait_for("first", 2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
    assert log().count("second") == 2
    assert os.environ.get("PODIUM_SERVE_READY") is None
