"""Moves of the champion under load, each by a process of `podium`: for `serving.py`."""

import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from measuring import table

CLIENTS = 4
LONGEST = 60.0
"""Seconds in which a server has to answer by the version that was moved to."""


@dataclass
class Moves:
    """What came of the moves."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)
    """Requests without an answer, with another status than 200, or by a version that is not or no longer champion."""
    took_up: list[float] = field(default_factory=list)
    """Seconds from the end of a move's process to the first answer by the new version; 0: it came before the end."""


class _Client:
    """One client, which asks without a pause."""

    def __init__(self, port: int, body: bytes, found: Moves, lock: threading.Lock) -> None:
        self.port, self.body, self.found, self.lock = port, body, found, lock
        self.last, self.changes = "", 0
        self.thread = threading.Thread(target=self._run)
        self.ended = threading.Event()

    def _run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.ended.is_set():
            try:
                connection.request("POST", "/invocations", self.body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                assert response.status == 200, content[:200]
                model = str(json.loads(content)["predictions"][0]["model"])
            except Exception as error:
                with self.lock:
                    self.found.lost.append(repr(error))
                connection.close()
                continue
            self.changes += model != self.last
            self.last = model
            with self.lock:
                self.found.answered += 1


def move(port: int, body: bytes, name: str, count: int) -> Moves:
    """Move the champion between versions 2 and 1 `count` times, by promotions and rollbacks in turns, under CLIENTS."""
    found, lock = Moves(), threading.Lock()
    clients = [_Client(port, body, found, lock) for _ in range(CLIENTS)]
    for one in clients:
        one.thread.start()
    try:
        for number in range(count):
            _move(found, clients, f"{name}/{2 - number % 2}", number)
    finally:
        for one in clients:
            one.ended.set()
        for one in clients:
            one.thread.join()
    wrong = [one.changes for one in clients if one.changes != count + 1]
    if wrong:  # an answer by the version before, after one by the new version
        found.lost.append(f"clients saw {wrong} changes of the version, not {count + 1}")
    return found


def _move(found: Moves, clients: list[_Client], model: str, number: int) -> None:
    words = ["rollback", "--reason", f"move {number}"]
    if number % 2 == 0:
        words = ["promote", "2", "--force", "--reason", f"move {number}"]
    done = subprocess.run([sys.executable, "-m", "podium.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"podium {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    ended = time.monotonic()
    while any(one.last != model for one in clients):
        if time.monotonic() > ended + LONGEST:
            raise SystemExit(f"{model} does not answer {LONGEST:g} s after move {number}: {[c.last for c in clients]}")
        time.sleep(0.01)
    found.took_up.append(time.monotonic() - ended)


def told(done: Moves, moves: int) -> tuple[str, dict[str, Any]]:
    """What came of the moves: a table, and its content."""
    median, longest = statistics.median(done.took_up), max(done.took_up)
    content = {
        "moves": moves, "answered": done.answered, "lost": len(done.lost), "wrong": sorted(set(done.lost))[:10],
        "took_up_seconds": {"median": median, "longest": longest},
    }  # fmt: skip
    head = ["moves", "requests answered", "lost or wrong", "new version answers after s, median", "longest"]
    row = [moves, f"{done.answered:,}", len(done.lost), f"{median:.2f}", f"{longest:.2f}"]
    return table(head, [row]), content
