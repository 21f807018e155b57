"""What a store takes of a run of which it refuses a part, such as an older server with lower limits."""

from collections.abc import Sequence

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from podium.tracking.refusal import is_refused
from podium.tracking.run_names import OTHERS_A_CALL
from podium.tracking.store import Tracking

Part = Metric | Param | RunTag


def log_parts(tracking: Tracking, run_id: str, parts: Sequence[Part]) -> list[str]:
    """Log those of `parts` that the store takes to a run; returns the names of the others, each once."""
    refused: dict[str, None] = {}
    for start in range(0, len(parts), OTHERS_A_CALL):
        refused |= dict.fromkeys(_log(tracking, run_id, parts[start : start + OTHERS_A_CALL]))
    return list(refused)


def _log(tracking: Tracking, run_id: str, parts: Sequence[Part]) -> list[str]:
    """Log `parts` in one call; where that is refused, each half by itself, so that one is found in few calls."""
    metrics = [part for part in parts if isinstance(part, Metric)]
    params = [part for part in parts if isinstance(part, Param)]
    tags = [part for part in parts if isinstance(part, RunTag)]
    try:
        tracking.client.log_batch(run_id, metrics, params, tags)
    except MlflowException as error:
        if not is_refused(error):
            raise
        if len(parts) == 1:
            return [str(parts[0].key)]
        half = len(parts) // 2
        return _log(tracking, run_id, parts[:half]) + _log(tracking, run_id, parts[half:])
    return []
