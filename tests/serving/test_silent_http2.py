"""HTTP/2 at hypercorn itself: what is silent is closed, what asks is answered."""

import asyncio
import socket
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
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


class Impatient(Config):
    """Ends what is silent at once."""

    keep_alive_timeout = 0.1


async def said(first: bytes) -> bytes:
    """All that comes until the server closes the connection, which the client keeps."""
    silent_http2.end()
    ended = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        app: Any = wrap_app(application, 65536, "asgi")
        sockets = Sockets([], [listening], [])
        server = asyncio.ensure_future(worker_serve(app, Impatient(), sockets=sockets, shutdown_trigger=ended.wait))
        reader, writer = await asyncio.open_connection(*address)
        writer.write(first)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
            ended.set()
            await server


@pytest.mark.parametrize("first", [PREFACE + SETTINGS, PREFACE[:18], PREFACE + SETTINGS + b"\0\0\4\1\4\0\0\0\1"])
def test_silent_connection_of_http2_is_closed(first: bytes) -> None:
    asyncio.run(said(first))


def test_request_of_http2_is_answered_and_then_its_connection_closed() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    names = {":method": "GET", ":path": "/", ":scheme": "http", ":authority": "x"}
    client.send_headers(1, list(names.items()), end_stream=True)

    events = client.receive_data(asyncio.run(said(client.data_to_send())))

    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"answered"
    assert any(isinstance(event, StreamEnded) for event in events)
