"""TensorBoard: an event file per run in mlruns/tensorboard, curves and a table of hyperparameters."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from podium.tracking.trackers import TrackedRun, Tracker, metrics_of
from podium.training.epochs import Epoch


class TensorBoard(Tracker):
    """`tensorboard --logdir mlruns/tensorboard` shows it. What it has of a run is written anew when the run goes on."""

    NAME: ClassVar[str] = "tensorboard"

    _open: dict[Path, Any] = PrivateAttr(default_factory=dict)
    """The writers of runs that have not ended."""

    def start(self, run: TrackedRun) -> None:
        """Begin its event file, with its hyperparameters."""
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        run.folder.mkdir(parents=True, exist_ok=True)
        for old in run.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._open[run.folder] = EventFileWriter(str(run.folder))
        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in run.params.items()}
        self._write(run, hparams.hparams_pb(plain, trial_id=f"{run.study} {run.name}"), 0)

    def log(self, run: TrackedRun, values: Mapping[str, float], epoch: int) -> None:
        """A point of each curve."""
        self._write(run, _scalars(values), epoch)

    def end(self, run: TrackedRun, state: str, value: float | None) -> None:
        """The objective beside the hyperparameters; the file is complete."""
        if value is not None:
            self._write(run, _scalars({"objective": value}), 0)
        self._open.pop(run.folder).close()

    def _write(self, run: TrackedRun, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._open[run.folder].add_event(Event(wall_time=time.time(), step=step, summary=summary))


def write(folder: Path, history: Sequence[Epoch], params: Mapping[str, Any]) -> None:
    """The curves of one training, whole, as an event file in `folder`."""
    run, writer = TrackedRun("retrain", "", "retrain", folder, params), TensorBoard()
    writer.start(run)
    for epoch in history:
        writer.log(run, metrics_of(epoch), int(epoch["epoch"]))
    writer.end(run, "COMPLETE", None)


def _scalars(values: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
