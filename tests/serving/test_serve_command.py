"""`podium serve` as a process: slow clients, signals, the champion's moves, several workers."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import registered
import tiny
from podium import cli
from podium.config.params import EvaluateParams
from podium.data.dataset import write_split
from podium.registry import versions
from podium.shadow import pair_store, pair_summary
from podium.stages.evaluate import evaluate
from podium.training.prediction import predict_probabilities
from podium.training.trained import TrainedModel
from registered import NAME, Project
from starting import free_port, with_nohup
from waiting import until

pytestmark = pytest.mark.slow


def as_a_service() -> None:
    """For a process that outlives its terminal, and may have few open files."""
    with_nohup()
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))


@contextmanager
def serving(*arguments: str, scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`podium serve` with its temporary files in `scratch`, when it is ready; killed at the end if it still runs."""
    port = free_port()
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "podium.cli", "serve", "--port", str(port), *arguments]
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": str(scratch.absolute())},
            stdout=log,
            stderr=log,
            preexec_fn=as_a_service,
        )
    try:
        while process.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{port}/ping", timeout=60):
                    break
            except OSError:
                time.sleep(0.1)
        assert process.poll() is None, Path("server.log").read_text(encoding="utf-8")
        yield process, port
    finally:
        process.kill()
        process.wait()


def answer_of(connection: HTTPConnection, image: bytes, query: str = "") -> dict[str, Any]:
    connection.request("POST", f"/invocations{query}", image, {"Content-Type": "image/png"})
    response = connection.getresponse()
    content = json.loads(response.read())
    assert response.status == 200, content
    return dict(content["predictions"][0])


def asked_anew(port: int, image: bytes, query: str = "") -> dict[str, Any]:
    """The answer over a connection of its own, which is never idle."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        return answer_of(connection, image, query)


def model_of(connection: HTTPConnection, image: bytes) -> str:
    return str(answer_of(connection, image)["model"])


def serve_params(**params: object) -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text(encoding="utf-8") + f"serve: {json.dumps(params)}\n", encoding="utf-8")


def register_one_that_may_abstain(project: Project) -> int:
    """The version of a model whose threshold `evaluate` has chosen: the labels of the 40 images of which it is least
    sure are wrong."""
    registered.write_model(project, 12)
    about, model = TrainedModel.load(project.path("retrained"))
    replace(about, splits=["train"]).save(project.path("retrained"), model)
    images, labels = tiny.pixels(90, seed=9)
    unsure = predict_probabilities(model, images).max(1).argsort()[:40]
    labels[unsure] = (labels[unsure] + 1) % len(tiny.CLASSES)
    write_split(project.path("prepared") / "val", "val", images, labels, tiny.CLASSES)
    sealed, retrained, evaluated, prepared = map(project.path, ("sealed", "retrained", "evaluated", "prepared"))
    evaluate(EvaluateParams(abstain=0.1), project.store, sealed, retrained, evaluated, prepared=prepared)
    return registered.register(project)


def test_server_outlives_slow_clients_follows_the_champion_and_leaves_nothing(project: Project) -> None:
    serve_params(idle_seconds=1, timeout_seconds=2, follow_seconds=0.2)
    image = registered.reference_images(project.folder)[0]
    cli_run("promote", "1")
    with serving(scratch=Path("scratch")) as (process, port):
        process.send_signal(signal.SIGHUP)
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        for number, one in enumerate(slow):
            one.sendall((b"", b"GET /ping HTTP/1.1\r\nX: ", b"POST /invocations HTTP/1.1\r\n")[number % 3])
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        assert model_of(connection, image) == f"{NAME}/1"
        for one in slow:
            one.settimeout(60)
            assert one.recv(100) == b""  # closed by the server, unanswered
            one.close()
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx")
        half.settimeout(60)
        assert half.recv(100).startswith(b"HTTP/1.1 408")
        half.close()

        stop, seen, problems = threading.Event(), list[str](), list[object]()

        def ask() -> None:
            own = HTTPConnection("127.0.0.1", port, timeout=60)
            while not stop.is_set():
                try:
                    seen.append(model_of(own, image))
                except Exception as error:
                    problems.append(error)
            own.close()

        asking = threading.Thread(target=ask)
        asking.start()
        said = cli_run("promote", "3")
        assert f"server http://127.0.0.1:{port} (" in said
        assert "follows and serves it within seconds" in said
        until(lambda: f"{NAME}/3" in seen)
        cli_run("rollback", "--reason", "try")
        until(lambda: bool(seen) and seen[-1] == f"{NAME}/1")
        stop.set()
        asking.join()
        assert problems == []

        number = register_one_that_may_abstain(project)
        said = cli_run("promote", str(number))
        assert re.search(r"answered error +at most 0.1, p > 0.05 +0.0000 \(0 of ", said), said
        until(lambda: asked_anew(port, image)["model"] == f"{NAME}/{number}")
        threshold = json.loads((project.path("evaluated") / "abstain.json").read_text("utf-8"))["threshold"]
        images = registered.reference_images(project.folder)
        plain = [asked_anew(port, one) for one in images]
        asked = [asked_anew(port, one, "?abstain=true&probabilities=true") for one in images]
        unsure = [one["probability"] < threshold for one in plain]
        assert 0 < sum(unsure) < len(images)
        assert all(one["label"] and "reason" not in one for one in plain)
        assert [one["label"] is None for one in asked] == [one.get("reason") == "unsure" for one in asked] == unsure

        refused = subprocess.run(
            [sys.executable, "-m", "podium.cli", "serve", "--port", str(port)], capture_output=True, check=False
        )
        assert refused.returncode == 2
        assert f"serve.port: {port} of 127.0.0.1 is in use by another process".encode() in refused.stderr

        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "this process may have 300 open files (ulimit -n" in Path("server.log").read_text(encoding="utf-8")
    assert list(Path("scratch").iterdir()) == []
    tags = project.tracking.client.get_registered_model(NAME).tags
    assert [key for key in tags if key.startswith("podium.server.")] == []


def test_health_is_answered_beside_more_silent_connections_than_open_files(project: Project) -> None:
    serve_params(idle_seconds=3600)
    cli_run("promote", "1")
    with serving(scratch=Path("scratch")) as (process, port):
        silent = [socket.create_connection(("127.0.0.1", port))]
        silent[0].sendall(b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert silent[0].recv(1000).startswith(b"HTTP/1.1 200")  # it is there before files are few
        silent += [socket.create_connection(("127.0.0.1", port)) for _ in range(330)]
        for _ in range(3):
            with urlopen(f"http://127.0.0.1:{port}/ping", timeout=300) as answer:  # a twelfth of idle_seconds
                assert answer.status == 200
        silent[0].sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert silent[0].recv(1000).startswith(b"HTTP/1.1 200")  # the first ones may go on
        process.send_signal(signal.SIGTERM)  # while there is no open file
        assert process.wait(60) == 0
        for one in silent:
            one.close()
    said = Path("server.log").read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert said.count("no connection is taken until another ends") <= 1 + said.count("times more in the meantime")


def test_workers_share_a_port_and_end_with_the_one_that_was_killed(project: Project) -> None:
    serve_params(workers=2)
    image = registered.reference_images(project.folder)[0]
    with serving("--pin", "2", "--host", "127.0.0.1", scratch=Path("scratch")) as (process, port):
        log = Path("server.log")

        def answers() -> None:
            connection = HTTPConnection("127.0.0.1", port, timeout=120)
            assert model_of(connection, image) == f"{NAME}/2"
            connection.close()

        answers()  # at once, whichever worker takes it: none accepts before it has the model
        until(lambda: log.read_text(encoding="utf-8").count("version 2 serves") == 2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        os.kill(int(children[0]), signal.SIGKILL)
        until(lambda: "another one is started" in log.read_text(encoding="utf-8"))
        while log.read_text(encoding="utf-8").count("version 2 serves") < 3:
            answers()
        process.kill()
        process.wait()

        def is_free() -> bool:
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                return one.connect_ex(("127.0.0.1", port)) != 0

        until(is_free)
    assert versions.find(project.tracking, NAME, 2).number == 2


def test_workers_end_after_one_signal_and_all_of_them_asked_the_challenger_too(project: Project) -> None:
    serve_params(workers=2)
    images = registered.reference_images(project.folder)[:20]
    with serving("--pin", "2", "--shadow", "3", "--canary", "0.3", scratch=Path("scratch")) as (process, port):
        log = Path("server.log")
        until(lambda: log.read_text(encoding="utf-8").count("version 2 serves") == 2)
        until(lambda: log.read_text(encoding="utf-8").count("version 3 is the challenger now") == 2)
        said = []
        for image in images * 2:  # a connection each: any of the workers takes it
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            said.append(model_of(connection, image))
            connection.close()
        assert said[:20] == said[20:]
        assert set(said) == {f"{NAME}/2", f"{NAME}/3"}
        until(lambda: (2, 3) in pair_summary.every(pair_store.folder(), NAME))
        until(lambda: pair_summary.summary(pair_store.folder(), NAME, 2, 3).images == 40)
        assert pair_summary.summary(pair_store.folder(), NAME, 2, 3).canary == said.count(f"{NAME}/3")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    logged = log.read_text(encoding="utf-8")
    assert logged.count("completing the requests in progress, then ending") == 2
    assert "Fatal" not in logged
    assert "Traceback" not in logged
    assert list(Path("scratch").iterdir()) == []


def cli_run(*arguments: str) -> str:
    """What a command prints; it ends well."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.main(arguments)
    return out.getvalue()
