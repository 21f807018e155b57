"""What the checks of gpu.py are made of: each in a process of its own that is killed when its time is over, a result
that is PASS, FAIL or SKIP with what was measured or why, and the table of all.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

MARK = "gpu-check "
SCRIPT = Path(__file__).with_name("gpu.py")
START = 60.0
"""Seconds that a process may take to begin with its first check: torch is imported, the device is opened."""


@dataclass(frozen=True)
class Options:
    """How the checks are run."""

    device: str
    tiny: bool
    """Small sizes, to see on a CPU that the checks work: their speeds are printed and not judged."""

    @property
    def is_cuda(self) -> bool:
        """Whether a GPU is checked."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Result:
    """What a check found."""

    status: Literal["PASS", "FAIL", "SKIP"]
    found: str
    """What was measured, or why nothing was."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """One claim about the device."""

    number: int
    name: str
    run: Callable[[Options], Result]
    seconds: float
    """It may take so long."""
    cuda: str = ""
    """Why it says nothing on a CPU; empty: it does."""


CHECKS: dict[int, Check] = {}


def check(number: int, name: str, seconds: float, *, cuda: str = "") -> Callable[[Callable[[Options], Result]], None]:
    """Make a function a check."""

    def add(run: Callable[[Options], Result]) -> None:
        CHECKS[number] = Check(number, name, run, seconds, cuda)

    return add


def judged(holds: bool, found: str) -> Result:
    """PASS where it `holds`."""
    return Result("PASS" if holds else "FAIL", found)


def timed(options: Options, holds: bool, found: str) -> Result:
    """A figure of speed: at tiny sizes it is shown, and what is seen is that the check runs."""
    return Result("PASS", f"{found} (tiny: not judged)") if options.tiny else judged(holds, found)


def run_here(numbers: Iterable[int], options: Options) -> None:
    """Run checks in this process, a line before and after each."""
    for number in numbers:
        one = CHECKS[number]
        _say({"begins": number})
        started = time.monotonic()
        if one.cuda and not options.is_cuda:
            result = Result("SKIP", f"needs CUDA: {one.cuda}")
        else:
            try:
                result = one.run(options)
            except Exception as error:
                traceback.print_exc(limit=-4)
                result = Result("FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
        _say({"number": number, "result": asdict(result) | {"seconds": round(time.monotonic() - started, 1)}})


def _say(message: dict[str, object]) -> None:
    print(MARK + json.dumps(message), flush=True)


def run_all(numbers: Sequence[int], options: Options, seconds: float, log: IO[str]) -> dict[int, Result]:
    """Run checks in processes that end with the first check that hangs or kills its process; another one goes on.

    What does not begin within `seconds` is skipped, and says so. What the processes print goes to `log`.
    """
    ends = time.monotonic() + seconds
    found: dict[int, Result] = {}
    while left := [number for number in numbers if number not in found]:
        if ends - time.monotonic() < 1:
            return found | {number: Result("SKIP", f"no time left of {seconds:g} s") for number in left}
        _one_process(left, options, ends, log, found)
    return found


def _one_process(left: list[int], options: Options, ends: float, log: IO[str], found: dict[int, Result]) -> None:
    """Run checks of `left` in one process until it ends or has to be killed; what it found goes into `found`."""
    command = [sys.executable, str(SCRIPT), "--here", *map(str, left), "--device", options.device]
    environment = os.environ | {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        command + (["--tiny"] if options.tiny else []),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,  # so that its workers can be killed with it
    )
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    current, limit = left[0], START
    began = time.monotonic()
    try:
        while True:
            wait = min(began + limit, ends) - time.monotonic()
            try:
                line = lines.get(timeout=max(0.0, wait))
            except queue.Empty:
                spent = time.monotonic() - began
                found[current] = _over_time(limit, spent)
                return
            if line is None:
                if current not in found:
                    found[current] = Result("FAIL", f"its process ended with exit code {child.wait()}; see the log")
                return
            if not line.startswith(MARK):
                log.write(line)
                continue
            message = json.loads(line.removeprefix(MARK))
            if "begins" in message:
                current, began = message["begins"], time.monotonic()
                limit = CHECKS[current].seconds
            else:
                found[message["number"]] = Result(**message["result"])
                _print(message["number"], found)
                if len([number for number in left if number in found]) == len(left):
                    return
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        reader.join()
        if current in found and found[current].status != "PASS":
            _print(current, found)


def _over_time(limit: float, spent: float) -> Result:
    if spent < limit:
        return Result("SKIP", f"the time for all checks was over {spent:.0f} s after it began", round(spent, 1))
    return Result("FAIL", f"not done within its {limit:g} s", round(spent, 1))


def _read(child: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    if child.stdout is not None:
        with child.stdout:
            for line in child.stdout:
                lines.put(line)
    lines.put(None)


_printed: set[int] = set()


def _print(number: int, found: dict[int, Result]) -> None:
    if number not in _printed:
        _printed.add(number)
        print(f"{number:>2} {found[number].status} {CHECKS[number].name}: {found[number].found}", flush=True)


def table(found: dict[int, Result]) -> str:
    """All results as a Markdown table."""
    rows = ["| | check | result | measured | s |", "|---|---|---|---|---|"]
    for number in sorted(found):
        one = found[number]
        text = one.found.replace("|", "/")
        rows.append(f"| {number} | {CHECKS[number].name} | {one.status} | {text} | {one.seconds:g} |")
    return "\n".join(rows)
