"""Several processes that serve on the same sockets, and the one that a person started: it keeps them, and ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from podium import process
from podium.errors import PodiumError

ASKED = (signal.SIGINT, signal.SIGTERM)
SIGNALS = (*ASKED, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
"""What asks a server to answer what is at work and end, or would end it with temporary files left; see `awaited`."""
VARIABLE = "PODIUM_SERVE_READY"
"""Number of the open pipe by which a worker says that it is ready."""
POLL_SECONDS = 0.1
LAST_SECONDS = 2.0
"""Time in which a worker may remove its temporary files when it has to end at once."""
SLACK_SECONDS = 60.0
"""Time beyond serve.drain_seconds: a worker waits for its threads, too."""


class Worker:
    """One process, whose standard input is a pipe that closes when this process ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], sockets: Sequence[int]) -> None:
        self._ready, said = os.pipe()
        os.set_blocking(self._ready, False)
        try:
            self.process = subprocess.Popen(
                command,
                env={**environment, VARIABLE: str(said)},
                pass_fds=[*sockets, said],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches this process, which ends the workers: once
            )
        finally:
            os.close(said)

    def was_ready(self) -> bool:
        """Whether a worker that has ended ever had a model. To be asked once."""
        with suppress(BlockingIOError):  # a process that it started holds the pipe
            return bool(os.read(self._ready, 1))
        return False

    def close(self) -> None:
        """Close the pipes of a worker that has ended."""
        os.close(self._ready)
        if self.process.stdin is not None:
            self.process.stdin.close()


def awaited() -> list[signal.Signals]:
    """SIGNALS, without those that are ignored, as `nohup` has it with SIGHUP: the server outlives its terminal.

    A shell has its background ignore SIGINT, too; but who sends that to a server wants it to end.
    """
    return [one for one in SIGNALS if one in ASKED or signal.getsignal(one) != signal.SIG_IGN]


def shares_sockets() -> bool:
    """Whether this process is a worker whose sockets others accept from, too. To be asked before `tell_ready`."""
    return VARIABLE in os.environ


def tell_ready() -> None:
    """Say to the process that started this worker, if one did, that the model is loaded."""
    number = os.environ.pop(VARIABLE, "")
    if number:
        with suppress(OSError):  # it has gone: this worker will end, too
            os.write(int(number), b"1")
            os.close(int(number))


def supervise(start: Callable[[], Worker], count: int, drain_seconds: float) -> None:
    """Keep `count` workers, each started by `start`, until a signal comes; then let them end.

    A worker that had its model and ended is replaced. Raises PodiumError where one can't start, SystemExit (128 + the
    signal) after a second signal, which ends them at once.
    """
    _Supervisor(start, count, drain_seconds).run()


class _Supervisor:
    def __init__(self, start: Callable[[], Worker], count: int, drain_seconds: float) -> None:
        self.start, self.count, self.drain_seconds = start, count, drain_seconds
        self.signals: list[int] = []
        self.workers: list[Worker] = []

    def run(self) -> None:
        for number in awaited():
            signal.signal(number, lambda number, _: self.signals.append(number))
        try:
            while not self.signals:
                while len(self.workers) < self.count and not self.signals:
                    self.workers.append(self.start())
                time.sleep(POLL_SECONDS)
                for worker in [one for one in self.workers if one.process.poll() is not None]:
                    self._ended(worker)
        finally:
            self._end()
        if len(self.signals) > 1:
            sys.exit(128 + self.signals[1])

    def _ended(self, worker: Worker) -> None:
        self.workers.remove(worker)
        ready = worker.was_ready()
        worker.close()
        if self.signals:  # it may have reached the worker, too
            return
        if worker.process.returncode and not ready:
            code = worker.process.returncode
            raise PodiumError(f"a worker of the server ended with code {code} before it had the model: see above")
        process.print_if_possible("podium: a worker of the server ended; another one is started", sys.stderr)

    def _end(self) -> None:
        """End the workers: they answer what is at work, unless a second signal comes."""
        self._signal()
        self._wait(self.drain_seconds + SLACK_SECONDS, signals=1)
        if len(self.signals) > 1:
            self._signal()  # the second one for them, too
            self._wait(LAST_SECONDS, signals=sys.maxsize)
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait()
            worker.close()

    def _signal(self) -> None:
        for worker in self.workers:
            worker.process.terminate()

    def _wait(self, seconds: float, signals: int) -> None:
        """Until all workers have ended, for at most `seconds` and so many signals."""
        deadline = time.monotonic() + seconds
        while any(worker.process.poll() is None for worker in self.workers):
            if time.monotonic() > deadline or len(self.signals) > signals:
                return
            time.sleep(POLL_SECONDS)
