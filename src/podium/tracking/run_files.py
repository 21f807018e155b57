"""Files of a run among MLflow's artifacts. Its clients of S3, Google and Azure raise errors of their own kinds."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.exceptions import MlflowException

from podium.tracking.store import Tracking


def log_file(tracking: Tracking, run_id: str, file: Path, folder: str) -> None:
    """Log `file` as an artifact in `folder`. Raises MlflowException or OSError where the store does not take it."""
    try:
        tracking.client.log_artifact(run_id, str(file), folder)
    except (MlflowException, OSError):
        raise
    except Exception as error:
        raise _of_mlflow(error, f"{folder}/{file.name} can't be logged") from error


def file_of(tracking: Tracking, run_id: str, path: str) -> bytes | None:
    """The content of the artifact `path`; None where it is not there.

    Raises MlflowException where it is there and can't be read, or where its store is away.
    """
    with TemporaryDirectory(prefix="podium-") as folder:
        try:
            return Path(tracking.client.download_artifacts(run_id, path, folder)).read_bytes()
        except (MlflowException, OSError):
            return None
        except Exception as error:  # such as boto's, also where there is no such file
            try:
                there = [one.path for one in tracking.client.list_artifacts(run_id, path.rpartition("/")[0] or None)]
            except Exception as other:
                raise _of_mlflow(other, f"the folder of {path} can't be read") from other
            if path in there:
                raise _of_mlflow(error, f"{path} can't be read") from error
            return None


def _of_mlflow(error: Exception, what: str) -> MlflowException:
    """`error` as one of MLflow's, which everything here is ready for."""
    return MlflowException(f"{what}: {type(error).__name__}: {error}")
