"""Reading the body of a request, within its time, its size and the memory that there is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from podium.config.params import ServeParams
from podium.serving.body_memory import ArrivingBody, BodyMemory
from podium.serving.request_error import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

DISCARD_SECONDS = 2.0
"""Time for which the rest of a refused body is read and dropped: a client that is still sending sees no answer."""


class GoneError(Exception):
    """The client has closed the connection."""


class BodyReader:
    """Reads bodies of at most serve.max_request_mb."""

    def __init__(self, params: ServeParams) -> None:
        self.seconds = params.timeout_seconds
        self.most = int(params.max_request_mb * 1e6)
        self.memory = BodyMemory(self.most, self.most)

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> ArrivingBody:
        """The body, whose memory the caller gives back.

        Raises RequestError where it is too long, too late, or of a kind that is not taken; GoneError.
        """
        said = headers.get(b"content-length", b"")
        try:
            if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                raise RequestError(415, "Content-Encoding must be identity: compressed bodies are not taken")
            if said.isdigit() and int(said) > self.most:
                raise self._too_long(int(said))
            return await self._received(receive)
        except RequestError:
            await discard(receive)
            raise

    async def _received(self, receive: Receive) -> ArrivingBody:
        limit = asyncio.timeout(self.seconds)
        body = ArrivingBody(self.memory, limit)
        try:
            async with limit:
                async for piece in _pieces(receive):
                    if len(body.content) + len(piece) > self.most:
                        raise self._too_long(len(body.content) + len(piece))
                    await body.add(piece)
        except TimeoutError:
            body.give()
            raise self._too_late(body) from None
        except BaseException:
            body.give()
            raise
        body.arrived()
        return body

    def _too_late(self, body: ArrivingBody) -> RequestError:
        if body.was_short:
            return RequestError(503, "the memory for requests is taken (serve.memory_mb): try again")
        return RequestError(408, f"the request did not arrive whole within {self.seconds:g} s (serve.timeout_seconds)")

    def _too_long(self, size: int) -> RequestError:
        sentence = f"a request may have at most {self.most:,} bytes (serve.max_request_mb); got {size:,} or more"
        return RequestError(413, sentence)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The pieces of a body as they come. Raises GoneError where the client goes."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def discard(receive: Receive) -> None:
    """Read the rest of a body that is not wanted, for DISCARD_SECONDS at most."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            async for _ in _pieces(receive):
                continue
    except (TimeoutError, GoneError):
        return
