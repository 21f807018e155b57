"""WebSockets at hypercorn itself: refused, and their connections closed."""

import asyncio
import socket
from typing import Any

import pytest
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app

from podium.serving import websockets
from waiting import PATIENCE

UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(request: bytes) -> bytes:
    """All that comes until the server closes the connection, which the client keeps."""
    websockets.refuse()
    ended = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        sockets = Sockets([], [listening], [])
        app = wrap_app(application, 65536, "asgi")
        server = asyncio.ensure_future(worker_serve(app, Config(), sockets=sockets, shutdown_trigger=ended.wait))
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        said = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        ended.set()
        await server
    return said


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (UPGRADE + b"\r\n", b"400"),
        (UPGRADE + KEY.replace(b"13", b"12") + b"\r\n", b"400"),
        (UPGRADE + KEY + b"\r\n", b"403"),
    ],
)
def test_websocket_is_refused_and_its_connection_closed(request_: bytes, status: bytes) -> None:
    said = asyncio.run(answer(request_))
    assert said.startswith(b"HTTP/1.1 " + status)
    assert said.endswith(b"\r\n\r\n")
