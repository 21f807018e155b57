"""Memory for the bodies of requests that arrive: bounded, and no client keeps it from others by being slow."""

import asyncio
from collections import deque
from contextlib import suppress

PATIENCE = 5.0
"""Seconds that a client has for its body, from its start or from its last wait for memory, while others wait."""


class BodyMemory:
    """Bytes that arriving bodies share.

    Reserved is what has come, not what a client announces, so a body may have to wait with its first part in memory.
    That bodies do not wait for each other without end has two reasons: one of them at a time may use `largest` bytes
    of its own, which always suffice; and whose client sends slowly while others wait loses its place after PATIENCE.
    """

    def __init__(self, shared: int, largest: int) -> None:
        self.shared, self.largest = shared, largest
        self.used = 0
        self.arriving: set[ArrivingBody] = set()
        self._of_shared = 0
        self._alone: ArrivingBody | None = None
        self._waiting: deque[tuple[ArrivingBody, int, asyncio.Future[None]]] = deque()

    def _grant(self, body: "ArrivingBody", count: int) -> bool:
        """Reserve `count` bytes for `body` if they are free."""
        if self._alone is not body and self._of_shared + count <= self.shared:
            self._of_shared += count
            body.of_shared += count
        elif self._alone in (None, body):
            self._alone = body
        else:
            return False
        self.used += count
        body.size += count
        return True

    async def take(self, body: "ArrivingBody", count: int) -> None:
        """Reserve `count` bytes more for `body`, as soon as they are free: those that wait in the order of coming."""
        if (self._alone is body or not self._waiting) and self._grant(body, count):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits = (body, count, turn)
        self._waiting.append(waits)
        self.arriving.discard(body)  # it is not its client that it waits for
        self._hurry()
        try:
            await turn
        except asyncio.CancelledError:
            body.was_short = True
            with suppress(ValueError):  # it was just served
                self._waiting.remove(waits)
            self._next()
            raise
        body.since = asyncio.get_running_loop().time()
        self.arriving.add(body)
        if self._waiting:
            self._hurry()

    def give(self, body: "ArrivingBody") -> None:
        """Give back all bytes of `body`, which has ended or is counted elsewhere."""
        self.arriving.discard(body)
        self.used -= body.size
        self._of_shared -= body.of_shared
        body.size = body.of_shared = 0
        if self._alone is body:
            self._alone = None
        self._next()

    def _next(self) -> None:
        while self._waiting:
            body, count, turn = self._waiting[0]
            if not turn.done() and not self._grant(body, count):
                return
            self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _hurry(self) -> None:
        now = asyncio.get_running_loop().time()
        for body in self.arriving:
            body.must_end_by(max(now, body.since + PATIENCE))


class ArrivingBody:
    """One body; `limit` is the time limit in which it is read."""

    def __init__(self, memory: BodyMemory, limit: asyncio.Timeout) -> None:
        self.memory, self.limit = memory, limit
        self.size = self.of_shared = 0
        self.since = asyncio.get_running_loop().time()
        self.was_short = False
        """Whether it lacked memory, or its time was cut because others did."""
        self.content = bytearray()
        memory.arriving.add(self)

    async def add(self, piece: bytes) -> None:
        """Append `piece` when there is memory for it."""
        await self.memory.take(self, len(piece))
        self.content += piece

    def arrived(self) -> None:
        """It is complete: its client keeps nobody waiting any more."""
        self.memory.arriving.discard(self)

    def must_end_by(self, time: float) -> None:
        """Cut the time in which it has to arrive, on the loop's clock."""
        if (until := self.limit.when()) is None or until > time:
            self.limit.reschedule(time)
            self.was_short = True

    def give(self) -> None:
        """Give its bytes back; again is nothing."""
        self.memory.give(self)
