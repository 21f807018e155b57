"""The mailbox as an object: its coroutines, without Ray."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from podium.tuning.messages import Report
from podium.tuning.pools.ray_worker import Began, Mailbox, Message, Saved
from tuning.scripted import epoch

REPORT = Report(7, 2, epoch(1))


def _run(script: Coroutine[Any, Any, None]) -> None:
    asyncio.run(script)


def test_report_returns_what_the_driver_answers() -> None:
    async def script() -> None:
        mailbox = Mailbox()
        for go_on in (True, False):
            waiting = asyncio.create_task(mailbox.report(REPORT))
            assert await mailbox.take(10) == [REPORT]
            assert not waiting.done()
            await mailbox.answer(7, 1, True)  # of another attempt
            await mailbox.answer(7, 2, go_on)
            assert await waiting is go_on

    _run(script())


def test_messages_are_taken_once_in_their_order_without_waiting() -> None:
    async def script() -> None:
        mailbox = Mailbox()
        messages: list[Message] = [Began(1, 1, 99, "a", "n"), Saved(1, 1, b"x")]
        for message in messages:
            await mailbox.leave(message)
        assert await mailbox.take(0) == messages
        assert await mailbox.take(0) == []

    _run(script())


def test_answer_that_nobody_waits_for_is_dropped() -> None:
    async def script() -> None:
        mailbox = Mailbox()
        await mailbox.answer(7, 2, False)
        waiting = asyncio.create_task(mailbox.report(REPORT))
        assert await mailbox.take(10) == [REPORT]
        await mailbox.answer(7, 2, True)
        assert await waiting is True

    _run(script())


def test_pause_wakes_everybody_who_waits_and_who_comes_later() -> None:
    async def script() -> None:
        mailbox = Mailbox()
        waiting = [asyncio.create_task(mailbox.paused()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await mailbox.pause()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await mailbox.paused() is True

    _run(script())
