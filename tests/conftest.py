"""What tests share."""

from mlflow_store import mlflow_template, store
from registered import fresh, project, three_versions

__all__ = ["fresh", "mlflow_template", "project", "store", "three_versions"]
