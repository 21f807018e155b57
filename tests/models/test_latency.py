"""Latency is processor time, set against a reference: a machine that other programs keep busy does not change it."""

from collections.abc import Callable

import pytest
import torch

import tiny
from podium.models import latency
from podium.models.latency import Latency, in_turns
from podium.models.network_costs import costs


class Clock:
    """Times that only what is measured moves: so much of a processor, and `crowding` times as much by the clock."""

    def __init__(self, crowding: float, slower: float = 1.0) -> None:
        self.used = self.passed = 0.0
        self.crowding, self.slower = crowding, slower

    def thread_time(self) -> float:
        return self.used

    def perf_counter(self) -> float:
        return self.passed

    def work(self, milliseconds: float) -> Callable[[int], object]:
        def run(turn: int) -> None:
            self.used += self.slower * milliseconds / 1000
            self.passed += self.crowding * self.slower * milliseconds / 1000

        return run


def measured(clock: Clock, monkeypatch: pytest.MonkeyPatch, *times: float) -> list[Latency]:
    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(latency, "_reference", clock.work(0.5))
    return in_turns([clock.work(one) for one in times])


@pytest.mark.parametrize("crowding", [1.0, 1.2, 4.0])
def test_busy_machine_is_named_and_changes_nothing(crowding: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_shortest", [float("inf")])
    found = measured(Clock(crowding), monkeypatch, 2.0, 5.0)
    assert [one.milliseconds for one in found] == pytest.approx([2.0, 5.0])
    assert [one.ratio for one in found] == pytest.approx([4.0, 10.0])
    assert [one.busy for one in found] == [crowding > latency.BUSY] * 2


def test_processor_that_is_slower_now_gives_the_time_of_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_shortest", [float("inf")])
    measured(Clock(1.0), monkeypatch, 2.0)
    (slow,) = measured(Clock(1.0, slower=1.7), monkeypatch, 2.0)
    assert slow.milliseconds == pytest.approx(2.0)


def test_shortest_turns_are_those_in_which_nothing_else_slows_network_or_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr(latency, "_shortest", [float("inf")])
    monkeypatch.setattr(latency, "time", clock)

    def slowed(milliseconds: float, often: int, times: float) -> Callable[[int], object]:
        """Beside other processes: in so many of ten turns so many times as long."""
        return lambda turn: clock.work(milliseconds * (times if turn % 10 < often else 1.0))(turn)

    monkeypatch.setattr(latency, "_reference", slowed(0.5, 7, 1.3))
    median, shortest = (in_turns([slowed(0.25, 8, 2.5)], quantile)[0].milliseconds for quantile in (0.5, 0.0))
    assert (median, shortest) == pytest.approx((0.25 * 2.5 / 1.3, 0.25))


def test_costs_are_those_that_are_wanted_and_draw_no_random_number() -> None:
    recipe = tiny.recipe()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert costs(recipe.model, tiny.IMAGES, []) == {}
    assert sorted(costs(recipe.model, tiny.IMAGES, ["size_mb", "parameters"])) == ["parameters", "size_mb"]
    assert torch.rand(1) == expected


@pytest.mark.slow
def test_latency_is_of_the_exported_graph() -> None:
    found = costs(tiny.recipe().model, tiny.IMAGES, ["latency_ms"])
    assert 0 < found["latency_ms"] < 1000
