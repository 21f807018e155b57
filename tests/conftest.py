"""What tests share."""

from finished import finished, finished_once
from mlflow_server import server
from mlflow_store import mlflow_template, store
from postgres import postgres, postgres_server
from registered import fresh, project, three_versions
from search.ray_cluster import two_nodes

__all__ = [
    "finished",
    "finished_once",
    "fresh",
    "mlflow_template",
    "postgres",
    "postgres_server",
    "project",
    "server",
    "store",
    "three_versions",
    "two_nodes",
]
