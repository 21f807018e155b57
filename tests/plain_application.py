"""An ASGI application for tests of the server alone: it answers every request with the same word."""

import asyncio
from typing import Any

SECONDS = 0.4
"""That an answer takes, longer than the idle time of a test."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 with the word `answered`."""
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
    await asyncio.sleep(SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answered"})
