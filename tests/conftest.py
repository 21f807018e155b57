"""What tests share, and the order in which they run."""

import pytest

from finished import finished, finished_once
from mlflow_server import server
from mlflow_store import mlflow_template, store
from own import own
from postgres import postgres, postgres_server
from registered import fresh, project, three_versions
from tuning.ray_cluster import two_nodes

__all__ = [
    "finished",
    "finished_once",
    "fresh",
    "mlflow_template",
    "own",
    "postgres",
    "postgres_server",
    "project",
    "server",
    "store",
    "three_versions",
    "two_nodes",
]

LONGEST = ("test_shared_tracking", "test_shown_commands", "test_kills")
"""Minutes each. They begin first: one of them begun last would leave all cores but its own idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST))

    items.sort(key=place)
