"""Memory of bodies that arrive side by side."""

import asyncio
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest

from podium.serving.body_memory import ArrivingBody, BodyMemory


def body(memory: BodyMemory, age: float = 0.0) -> ArrivingBody:
    """A body that has begun to arrive `age` seconds ago, in a time limit that ends nothing."""
    limit: Any = SimpleNamespace(until=asyncio.get_running_loop().time() + 60)
    limit.when = lambda: limit.until
    limit.reschedule = lambda until: setattr(limit, "until", until)
    made = ArrivingBody(memory, limit)
    made.since -= age
    return made


def test_bodies_that_share_too_little_memory_all_arrive_and_no_more_is_used_than_there_is() -> None:
    most: list[int] = []

    async def arrive(memory: BodyMemory, size: int) -> int:
        async with asyncio.timeout(60) as limit:
            one = ArrivingBody(memory, limit)
            for _ in range(size):
                await one.add(b"x")
                most.append(memory.used)
                await asyncio.sleep(0)
        one.arrived()
        length = len(one.content)
        one.give()
        return length

    async def all_of_them() -> tuple[list[int], BodyMemory]:
        memory = BodyMemory(10, 10)
        sizes = [size for size, _ in zip(cycle((10, 1, 7, 3)), range(60), strict=False)]
        return await asyncio.gather(*(arrive(memory, size) for size in sizes)), memory

    sizes, memory = asyncio.run(all_of_them())
    assert sum(sizes) == 15 * 21
    assert max(most) == 20
    assert memory.used == 0


@pytest.mark.parametrize("first", [True, False], ids=["in the queue", "just served"])
def test_body_that_is_cancelled_as_it_waits_leaves_its_place_to_the_next(first: bool) -> None:
    async def cancelled() -> None:
        memory = BodyMemory(10, 10)
        bodies = [body(memory) for _ in range(4)]
        await bodies[0].add(b"x" * 10)  # shared
        await bodies[1].add(b"x" * 10)  # its own
        waiting = [asyncio.ensure_future(one.add(b"x" * 10)) for one in bodies[2:]]
        await asyncio.sleep(0)
        if not first:
            bodies[0].give()
        waiting[0].cancel()
        await asyncio.sleep(0)
        bodies[2].give()
        assert bodies[2].was_short
        if first:
            bodies[0].give()
        await asyncio.wait_for(waiting[1], 5)
        assert memory.used == 20
        for one in bodies:
            one.give()
            one.give()
        assert memory.used == 0

    asyncio.run(cancelled())


@pytest.mark.parametrize(("age", "left"), [(0.0, 5.0), (2.0, 3.0), (20.0, 0.0)])
def test_time_of_a_slow_client_is_cut_when_another_one_waits(age: float, left: float) -> None:
    async def cut() -> None:
        memory = BodyMemory(10, 10)
        slow, arrived, waits = body(memory, age), body(memory), body(memory)
        await slow.add(b"x" * 10)
        await arrived.add(b"x" * 10)
        arrived.arrived()
        waiting = asyncio.ensure_future(waits.add(b"x"))
        await asyncio.sleep(0)
        until = slow.limit.when()
        assert until is not None
        assert until - asyncio.get_running_loop().time() == pytest.approx(left, abs=0.5)
        assert (slow.was_short, arrived.was_short, waits.was_short) == (True, False, False)
        arrived.give()
        await waiting

    asyncio.run(cut())
