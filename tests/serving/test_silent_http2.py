"""HTTP/2 at hypercorn itself: what is silent is closed, what asks is answered."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app

from plain_application import application
from podium.serving import silent_http2
from waiting import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


class Impatient(Config):
    """Ends what is silent at once."""

    keep_alive_timeout = 0.1


@asynccontextmanager
async def connection(config: Config) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server."""
    silent_http2.end()
    ended = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        app: Any = wrap_app(application, 65536, "asgi")
        sockets = Sockets([], [listening], [])
        server = asyncio.ensure_future(worker_serve(app, config, sockets=sockets, shutdown_trigger=ended.wait))
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer
        finally:
            writer.close()
            ended.set()
            await server


async def said(first: bytes) -> bytes:
    """All that comes until the server closes the connection, which the client keeps."""
    async with connection(Impatient()) as (reader, writer):
        writer.write(first)
        return await asyncio.wait_for(reader.read(), PATIENCE)


async def after(client: H2Connection, wrong: Callable[[], None]) -> set[int]:
    """The streams that are answered: the first one, and another one, after what is `wrong` on the connection."""
    answered: set[int] = set()
    client.send_headers(1, GET)
    async with connection(Config()) as (reader, writer):

        async def answer(stream: int) -> None:
            writer.write(client.data_to_send())
            while stream not in answered and (data := await asyncio.wait_for(reader.read(65536), PATIENCE)):
                answered.update(one.stream_id for one in client.receive_data(data) if isinstance(one, StreamEnded))

        await answer(1)
        wrong()
        client.send_headers(5, GET, end_stream=True)
        await answer(5)
    return answered


@pytest.mark.parametrize("first", [PREFACE + SETTINGS, PREFACE[:18], PREFACE + SETTINGS + b"\0\0\4\1\4\0\0\0\1"])
def test_silent_connection_of_http2_is_closed(first: bytes) -> None:
    asyncio.run(said(first))


def test_request_of_http2_is_answered_and_then_its_connection_closed() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, GET, end_stream=True)

    events = client.receive_data(asyncio.run(said(client.data_to_send())))

    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"answered"
    assert any(isinstance(event, StreamEnded) for event in events)


def test_data_that_come_after_the_answer_end_no_other_request_of_the_connection() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()

    def go_on() -> None:
        for _ in range(20):
            client.send_data(1, b"x")

    assert asyncio.run(after(client, go_on)) == {1, 5}


def test_path_that_is_no_ascii_ends_no_other_request_of_the_connection() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    odd = [(name, "/bücher" if name == ":path" else value) for name, value in GET]
    assert asyncio.run(after(client, lambda: client.send_headers(3, odd, end_stream=True))) == {1, 5}
