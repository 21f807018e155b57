"""Bodies that nobody reads, at hypercorn itself: the request is answered, and its connection ends."""

import asyncio
import socket
from typing import Any

import pytest
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app

from asgi_calls import Brightness, application
from podium.serving import body_reader
from waiting import PATIENCE

HEAD = " HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"1\r\nx\r\n" * 40
"""More pieces in one packet than hypercorn's queue has places; the body has no end."""


async def answer(app: Any, first: bytes) -> bytes:
    """All that comes until the server closes the connection, which the client keeps."""
    ended = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        wrapped: Any = wrap_app(app, 65536, "asgi")
        sockets = Sockets([], [listening], [])
        server = asyncio.ensure_future(worker_serve(wrapped, Config(), sockets=sockets, shutdown_trigger=ended.wait))
        reader, writer = await asyncio.open_connection(*address)
        writer.write(first)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
            ended.set()
            await server


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("POST /health", 405),
        ("POST /predict", 404),
        ("GET /health", 200),
        ("GET /invocations", 405),
        ("POST /invocations", 413),
    ],
)
def test_connection_ends_after_the_answer_to_a_body_that_goes_on(
    request_: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_reader, "DISCARD_SECONDS", 0.05)
    app = application(Brightness(), max_request_mb=1e-5)
    said = asyncio.run(answer(app, (request_ + HEAD).encode() + CHUNKS))
    assert said.startswith(f"HTTP/1.1 {status} ".encode())


def test_connection_ends_where_no_model_is_loaded_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "DISCARD_SECONDS", 0.05)
    said = asyncio.run(answer(application(), ("POST /invocations" + HEAD).encode() + CHUNKS))
    assert said.startswith(b"HTTP/1.1 503 ")
