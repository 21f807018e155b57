"""MLflow's client, whose calls have done their work when they return, whatever the user has set for his own.

With `mlflow.config.enable_async_logging()` or MLFLOW_ENABLE_ASYNC_LOGGING a call only queues what it is given: a run
would end before its values are there, and an error of the store would be nobody's to try again.
"""

from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag


class SynchronousClient(MlflowClient):
    """A client for the calls that Podium logs with."""

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = True,
    ) -> Any:
        """As MLflow's own."""
        return super().log_batch(run_id, metrics, params, tags, synchronous)

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = True) -> Any:
        """As MLflow's own."""
        return super().set_tag(run_id, key, value, synchronous)
