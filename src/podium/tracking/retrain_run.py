"""The retraining's run in MLflow: found again after a kill, each epoch logged once; its evaluation is logged there."""

import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from podium.config.params import TrackingParams
from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.private_names import private_or_public
from podium.text import reason_of
from podium.tracking.also import Also
from podium.tracking.histories import histories, newest
from podium.tracking.project_id import project_id
from podium.tracking.recorded_run import RecordedRun, recorded
from podium.tracking.run_names import KIND_TAG, METRICS_A_CALL, PROJECT_TAG, RETRAIN_TAG
from podium.tracking.store import connect, shown
from podium.tracking.trackers import TrackedRun
from podium.training.epochs import Epoch

if TYPE_CHECKING:
    from podium.metrics.classification import Metrics  # with scikit-learn, which the retraining does without

WATCH_EVERY = 2.0
"""Seconds between looks at the machine."""
FOLDER = "evaluation"
"""Where the evaluation's files lie among the run's artifacts."""
RECALLS = 100
"""Up to so many classes the run gets each one's recall: more would bury the other metrics, and a file has them."""


def _nothing() -> None:
    """What ends where nothing has begun."""


@dataclass
class RetrainRun:
    """One run, called `retrain`; that of a single training (`podium train`) is called `train`."""

    run: RecordedRun
    also: Also
    """The other trackers."""
    told: TrackedRun
    """The run, as they know it."""
    logged: set[tuple[str, int]] = field(default_factory=set)
    """Metrics that the run has, by name and step."""

    @staticmethod
    def open(
        params: TrackingParams, name: str, tags: dict[str, str], recipe: Recipe, title: str = "retrain"
    ) -> "RetrainRun":
        """The run of the retraining called `name`, made where there is none."""
        also = Also(params)
        tracking = connect(params)
        own = {RETRAIN_TAG: name, KIND_TAG: title, PROJECT_TAG: project_id()}
        run = RecordedRun.open(tracking, title, own)
        known = tracking.client.get_run(run.run_id)
        fields = {key: str(value) for key, value in recipe.flat().items()}
        run.record.params = fields
        run.log(params={key: value for key, value in fields.items() if key not in known.data.params}, tags=tags)
        run.set_status("RUNNING")
        run.log_images(tags["podium.source"], tags["podium.data_digest"])
        told = TrackedRun(title, "", name, Path(), recipe.flat())
        return RetrainRun(run, also, told, set(histories(tracking, known)))

    @property
    def run_id(self) -> str:
        """The id of the run in MLflow."""
        return self.run.run_id

    @contextmanager
    def watching_the_machine(self) -> Iterator[None]:
        """Log CPU, memory, disk, network and GPU every WATCH_EVERY seconds within the block, as MLflow's own pages
        have them (system/...). A store that is away is let be."""
        logging.getLogger("mlflow.system_metrics.system_metrics_monitor").setLevel(logging.ERROR)
        uri = self.run.tracking.uri

        def started() -> Callable[[], None]:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor: Any = SystemMetricsMonitor(self.run_id, WATCH_EVERY, resume_logging=True, tracking_uri=uri)  # type: ignore[no-untyped-call]
            finish: Callable[[], None] = monitor.finish
            monitor.start()
            return finish

        lost = "the run of the retraining has no system metrics"
        finish = private_or_public("mlflow", lost, started, lambda: _nothing)
        try:
            yield
        finally:
            finish()

    def update(self, history: Sequence[Epoch]) -> None:
        """Log the epochs that the run does not have. A store that is away is asked again at the next one."""
        self.also.tell(self.told, history)
        try:
            self._log(history)
        except MlflowException:
            return

    def leave(self, history: Sequence[Epoch], status: Literal["KILLED", "FAILED"]) -> None:
        """Log what there is and leave the run KILLED or FAILED, until it goes on. A store that is away is let be."""
        self.also.tell(self.told, history, "FAIL" if status == "FAILED" else "")
        self.also.close()
        try:
            self._log(history)
            self.run.set_status(status)
        except MlflowException:
            return

    def finish(self, history: Sequence[Epoch], weights_digest: str, folder: Path) -> None:
        """Log the rest, the history and the profile's summary as artifacts, and end the run."""
        self._log(history)
        self.run.log(tags={"podium.weights_digest": weights_digest})
        for path in sorted(folder.glob("*.csv")) + sorted(folder.glob("*.md")):
            self.run.log_file(path, "retrain")
        self._end(history)

    def end(self, history: Sequence[Epoch]) -> None:
        """Log the rest, and end the run of a single training."""
        self._log(history)
        self._end(history)

    def _end(self, history: Sequence[Epoch]) -> None:
        for epoch in history:  # all of it: an earlier session may have logged the first ones
            for key, value in epoch.items():
                if key != "epoch":
                    self.run.record.metrics.setdefault(key, {})[int(epoch["epoch"])] = value
        self.run.set_status("FINISHED")
        self.also.tell(self.told, history, "COMPLETE")
        self.also.close()

    def _log(self, history: Sequence[Epoch]) -> None:
        client = self.run.tracking.client
        at, metrics = client.get_run(self.run_id).info.start_time, []
        for epoch in history:
            at += int(epoch["seconds"] * 1000)
            step = int(epoch["epoch"])
            metrics += [
                Metric(k, v, at, step) for k, v in epoch.items() if k != "epoch" and (k, step) not in self.logged
            ]
        for start in range(0, len(metrics), METRICS_A_CALL):
            batch = metrics[start : start + METRICS_A_CALL]
            client.log_batch(self.run_id, batch)
            self.logged |= {(m.key, m.step) for m in batch}


def log_evaluation(
    params: TrackingParams,
    run_id: str,
    metrics: "Metrics",
    files: Iterable[Path],
    tags: Mapping[str, str] | None = None,
    obsolete: Sequence[str] = (),
) -> None:
    """Log `metrics`, `files` and `tags` on the run `run_id`, whose status stays; logged again, it stays as it is.

    `obsolete`: names of files that an earlier evaluation may have logged and this one does not have; they are removed,
    or named where the store of artifacts does not do that.
    Raises PodiumError where the store is away or has no such run.
    """
    tracking = connect(params)
    run = recorded(tracking, run_id)
    try:
        known = tracking.client.get_run(run.run_id)
        wanted = metrics.flat() | _recalls(metrics)
        changed = {name: value for name, value in wanted.items() if not _same(known.data.metrics.get(name), value)}
        run.log(newest(tracking, known, changed), tags=tags)
        for path in files:
            run.log_file(path, FOLDER)
        if left := run.remove_files(FOLDER, obsolete):  # last: what is new counts more than what is too much
            print(
                f"podium: {', '.join(left)} of run {run.run_id} are of an earlier evaluation: its store of artifacts"
                " removes none, so remove them there by hand",
                file=sys.stderr,
            )
    except (MlflowException, OSError) as error:
        raise PodiumError(
            f"run {run_id} in {shown(tracking.uri)} can't be given the evaluation: {reason_of(error)}. Run"
            " `dvc repro` again when the store works; if the run was deleted there, run `podium sync` first: it"
            " restores it; if it was made elsewhere, `dvc repro --force --single-item retrain` makes a new one"
        ) from error


def _same(known: float | None, value: float) -> bool:
    return known is not None and math.isclose(known, value, rel_tol=1e-12)


def _recalls(metrics: "Metrics") -> dict[str, float]:
    """recall_<class> of each class that has images; a character that MLflow takes in no name is an underscore."""
    names = [re.sub(r"[^\w. -]", "_", c.name)[:200] for c in metrics.per_class]
    if len(names) > RECALLS:
        return {}
    often = Counter(names)
    unique = [name if often[name] == 1 else f"{name}_{label}" for label, name in enumerate(names)]
    return {f"recall_{name}": c.recall for name, c in zip(unique, metrics.per_class, strict=True) if c.support}
