"""What the parent run of a search is told when the pipeline has come to its end."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.tracking.store import connect, shown

REPORT, FIGURES = "report", "figures"
"""Where the page and the pictures lie among the run's artifacts."""


def keep_report(params: TrackingParams, run_id: str, report: Path, pictures: Sequence[Path], note: str) -> None:
    """Put the page `report` and the `pictures` among the artifacts of the run `run_id`, and `note` on its page.

    A store that does not have that run (the search ran elsewhere) is said and let be. Raises PodiumError where the
    store is away.
    """
    tracking = connect(params)
    try:
        tracking.client.get_run(run_id)
    except MlflowException:
        where = shown(tracking.uri)
        print(f"{where} has no run {run_id or 'of this search'}: the report is not kept there", file=sys.stderr)
        return
    try:
        tracking.client.log_artifact(run_id, str(report), REPORT)
        for picture in pictures:
            tracking.client.log_artifact(run_id, str(picture), FIGURES)
        tracking.client.log_batch(run_id, tags=[RunTag(MLFLOW_RUN_NOTE, note)])
    except (MlflowException, OSError) as error:
        raise PodiumError(
            f"run {run_id} in {shown(tracking.uri)} can't be given the report: {error}. {report} is written; run"
            " `dvc repro` again when the store works"
        ) from error
