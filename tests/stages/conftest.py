"""What tests of stages share."""

from mlflow_store import mlflow_template, store

__all__ = ["mlflow_template", "store"]
