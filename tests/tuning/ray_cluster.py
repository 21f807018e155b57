"""A Ray cluster of two nodes on this machine, started once a session, and a head without CPUs: no trial runs there."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from podium import cluster
from podium.config.params import RuntimeParams

for _name, _value in (cluster.ENVIRONMENT | cluster.LOOPBACK).items():
    os.environ.setdefault(_name, _value)  # read when Ray is imported, which a test may do before a cluster is asked for
STORE = 80 * 2**20
"""Bytes of a node's object store: Ray takes no less than 75 MiB."""
PATIENCE = 600.0
"""Seconds in which a node has to come up."""


@dataclass(frozen=True)
class TwoNodes:
    """The cluster, to which this process is connected."""

    cluster: Any

    @property
    def address(self) -> str:
        """host:port of the head."""
        return str(self.cluster.address)

    def runtime(self, **fields: Any) -> RuntimeParams:
        """Trials that share a GPU by two, images and checkpoints through the object store, a checkpoint a step."""
        usual: dict[str, Any] = {
            "engine": "ray",
            "address": self.address,
            "device": "cpu",
            "trial_gpus": 0.5,
            "checkpoint_seconds": 1e-9,
            "checkpoint_share": 1.0,
        }
        return RuntimeParams(**usual | fields)

    def add_node(self) -> Any:
        """A further node like the others."""
        return self.cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[TwoNodes]:
    """Two nodes with a CPU and a logical GPU each."""
    if find_spec("ray") is None:
        pytest.skip("the extra `ray` is not installed; make install-dev installs it")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray's own 15 starves workers on a machine that is shared)
    cluster.prepare(RuntimeParams(engine="ray"))
    import ray

    with _patience():
        nodes = _start()
        ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


def _start() -> TwoNodes:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    nodes = TwoNodes(Cluster(initialize_head=True, head_node_args=head))
    for _ in range(2):
        nodes.add_node()
    return nodes


@contextmanager
def _patience() -> Iterator[None]:
    """Nodes may take minutes to come up within the block: Ray gives them 30 s, which a busy machine may not keep."""
    from ray._private import services

    look: Any = services.get_node

    def look_patiently(*arguments: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return look(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node", look_patiently)
        yield
