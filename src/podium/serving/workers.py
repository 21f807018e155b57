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
AGAIN_SECONDS, SLOWEST_SECONDS = 2.0, 60.0
"""Before another try where a worker can't get the model while others answer: at first, and at most."""
LAST_SECONDS = 2.0
"""Time in which a worker may remove its temporary files when it has to end at once."""
SLACK_SECONDS = 60.0
"""Time beyond serve.drain_seconds: a worker waits for its threads, too."""


class Worker:
    """One process, whose standard input is a pipe that closes when this process ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], sockets: Sequence[int]) -> None:
        self._has_model = False
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
        """Whether the worker has a model, or had one before it ended."""
        with suppress(BlockingIOError):  # it has said nothing yet, or a process that it started holds the pipe
            self._has_model = self._has_model or bool(os.read(self._ready, 1))
        return self._has_model

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

    A worker that had its model and ended is replaced; where the new one can't get the model, as from a registry that is
    away, the others go on answering and it is tried again. Raises PodiumError where one can't start and no other has
    the model, SystemExit (128 + the signal) after a second signal, which ends them at once.
    """
    _Supervisor(start, count, drain_seconds).run()


class _Supervisor:
    def __init__(self, start: Callable[[], Worker], count: int, drain_seconds: float) -> None:
        self.start, self.count, self.drain_seconds = start, count, drain_seconds
        self.signals: list[int] = []
        self.workers: list[Worker] = []
        self._pause, self._not_before = AGAIN_SECONDS, 0.0

    def run(self) -> None:
        for number in awaited():
            signal.signal(number, lambda number, _: self.signals.append(number))
        try:
            while not self.signals:
                while self._has_to_start():
                    self.workers.append(self.start())
                time.sleep(POLL_SECONDS)
                for worker in [one for one in self.workers if one.process.poll() is not None]:
                    self._ended(worker)
        finally:
            self._end()
        if len(self.signals) > 1:
            sys.exit(128 + self.signals[1])

    def _has_to_start(self) -> bool:
        return len(self.workers) < self.count and not self.signals and time.monotonic() >= self._not_before

    def _ended(self, worker: Worker) -> None:
        self.workers.remove(worker)
        ready = worker.was_ready()
        worker.close()
        if self.signals:  # it may have reached the worker, too
            return
        if worker.process.returncode and not ready:
            said = (
                f"a worker of the server ended with code {worker.process.returncode} before it had the model: see above"
            )
            if not any(one.was_ready() and one.process.poll() is None for one in self.workers):
                raise PodiumError(said)
            process.print_if_possible(f"podium: {said}; others answer, it is tried again", sys.stderr)
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, SLOWEST_SECONDS)
            return
        self._pause = AGAIN_SECONDS
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
