"""What the server costs beyond the model: one image, a batch of 64, many small requests, and a load with bad clients.

`podium serve` beside the same registered model in this process, behind MLflow's own server and, with --peers, behind
LitServe and BentoML. One image and batches are asked in turns, so that a busy moment of the machine hits all; ratios
are reported, and the time of processors, on which a busy machine has the least effect.

    python benchmarks/serving.py                    10 minutes of load
    python benchmarks/serving.py --seconds 60       a minute
    python benchmarks/serving.py --peers PYTHON     a Python that has litserve, bentoml and the packages of the model
    python benchmarks/serving.py --part peers       only the comparison; load, moves: the load, or moves of the champion

Each part writes docs/benchmarks/serving_PART.json, so each can run by itself, unattended on a quiet machine:

    nohup python benchmarks/serving.py --part moves --moves 100 > moves.log 2>&1 &
"""

import argparse
import base64
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

import project
import serving_moves
from measuring import parser, publish, table
from podium.config.params import ServeParams
from podium.registry import versions
from podium.registry.loading import LoadedModel
from podium.serving.freed_memory import keep_freed_memory

THREADS = ServeParams().threads
ROUNDS, SINGLE, BATCHES = 15, 40, 6
"""Rounds of turns, and requests of each kind in a turn."""
CLIENTS, SLOW = 16, 50
"""Of many small requests; and silent or slow ones beside the load."""
PEERS = Path(__file__).parent / "peers"
ALIVE = {"LitServe": "/health", "BentoML": "/readyz"}
"""Where a server says that it is ready; /ping for the others."""
JSON = "application/json"


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    process: int

    def memory(self) -> float:
        """Resident memory of its processes, in MB."""
        main = psutil.Process(self.process)
        total = 0.0
        for one in [main, *main.children(recursive=True)]:
            with suppress(psutil.Error):
                total += one.memory_info().rss / 1e6
        return total

    def processor(self) -> float:
        """Seconds of processors that its processes have used."""
        main = psutil.Process(self.process)
        total = 0.0
        for one in [main, *main.children(recursive=True)]:
            with suppress(psutil.Error):
                used = one.cpu_times()
                total += used.user + used.system
        return total


@dataclass(frozen=True)
class Way:
    """Something that answers, in turns with others."""

    ask: Callable[[], object]
    processor: Callable[[], float]
    """Seconds of processors that what answers has used."""


@contextmanager
def serving(name: str, command: list[str]) -> Iterator[Server]:
    """`command` with PORT in its words replaced, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db", "OMP_NUM_THREADS": str(THREADS)}
    log = Path(f"{name.split()[0]}.log")
    with log.open("wb") as output:
        words = [word.replace("PORT", str(port)) for word in command]
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
    try:
        while process.poll() is None:
            with suppress(OSError):
                if _status(port, "GET", ALIVE.get(name, "/ping")) == 200:
                    break
            time.sleep(0.2)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield Server(name, port, process.pid)
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(60)
        for one in below:
            with suppress(psutil.Error):
                one.kill()


def _status(port: int, method: str, path: str, body: bytes = b"", kind: str = JSON) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body or None, {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def records(files: list[bytes]) -> bytes:
    """A request for `files`."""
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(file).decode()} for file in files]}).encode()


def asker(server: Server, content: bytes, kind: str = JSON) -> Callable[[], None]:
    """One request over a connection that stays open."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask() -> None:
        try:
            connection.request("POST", "/invocations", content, {"Content-Type": kind})
            response = connection.getresponse()
        except ConnectionError:  # the server has closed it between two turns
            connection.close()
            connection.request("POST", "/invocations", content, {"Content-Type": kind})
            response = connection.getresponse()
        said = response.read()
        assert response.status == 200, said

    return ask


def in_turns(ways: dict[str, Way], times: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Of each of `ways`, which take turns: the median time in ms, and the mean of its processors' time in ms."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, float] = dict.fromkeys(ways, 0.0)
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            before = way.processor()
            for _ in range(times):
                started = time.perf_counter()
                way.ask()
                if round_:  # the first is a warm-up
                    took[name].append(1000 * (time.perf_counter() - started))
            used[name] += (way.processor() - before) * bool(round_)
    return (
        {name: statistics.median(values) for name, values in took.items()},
        {name: 1000 * seconds / (times * rounds) for name, seconds in used.items()},
    )


def many(server: Server, content: bytes, seconds: float) -> float:
    """Requests a second of CLIENTS clients, each over a connection of its own."""
    done = [0] * CLIENTS
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        ask = asker(server, content)
        while time.monotonic() < end:
            ask()
            done[number] += 1

    started = time.monotonic()
    _together([threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)])
    return sum(done) / (time.monotonic() - started)


def _together(threads: list[threading.Thread]) -> None:
    for one in threads:
        one.start()
    for one in threads:
        one.join()


@dataclass
class Load:
    """What came of a load."""

    took: list[float] = field(default_factory=list)
    """Seconds of good requests that were answered."""
    refused: int = 0
    """Bad requests that got a status of 400 to 499."""
    wrong: list[str] = field(default_factory=list)
    """Good requests that were lost, and bad ones that got anything else."""
    memory: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Of the good requests, in ms."""
        return 1000 * sorted(self.took)[int(share * (len(self.took) - 1))]


def bomb() -> bytes:
    """A small file of 64 million pixels of 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8000, 8000), np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def load(server: Server, file: bytes, seconds: float) -> Load:
    """Four clients, every 20th of whose requests is bad, SLOW slow ones, and a bomb each second."""
    found, end = Load(), time.monotonic() + seconds
    good, large = records([file]), bomb()
    rubbish = [(records([b"no image"]), JSON), (b"{", JSON), (b"[" * 50_000, JSON), (b"x", "text/csv")]

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        for number in count(1):
            if time.monotonic() > end:
                return
            body, kind = (good, JSON) if number % 20 else rubbish[number // 20 % len(rubbish)]
            started = time.perf_counter()
            try:
                connection.request("POST", "/invocations", body, {"Content-Type": kind})
                response = connection.getresponse()
                response.read()
            except Exception as error:
                found.wrong.append(repr(error))
                connection.close()
                continue
            if number % 20 == 0:
                found.refused += 400 <= response.status < 500
            if number % 20 and response.status == 200:
                found.took.append(time.perf_counter() - started)
            elif number % 20 or not 400 <= response.status < 500:
                found.wrong.append(str(response.status))

    def slow(number: int) -> None:
        starts = (
            b"",
            b"GET /ping HTTP/1.1\r\nX: ",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        )
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 60) as one:
                one.sendall(starts[number % 3])
                one.settimeout(2)
                while time.monotonic() < end:
                    try:
                        if not one.recv(1000):
                            break
                    except TimeoutError:
                        one.sendall(b"a" if number % 3 else b"")

    def watch() -> None:
        while time.monotonic() < end:
            started = time.monotonic()
            status = _status(server.port, "POST", "/invocations", large, "image/png")
            if status != 413:
                found.wrong.append(f"a bomb got {status}")
            if _status(server.port, "GET", "/ping") != 200:
                found.wrong.append("a health check failed")
            found.memory.append(server.memory())
            time.sleep(max(0.0, 1 - (time.monotonic() - started)))

    threads = [threading.Thread(target=client) for _ in range(4)] + [threading.Thread(target=watch)]
    _together(threads + [threading.Thread(target=slow, args=(number,)) for number in range(SLOW)])
    return found


def contenders(stack: ExitStack, folder: Path, pythons: dict[str, str]) -> list[Server]:
    """The servers, all started."""
    commands = {"podium serve": ["podium", "serve", "--pin", "2", "--port", "PORT"]}
    plain = ["mlflow", "models", "serve", "-m", f"models:/{project.NAME}/2", "--env-manager", "local"]
    commands["MLflow's server"] = [*plain, "--host", "127.0.0.1", "--port", "PORT"]
    for name, python in pythons.items():
        commands[name] = [python, str(PEERS / f"{name.lower()}_model.py"), str(folder), "PORT"]
    return [stack.enter_context(serving(name, command)) for name, command in commands.items()]


def measure(model: LoadedModel, files: list[bytes], servers: list[Server], rounds: int, seconds: float) -> list[Any]:
    """Rows of the table: who, ms of one image, images a second in batches, small requests a second."""
    one, batch = records(files[:1]), records(files)
    name = "the model in this process"
    ways = {name: Way(lambda: model.predict(files[:1]), time.process_time)}
    ways |= {server.name: Way(asker(server, one), server.processor) for server in servers}
    body = asker(servers[0], files[0], "image/png")
    ways["podium serve, image as the body"] = Way(body, servers[0].processor)
    single, single_used = in_turns(ways, SINGLE, rounds)
    ways = {name: Way(lambda: model.predict(files), time.process_time)}
    ways |= {server.name: Way(asker(server, batch), server.processor) for server in servers}
    batches, batches_used = in_turns(ways, BATCHES, rounds)
    small = {server.name: many(server, one, seconds) for server in servers}
    own, whole, whole_name = single[name], batches[name], name
    rows = []
    for name, took in single.items():
        row = [name, f"{took:.2f} ({took / own:.2f})", f"{single_used[name]:.2f}"]
        row += [f"{64_000 / batches[name]:,.0f} ({whole / batches[name]:.2f})"] if name in batches else ["-"]
        used = batches_used.get(name, 0.0)
        row += [f"{used / 64:.2f} ({batches_used[whole_name] / used:.2f})"] if name in batches else ["-"]
        rows.append([*row, f"{small[name]:,.0f}" if name in small else "-"])
    return rows


def told(done: Load, seconds: float) -> tuple[str, dict[str, Any]]:
    """What came of the load: a table, and its content."""
    tenth = max(1, len(done.memory) // 10)
    early, late = statistics.median(done.memory[tenth : 2 * tenth]), statistics.median(done.memory[-tenth:])
    p50, p99 = done.quantile(0.5), done.quantile(0.99)
    content = {
        "seconds": seconds, "answered": len(done.took), "refused": done.refused, "lost": len(done.wrong),
        "wrong": sorted(set(done.wrong))[:10], "p50_ms": p50, "p99_ms": p99, "p99_of_p50": p99 / p50,
        "memory_mb": {"early": early, "late": late, "most": max(done.memory)},
    }  # fmt: skip
    head = ["good answered", "bad refused", "lost or wrong", "p50 ms", "p99 ms (of p50)", "MB early", "late", "most"]
    row = [f"{len(done.took):,}", f"{done.refused:,}", len(done.wrong), f"{p50:.1f}", f"{p99:.1f} ({p99 / p50:.1f})"]
    what = f"Load of {seconds:g} s: 4 clients, 5 % rubbish, {SLOW} slow clients, a memory bomb each second."
    memory = [f"{one:.0f}" for one in (early, late, max(done.memory))]
    wrong = [f"Lost or wrong: {content['wrong']}"] if done.wrong else []
    return "\n\n".join([what, table(head, [[*row, *memory]]), *wrong]), content


def part_peers(store: Any, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """One image, batches and many small requests, beside others."""
    pythons = dict.fromkeys(ALIVE, given.peers) if given.peers else {}
    rounds, seconds = (2, 5.0) if given.quick else (ROUNDS, 10.0)
    model = versions.load(store, versions.find(store, project.NAME, 2))
    folder = Path(store.client.get_model_version_download_uri(project.NAME, "2").removeprefix("file://"))
    with ExitStack() as stack:
        rows = measure(model, project.files(64), contenders(stack, folder, pythons), rounds, seconds)
    head = ["", "one image, ms (ratio)", "its processor ms", "batches of 64, images/s (ratio)"]
    head += ["processor ms an image (ratio)", f"requests/s of {CLIENTS} clients"]
    return table(head, rows), {"rows": rows}


def part_load(_: Any, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The load with bad clients."""
    seconds = 10.0 if given.quick else given.seconds
    with serving("podium serve", ["podium", "serve", "--pin", "2", "--port", "PORT"]) as server:
        return told(load(server, project.files(1)[0], seconds), seconds)


def part_moves(_: Any, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Moves of the champion under load, each by a process of its own."""
    count = 4 if given.quick else given.moves
    first = [sys.executable, "-m", "podium.cli", "promote", "1", "--force", "--reason", "the first"]
    subprocess.run(first, check=True, capture_output=True)
    with serving("podium serve", ["podium", "serve", "--port", "PORT"]) as server:
        return serving_moves.told(
            serving_moves.move(server.port, records(project.files(1)), project.NAME, count), count
        )


PARTS = {"peers": part_peers, "load": part_load, "moves": part_moves}


def main() -> None:
    """Measure and publish."""
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=600, help="of load")
    arguments.add_argument("--moves", type=int, default=100, help="of the champion")
    arguments.add_argument("--peers", default="", metavar="PYTHON", help="a Python that has litserve and bentoml")
    arguments.add_argument("--part", choices=("all", *PARTS), default="all")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        os.chdir(scratch)
        stack.callback(os.chdir, "/")
        torch.set_num_threads(THREADS)
        keep_freed_memory()  # as the server does: else the model in this process may take a quarter longer
        store = project.make(Path(scratch), 300)
        for name in PARTS if given.part == "all" else [given.part]:
            before = os.getloadavg()[0]
            text, content = PARTS[name](store, given)
            machine = f"Load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after."
            publish(f"serving_{name}", f"{text}\n\n{machine}", content, quick=given.quick)


if __name__ == "__main__":
    main()
