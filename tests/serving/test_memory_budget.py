"""Memory that requests share."""

import asyncio

import pytest

from podium.serving.memory_budget import MemoryBudget


def test_budget_serves_those_that_wait_in_their_order_and_never_more_than_there_is() -> None:
    order: list[int] = []

    async def use(budget: MemoryBudget, number: int, count: int) -> None:
        await budget.take(count)
        order.append(number)
        assert budget.used <= budget.total
        await asyncio.sleep(0)
        budget.give(count)

    async def all_of_them() -> MemoryBudget:
        budget = MemoryBudget(10)
        await asyncio.gather(*(use(budget, number, count) for number, count in enumerate((6, 5, 1, 10, 1))))
        return budget

    assert asyncio.run(all_of_them()).used == 0
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("first", [True, False], ids=["in the queue", "just served"])
def test_budget_of_a_request_that_is_cancelled_goes_to_the_next(first: bool) -> None:
    async def cancelled() -> None:
        budget = MemoryBudget(10)
        await budget.take(8)
        waiting = asyncio.ensure_future(budget.take(9))
        after = asyncio.ensure_future(budget.take(2))
        await asyncio.sleep(0)
        if not first:
            budget.give(8)
        waiting.cancel()
        await asyncio.wait_for(after, 5)
        assert budget.used == (10 if first else 2)

    asyncio.run(cancelled())


def test_more_than_there_ever_is_is_an_error() -> None:
    with pytest.raises(ValueError, match="count must be at most 10; got 11"):
        asyncio.run(MemoryBudget(10).take(11))


def test_waiting_request_that_is_cancelled_as_bytes_become_free_is_cancelled_and_holds_nothing() -> None:
    async def cancelled() -> None:
        budget = MemoryBudget(10)
        await budget.take(8)
        waiting = asyncio.ensure_future(budget.take(9))
        await asyncio.sleep(0)
        waiting.cancel()
        budget.give(8)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert budget.used == 0
        await budget.take(10)

    asyncio.run(cancelled())
