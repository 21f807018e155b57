"""The retraining's run in MLflow: found again after a kill, each epoch logged once."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from podium.config.params import TrackingParams
from podium.config.recipe import Recipe
from podium.tracking.record import KIND_TAG, METRICS_A_CALL, RETRAIN_TAG
from podium.tracking.run_input import log_images
from podium.tracking.store import Tracking, connect
from podium.tracking.trial_logger import find_or_create, histories
from podium.training.history import Epoch

WATCH_EVERY = 2.0
"""Seconds between looks at the machine."""


@dataclass
class RetrainRun:
    """One run, called `retrain`."""

    tracking: Tracking
    run_id: str
    logged: set[tuple[str, int]] = field(default_factory=set)
    """Metrics that the run has, by name and step."""

    @staticmethod
    def open(params: TrackingParams, name: str, tags: dict[str, str], recipe: Recipe) -> "RetrainRun":
        """The run of the retraining called `name`, made where there is none."""
        tracking = connect(params)
        run_id = find_or_create(tracking, "retrain", {RETRAIN_TAG: name, KIND_TAG: "retrain"})
        run = tracking.client.get_run(run_id)
        absent = [Param(k, str(v)) for k, v in recipe.flat().items() if k not in run.data.params]
        tracking.client.log_batch(run_id, params=absent, tags=[RunTag(k, v) for k, v in tags.items()])
        tracking.client.update_run(run_id, status="RUNNING")
        log_images(tracking, run_id, tags["podium.source"], tags["podium.data_digest"])
        return RetrainRun(tracking, run_id, set(histories(tracking, run)))

    @contextmanager
    def watching_the_machine(self) -> Iterator[None]:
        """Log CPU, memory, disk, network and GPU every WATCH_EVERY seconds within the block, as MLflow's own pages
        have them (system/...). A store that is away is let be."""
        logging.getLogger("mlflow.system_metrics.system_metrics_monitor").setLevel(logging.ERROR)
        uri = self.tracking.uri
        monitor = SystemMetricsMonitor(self.run_id, WATCH_EVERY, resume_logging=True, tracking_uri=uri)  # type: ignore[no-untyped-call]
        monitor.start()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            monitor.finish()  # type: ignore[no-untyped-call]

    def update(self, history: Sequence[Epoch]) -> None:
        """Log the epochs that the run does not have. A store that is away is asked again at the next one."""
        try:
            self._log(history)
        except MlflowException:
            return

    def leave(self, history: Sequence[Epoch], status: Literal["KILLED", "FAILED"]) -> None:
        """Log what there is and leave the run KILLED or FAILED, until it goes on. A store that is away is let be."""
        try:
            self._log(history)
            self.tracking.client.set_terminated(self.run_id, status)
        except MlflowException:
            return

    def finish(self, history: Sequence[Epoch], weights_digest: str, folder: Path) -> None:
        """Log the rest, the history and the profile's summary as artifacts, and end the run."""
        self._log(history)
        self.tracking.client.set_tag(self.run_id, "podium.weights_digest", weights_digest)
        for path in sorted(folder.glob("*.csv")) + sorted(folder.glob("*.md")):
            self.tracking.client.log_artifact(self.run_id, str(path), "retrain")
        self.tracking.client.set_terminated(self.run_id, "FINISHED")

    def _log(self, history: Sequence[Epoch]) -> None:
        run = self.tracking.client.get_run(self.run_id)
        at, metrics = run.info.start_time, []
        for epoch in history:
            at += int(epoch["seconds"] * 1000)
            step = int(epoch["epoch"])
            metrics += [
                Metric(k, v, at, step) for k, v in epoch.items() if k != "epoch" and (k, step) not in self.logged
            ]
        for start in range(0, len(metrics), METRICS_A_CALL):
            batch = metrics[start : start + METRICS_A_CALL]
            self.tracking.client.log_batch(self.run_id, batch)
            self.logged |= {(m.key, m.step) for m in batch}
