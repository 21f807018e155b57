"""What tests share."""

from finished import finished, finished_once
from mlflow_store import mlflow_template, store
from registered import fresh, project, three_versions

__all__ = ["finished", "finished_once", "fresh", "mlflow_template", "project", "store", "three_versions"]
