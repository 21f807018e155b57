"""Where the trials of a Ray cluster and their driver leave each other's messages: an actor on the driver's node.

A worker's report waits here for the driver's answer. The mailbox keeps nothing that matters: killed, it is started anew
by Ray, which repeats the calls that had no answer, and the pool knows those that it has seen.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from podium.tuning.messages import Report, Resumed

CONCURRENT = 100_000
"""Calls that may wait at the same time: two a trial."""


@dataclass(frozen=True)
class Setup:
    """What every trial of a search needs beside its task."""

    images: Any
    """See shared_images.share."""
    mailbox: Any
    """The actor's handle."""
    device: Literal["auto", "cpu", "cuda"]
    threads: int
    shared: bool
    """Whether a checkpoint's path leads to the same file on every node."""
    folder: str = ""
    """The project's, where every node has it; else empty."""


@dataclass(frozen=True)
class Began:
    """A trial has been placed: from now on its worker obeys."""

    number: int
    attempt: int
    pid: int
    host: str
    node: str
    """Ray's id of the node."""

    @property
    def where(self) -> str:
        """The worker, as people find it."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Saved:
    """A trial's checkpoint, where no folder is shared."""

    number: int
    attempt: int
    content: bytes


Message = Began | Saved | Resumed | Report


class Mailbox:
    """The actor's class. Every method is a coroutine of the actor's one thread."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._arrived = asyncio.Event()
        self._pausing = asyncio.Event()
        self._waiting: dict[tuple[int, int], asyncio.Future[bool]] = {}

    async def leave(self, message: Message) -> None:
        """Leave a message that needs no answer."""
        self._messages.append(message)
        self._arrived.set()

    async def report(self, report: Report) -> bool:
        """Leave a report; returns whether to go on, once the driver has said so."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[report.number, report.attempt] = future
        await self.leave(report)
        return await future

    async def answer(self, number: int, attempt: int, go_on: bool) -> None:
        """Answer the report of this attempt that waits, if one does."""
        future = self._waiting.pop((number, attempt), None)
        if future is not None and not future.done():
            future.set_result(go_on)

    async def take(self, patience: float) -> list[Message]:
        """What has arrived since the last call; waits up to `patience` seconds for something to arrive."""
        if not self._messages:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), patience)
        messages, self._messages = self._messages, []
        return messages

    async def pause(self) -> None:
        """The search pauses: every `paused` returns."""
        self._pausing.set()

    async def paused(self) -> bool:
        """Wait until the search pauses."""
        return await self._pausing.wait()
