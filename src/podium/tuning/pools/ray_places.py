"""The places of a Ray cluster where trials run, and which of them are given up: nodes, and GPUs of those with several.

Ray can be told to avoid a node, but not to avoid a GPU. So a task that comes to a GPU that is given up holds it, for
nobody else to get it, and its trial is handed out again: see `ray_worker.train`.
"""

import time
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from podium import cluster
from podium.text import counted
from podium.tuning.pools.blame import Blame
from podium.tuning.pools.processes import BROKEN_IN_A_ROW

LOOK_EVERY = 1.0
"""Seconds for which the cluster's resources are taken to be what they were."""


class Spot(NamedTuple):
    """Where a trial runs."""

    node: str
    """Ray's id of the node."""
    gpu: str = ""
    """Ray's id of its GPU there; empty: the node is the place, for it has one GPU or none, or the trial takes several.
    """


class Places:
    """The nodes that are there, with what became of the trials on them."""

    def __init__(self, cpus: float, gpus: float) -> None:
        """A trial reserves so many `cpus` and `gpus`."""
        self._reserved = cpus, gpus
        self._looked = float("-inf")
        self._slots: dict[str, int] = {}
        """Trials that there is room for on each node that has some."""
        self._gpus: dict[str, int] = {}
        self._hosts: dict[str, str] = {}
        self.gone: set[str] = set()
        """Nodes that Ray has given up."""
        self._broken: Counter[Spot] = Counter()
        """How many workers were broken in a place since a trial ended there."""
        self._blame: Blame[Spot] = Blame()
        self._suspect: set[Spot] = set()
        """Places in which one worker after another died in its trial."""

    def look(self) -> None:
        """See which nodes there are, unless that was just seen."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        nodes = cluster.nodes()
        room = {node["NodeID"]: cluster.slots([node], *self._reserved) for node in nodes}
        self._slots = {node: count for node, count in room.items() if count}
        self._gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in nodes}
        self._hosts = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in nodes}
        self.gone = {node["NodeID"] for node in nodes if not node["Alive"]}
        self._looked = time.monotonic()

    def slots(self) -> int:
        """Trials that there is room for on the nodes that are not avoided."""
        self.look()
        avoided = self.avoided()
        return sum(count for node, count in self._slots.items() if node not in avoided)

    def spot(self, node: str, gpu: str) -> Spot:
        """The place of a trial that has GPU `gpu` of `node`; empty: it has none, or several."""
        self.look()
        return Spot(node, gpu if self._gpus.get(node, 0) > 1 else "")

    def broke(self, spot: Spot) -> None:
        """A worker was broken before it began its trial."""
        self._broken[spot] += 1

    def died(self, spot: Spot, trial: int) -> bool:
        """A worker died in its `trial`. Returns whether the place is suspect: the trial is not to blame then."""
        if spot in self.held() or spot.node in self.avoided():  # the trial had been placed there already
            return True
        verdict, cleared = self._blame.died(spot, trial, others=self._has_others(spot))
        self._suspect -= cleared
        if verdict == "suspect":
            self._suspect.add(spot)
        return verdict == "suspect"

    def reported(self, spot: Spot, *, alone: bool) -> None:
        """A trial got on; `alone`: no other one is on its node.

        A node on which another worker gets on is not to blame as a whole: one of its GPUs may be.
        """
        if spot.gpu or not alone:
            self._blame.alive(spot)

    def returned(self, spot: Spot) -> None:
        """A trial came to an end of its own: its worker has begun it."""
        self._broken.pop(spot, None)

    def worked(self, spot: Spot, trial: int) -> str:
        """`trial` did not fail. Returns in words where no more trials go, for its workers died there; mostly empty."""
        broken = self._blame.worked(spot, trial)
        if not broken:
            return ""
        return f"no more trials go to {self._words(broken)} on which workers of trial {trial} died: it works on another"

    def dropped(self, trial: int) -> None:
        """`trial` ended in a way that says nothing of workers."""
        self._suspect -= self._blame.dropped(trial)

    def words(self, spot: Spot) -> str:
        """The place of a worker in a sentence."""
        return self._words([spot]) if spot.gpu else "its node"

    def avoided(self, more: Collection[str] = ()) -> list[str]:
        """Nodes whose workers are broken again and again or die in their trials, on all GPUs, and `more`; as long as
        there are others.
        """
        broken = {spot.node for spot in self._bad() if not spot.gpu or self._is_whole(spot.node)}
        for avoided in ({*broken, *more}, broken):
            if self._slots.keys() - avoided:
                return sorted(avoided)
        return []

    def held(self) -> frozenset[Spot]:
        """GPUs of which that is so, on nodes that have others."""
        return frozenset(spot for spot in self._bad() if spot.gpu and not self._is_whole(spot.node))

    def _bad(self) -> set[Spot]:
        return {spot for spot, count in self._broken.items() if count >= BROKEN_IN_A_ROW} | self._suspect

    def _is_whole(self, node: str) -> bool:
        """Whether all GPUs of `node` are bad."""
        return sum(spot.node == node and spot.gpu != "" for spot in self._bad()) >= self._gpus.get(node, 0)

    def _has_others(self, spot: Spot) -> bool:
        if self._slots.keys() - {spot.node, *self.avoided()}:
            return True
        here = {one.gpu for one in self._bad() if one.node == spot.node} | {spot.gpu}
        return spot.gpu != "" and len(here) < self._gpus.get(spot.node, 0)

    def _words(self, spots: Collection[Spot]) -> str:
        gpus = [f"GPU {spot.gpu} of {self._hosts.get(spot.node, spot.node)}" for spot in sorted(spots) if spot.gpu]
        nodes = sum(not spot.gpu for spot in spots)
        return " and ".join([*gpus, *([f"the {counted(nodes, 'node')}"] if nodes else [])])
