"""The main function of a worker process. Importing this is what the fork server does once for all workers."""

import json
import multiprocessing
import os
import signal
import threading
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from podium.training import device
from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.pools import cannot_load, unless_broken
from podium.tuning.work import TrialData, run_trial

DRIVER_GONE = 3
"""Exit code of a worker whose driver died."""


def main(pipe: "Connection[Any, Any]", setup: dict[str, Any]) -> None:
    """Train trials as they come through `pipe` until it closes.

    Where this worker is to blame for a trial's end, it reports that it is lost: the pool closes the pipe then.
    """
    pausing = threading.Event()
    _handle_signals(pausing)
    _end_with_the_driver()
    torch.set_num_threads(setup["threads"])
    trial_data: TrialData | None = None

    def report(epoch: Report) -> bool:
        _send(pipe, epoch)
        return bool(_receive(pipe)["go_on"])

    while True:
        task = Task(**_receive(pipe)["task"])
        try:
            trial_data = trial_data or TrialData.load(Path(setup["prepared"]), device.pick(setup["device"]))
        except Exception as error:
            _send(pipe, cannot_load(task, error))
            continue
        ended = run_trial(task, trial_data, report, pausing.is_set, resumed=partial(_send, pipe))
        _send(pipe, unless_broken(ended))


def _send(pipe: "Connection[Any, Any]", message: Report | Resumed | Ended | Lost) -> None:
    try:
        pipe.send_bytes(json.dumps(asdict(message)).encode())
    except (BrokenPipeError, ConnectionResetError):
        os._exit(DRIVER_GONE)


def _receive(pipe: "Connection[Any, Any]") -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # the driver closed the pipe: nothing more to do
    return message


def _handle_signals(pausing: threading.Event) -> None:
    """Ctrl-C reaches the whole group and is the driver's to handle; SIGTERM means: save and stop."""

    def pause(number: int, frame: FrameType | None) -> None:
        pausing.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pause)


def _end_with_the_driver() -> None:
    """A thread that ends this process when the driver's end of a pipe closes, however the driver died."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(DRIVER_GONE)

    threading.Thread(target=watch, name="podium-watch", daemon=True).start()
