"""What the server costs beyond the model: one image, a batch of 64, and a long load with bad requests among the good.

`podium serve` answers over HTTP what the same registered model answers in this process; wrk asks (Debian: `apt-get
install wrk`). The two take turns, so that a busy moment of the machine hits both, and ratios are reported.

    python benchmarks/serving.py                 writes docs/benchmarks/serving.md; a quarter of an hour
    python benchmarks/serving.py --minutes 0.2   a first look
"""

import argparse
import base64
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import torch

import project
from podium.config.params import ServeParams
from podium.registry import versions
from podium.registry.loading import LoadedModel

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/serving.md"
THREADS = ServeParams().threads
ROUNDS = 15
SINGLE, BATCHES = 40, 6
"""Requests a round."""
LUA = """
local good = io.open("good.json"):read("*a")
local kinds = { io.open("bad-bytes.json"):read("*a"), "{", "{}" }
local asked, threads = 0, {}
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function setup(thread) table.insert(threads, thread) end
function init() ok, refused, other = 0, 0, 0 end
function request()
  asked = asked + 1
  if asked % 20 == 0 then return wrk.format(nil, nil, nil, kinds[asked / 20 % 3 + 1]) end
  return wrk.format(nil, nil, nil, good)
end
function response(status)
  if status == 200 then ok = ok + 1 elseif status >= 400 and status < 500 then refused = refused + 1
  else other = other + 1 end
end
function done(summary, latency)
  local sums = { ok = 0, refused = 0, other = 0 }
  for _, thread in ipairs(threads) do
    for name, sum in pairs(sums) do sums[name] = sum + thread:get(name) end
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('RESULT {"ok": %d, "refused": %d, "other": %d, "lost": %d, "p50": %.2f, "p99": %.2f, ' ..
    '"per_second": %.1f}\\n', sums.ok, sums.refused, sums.other, lost, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, summary.requests / summary.duration * 1000000))
end
"""


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: int

    def memory(self) -> float:
        """Resident memory of the server in MB."""
        text = Path(f"/proc/{self.process}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found
        return int(found[1]) / 1000


@contextmanager
def serving(command: list[str]) -> Iterator[Server]:
    """`command` with a free port at its end, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen([*command, str(port)], env=environment, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            try:
                if _get(port, "/ping") == 200:
                    break
            except OSError:
                time.sleep(0.2)
        assert process.poll() is None, Path("server.log").read_text(encoding="utf-8")
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _get(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().status


def body(files: list[bytes]) -> bytes:
    """A request for `files`."""
    rows = [[base64.b64encode(file).decode()] for file in files]
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()


def asker(server: Server, content: bytes) -> Callable[[], None]:
    """One request over a connection that stays open."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask() -> None:
        connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        assert response.status == 200, said

    return ask


def medians(ways: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median time of each of `ways` in ms, taking turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS + 1):
        for name, way in ways.items():
            for _ in range(times):
                started = time.perf_counter()
                way()
                if round_:  # the first is a warm-up
                    took[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in took.items()}


def load(server: Server, files: list[bytes], minutes: float) -> tuple[dict[str, float], list[float]]:
    """wrk's summary of so many minutes, of which 5 % are bad requests, and the server's memory over them, in MB."""
    Path("good.json").write_bytes(body(files[:1]))
    Path("bad-bytes.json").write_bytes(body([b"no image"]))
    Path("load.lua").write_text(LUA, encoding="utf-8")
    seconds = int(60 * minutes)
    address = f"http://127.0.0.1:{server.port}/invocations"
    command = ["wrk", "-t", "1", "-c", "4", "-d", f"{seconds}s", "--timeout", "30s", "-s", "load.lua", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = []
    while process.poll() is None:
        memory.append(server.memory())
        time.sleep(max(1.0, seconds / 100))
    assert process.stdout
    said = process.stdout.read()
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT ")), memory


def measure(model: LoadedModel, files: list[bytes], minutes: float) -> list[str]:
    """The page's lines."""
    one, many = files[:1], files[:64]
    with serving(["podium", "serve", "--version", "2", "--port"]) as server:
        single = medians({"process": lambda: model.predict(one), "server": asker(server, body(one))}, SINGLE)
        batch = medians({"process": lambda: model.predict(many), "server": asker(server, body(many))}, BATCHES)
        result, memory = load(server, files, minutes)
    tenth = max(1, len(memory) // 10)
    early, late = statistics.median(memory[tenth : 2 * tenth]), statistics.median(memory[-tenth:])
    return [
        "| | in this process | `podium serve` | ratio | to reach |",
        "|---|---|---|---|---|",
        f"| one 28x28 image, median | {single['process']:.2f} ms | {single['server']:.2f} ms |"
        f" {single['server'] / single['process']:.2f} | at most 3 |",
        f"| a batch of 64, images a second | {64000 / batch['process']:,.0f} | {64000 / batch['server']:,.0f} |"
        f" {batch['process'] / batch['server']:.2f} | at least 0.6 |",
        "",
        f"A load of {minutes:g} minutes by wrk, 4 connections, every 20th request bad (no image, no JSON, no rows):",
        "",
        "| answered 200 | answered 4xx | other answers | lost | requests a second | p50 | p99 | memory early | late |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {result['ok']:,} | {result['refused']:,} | {result['other']} | {result['lost']} |"
        f" {result['per_second']:.0f} | {result['p50']:.1f} ms | {result['p99']:.1f} ms |"
        f" {early:.0f} MB | {late:.0f} MB |",
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        torch.set_num_threads(THREADS)
        store = project.make(folder, 300)
        model = versions.load(store, versions.find(store, project.NAME, 2))
        lines = measure(model, project.files(64), arguments.minutes)
        os.chdir(OUT.parents[2])
    head = [
        "# The server beside the model",
        "",
        f"Written by `python benchmarks/serving.py --minutes {arguments.minutes:g}`",
    ]
    text = (
        "\n".join([*head, f"on {os.cpu_count()} cores; one worker, and both sides with {THREADS} thread.", "", *lines])
        + "\n"
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
