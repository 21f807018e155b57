"""Which places of a Ray cluster are given up, by what became of the trials there; no cluster is needed for that."""

from typing import Any

import pytest

from podium import cluster
from podium.tuning.pools.ray_places import Places, Spot


def _node(name: str, gpus: int) -> dict[str, Any]:
    resources = {"CPU": 8.0} | ({"GPU": float(gpus)} if gpus else {})
    return {"NodeID": name, "NodeManagerHostname": f"{name}.example", "Alive": True, "Resources": resources}


def _places(monkeypatch: pytest.MonkeyPatch, gpus: float = 1.0, **nodes: int) -> Places:
    """Trials that reserve `gpus` each, on `nodes` with so many GPUs."""
    monkeypatch.setattr(cluster, "nodes", lambda: [_node(name, count) for name, count in nodes.items()])
    places = Places(1.0, gpus)
    places.look()
    return places


def _die(places: Places, spot: Spot, *trials: int) -> list[bool]:
    return [places.died(spot, trial) for trial in trials]


def test_gpu_on_which_workers_die_is_held_until_a_trial_is_found_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    places = _places(monkeypatch, a=8)
    bad, good = places.spot("a", "3"), places.spot("a", "0")
    assert _die(places, bad, 5, 5) == [False, True]  # the first death of a trial may be bad luck
    assert places.held() == {bad}
    assert places.avoided() == []
    assert places.died(bad, 6)  # it was placed before
    assert places.worked(good, 5) == (
        "no more trials go to GPU 3 of a.example on which workers of trial 5 died: it works on another"
    )
    assert places.held() == {bad}

    assert _die(places, good, 7, 7) == [False, True]
    assert not places.died(places.spot("a", "1"), 7)  # it dies there too: its own fault
    assert places.held() == {bad}


def test_node_of_which_every_gpu_is_bad_is_avoided_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    places = _places(monkeypatch, a=2, b=1)
    for gpu in "01":
        places.broke(places.spot("a", gpu))
        places.broke(places.spot("a", gpu))
    assert (places.held(), places.avoided(), places.slots()) == (frozenset(), ["a"], 1)


def test_last_gpus_are_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    places = _places(monkeypatch, a=2)
    for gpu in "01":
        places.broke(places.spot("a", gpu))
        places.broke(places.spot("a", gpu))
    assert (places.held(), places.avoided(), places.slots()) == (frozenset(), [], 2)
    assert _die(places, places.spot("a", "0"), 1, 1, 1, 1) == [False] * 4  # charged: else it would go on for ever


def test_gpu_that_could_not_load_twice_is_held_until_a_trial_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    places = _places(monkeypatch, 0.5, a=4)
    shared = places.spot("a", "1")
    places.broke(shared)
    assert places.held() == frozenset()
    places.broke(shared)
    assert places.held() == {shared}
    places.returned(shared)  # a trial that has the other half of it
    assert places.held() == frozenset()


@pytest.mark.parametrize(("count", "gpu"), [(1, "0"), (8, ""), (0, "")])
def test_node_is_the_place_where_its_gpus_can_not_be_told_apart(
    monkeypatch: pytest.MonkeyPatch, count: int, gpu: str
) -> None:
    places = _places(monkeypatch, float(count > 0), a=count, b=count)
    spot = places.spot("a", gpu)
    assert spot == Spot("a")
    places.reported(spot, alone=True)
    assert _die(places, spot, 5, 5) == [False, True]
    assert (places.held(), places.avoided()) == (frozenset(), ["a"])
    assert places.words(spot) == "its node"


def test_epoch_clears_a_gpu_and_a_node_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    places = _places(monkeypatch, a=4, b=1, c=1)
    for spot, alone in ((places.spot("a", "2"), True), (places.spot("b", "0"), False)):
        assert not places.died(spot, 5)
        places.reported(spot, alone=alone)
        assert not places.died(spot, 5)
        places.dropped(5)
