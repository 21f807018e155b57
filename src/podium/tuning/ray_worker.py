"""A trial as a task of a Ray cluster: what its process holds for all trials, and its ways to the mailbox."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from podium.data.shared import read_only_arrays, received
from podium.training import device
from podium.tuning.mailbox import Began, Saved, Setup
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.work import Material, run_trial

_materials: dict[str, Material] = {}
"""The images of the search at hand: a process trains one trial after another."""
_pauses: dict[str, threading.Event] = {}
"""Whether a search pauses, by its mailbox."""


def train(task: Task, setup: Setup, content: bytes | None) -> Ended:
    """Train one trial, from the checkpoint `content` where there is one, and return how it ended."""
    if setup.folder:
        os.chdir(setup.folder)  # weights that a network begins with lie in data/
    torch.set_num_threads(setup.threads)
    node = ray.get_runtime_context().get_node_id()
    setup.mailbox.leave.remote(Began(task.number, task.attempt, os.getpid(), socket.gethostname(), node))
    pausing = _pausing(setup.mailbox)
    try:
        material = _material(setup)
    except Exception as error:  # the images can't be loaded: the trial says so, and too many of them end the search
        return Ended(task.number, task.attempt, "failed", reason=f"{type(error).__name__}: {error}")
    if setup.shared:
        return run_trial(task, material, _reporter(setup), pausing.is_set, resumed=setup.mailbox.leave.remote)
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        path = Path(folder) / "trial.ckpt"
        if content is not None:
            path.write_bytes(content)

        def saved() -> None:
            ray.get(setup.mailbox.leave.remote(Saved(task.number, task.attempt, path.read_bytes())))

        here = replace(task, checkpoint=str(path))
        return run_trial(here, material, _reporter(setup), pausing.is_set, saved, setup.mailbox.leave.remote)


def _reporter(setup: Setup) -> Callable[[Report], bool]:
    return lambda report: bool(ray.get(setup.mailbox.report.remote(report)))


def _pausing(mailbox: Any) -> threading.Event:
    """An event that is set when the search of `mailbox` pauses; one call waits for it for all trials of the process."""
    name = str(mailbox)
    if name not in _pauses:
        event = threading.Event()
        mailbox.paused.remote().future().add_done_callback(lambda future: event.set())
        _pauses.clear()
        _pauses[name] = event
    return _pauses[name]


def _material(setup: Setup) -> Material:
    name = str(setup.images)
    if name not in _materials:
        _materials.clear()  # those of an earlier search
        with read_only_arrays():
            _materials[name] = Material.of(*received(setup.images), device.pick(setup.device))
    return _materials[name]
