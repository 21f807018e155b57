"""The images that a run was given, as MLflow's pages show them: beside the run's name, with their digest."""

import json

from mlflow.entities import Dataset, DatasetInput, InputTag

from podium import paths
from podium.tracking.store import Tracking

DIGEST = 32
"""Characters of the digest: MLflow's database has room for 36. The tag podium.data_digest holds it whole."""


def log_images(tracking: Tracking, run_id: str, source: str, digest: str) -> None:
    """Log the prepared images of `source` as an input of the run; a second time changes nothing."""
    where = json.dumps({"uri": paths.PREPARED.as_posix()})
    images = Dataset(name=source, digest=digest[:DIGEST], source_type="local", source=where)
    context = [InputTag("mlflow.data.context", "training")]
    tracking.client.log_inputs(run_id, [DatasetInput(images, context)])
