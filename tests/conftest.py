"""What tests share, and the order in which they run."""

import pytest

from finished import finished, finished_once
from mlflow_server import server
from mlflow_store import four_versions, mlflow_template, store, tracking
from own import own
from postgres import postgres, postgres_server
from registered import fresh, project, three_versions
from tuning.ray_cluster import two_nodes

__all__ = [
    "finished",
    "finished_once",
    "four_versions",
    "fresh",
    "mlflow_template",
    "own",
    "postgres",
    "postgres_server",
    "project",
    "server",
    "store",
    "three_versions",
    "tracking",
    "two_nodes",
]

LONGEST = ("test_shared_tracking", "test_shown_commands", "test_kills")
"""Minutes each. They begin first: one of them begun last would leave all cores but its own idle."""
TOGETHER = ("two_nodes", "postgres_server", "finished_once")
"""Fixtures that take long and last a session: who uses them stands together, so that most often one process of
pytest-xdist makes each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    users: dict[str, set[str]] = {name: set() for name in TOGETHER}
    for item in items:
        for name in set(TOGETHER) & set(getattr(item, "fixturenames", ())):
            users[name].add(_module(item))

    def place(item: pytest.Item) -> int:
        first = [name in item.nodeid for name in LONGEST]
        return [*first, *(_module(item) in users[name] for name in TOGETHER), True].index(True)

    items.sort(key=place)


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
