"""A number of bytes that requests share: whoever needs more than is free waits, in the order of coming."""

import asyncio
from collections import deque


class MemoryBudget:
    """A weighted semaphore for one event loop.

    The first of those that wait is served first, also if a later one would fit: else a stream of small requests would
    keep a large one waiting permanently.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> None:
        """Reserve `count` bytes, at most `total`, as soon as they are free; `give` gives them back.

        Raises ValueError for more than there ever is. A caller that is cancelled has reserved nothing.
        """
        if count > self.total:
            raise ValueError(f"count must be at most {self.total}; got {count}")
        if not self._waiting and self.used + count <= self.total:
            self.used += count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)
            else:
                if (count, turn) in self._waiting:  # else `give` has already passed it over
                    self._waiting.remove((count, turn))
                self._next()
            raise

    def give(self, count: int) -> None:
        """Give back `count` bytes."""
        self.used -= count
        self._next()

    def _next(self) -> None:
        while self._waiting and self.used + self._waiting[0][0] <= self.total:
            count, turn = self._waiting.popleft()
            if not turn.done():
                self.used += count
                turn.set_result(None)
