"""What the retraining's MLflow run is told of its evaluation: told again, it stays as it is."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.metrics.classification import Metrics
from podium.tracking.store import connect, shown

FOLDER = "evaluation"
"""Where the files lie among the run's artifacts."""
RECALLS = 100
"""Up to so many classes the run gets each one's recall: more would bury the other metrics, and a file has them."""


def tell(params: TrackingParams, run_id: str, metrics: Metrics, files: Iterable[Path]) -> None:
    """Put `metrics` and `files` on the run `run_id`; its status stays.

    Raises PodiumError where the store is away or has no such run.
    """
    tracking = connect(params)
    try:
        known = tracking.client.get_run(run_id).data.metrics
        now = int(time.time() * 1000)
        wanted = metrics.flat() | _recalls(metrics)
        new = [Metric(name, value, now, 0) for name, value in wanted.items() if not _same(known.get(name), value)]
        tracking.client.log_batch(run_id, new)
        for path in files:
            tracking.client.log_artifact(run_id, str(path), FOLDER)
    except (MlflowException, OSError) as error:
        raise PodiumError(
            f"run {run_id} in {shown(tracking.uri)} can't be told of the evaluation: {error}. Run `dvc repro` again"
            " when the store works; if it has lost the run, `dvc repro --force --single-item retrain` makes a new one"
        ) from error


def _same(known: float | None, value: float) -> bool:
    return known is not None and math.isclose(known, value, rel_tol=1e-12)


def _recalls(metrics: Metrics) -> dict[str, float]:
    """recall_<class> of each class that has images; a character that MLflow takes in no name is an underscore."""
    names = [re.sub(r"[^\w. -]", "_", c.name)[:200] for c in metrics.per_class]
    if len(names) > RECALLS:
        return {}
    often = Counter(names)
    unique = [name if often[name] == 1 else f"{name}_{label}" for label, name in enumerate(names)]
    return {f"recall_{name}": c.recall for name, c in zip(unique, metrics.per_class, strict=True) if c.support}
