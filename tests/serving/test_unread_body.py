"""Bodies that nobody reads, at hypercorn itself: the request is answered, and its connection ends."""

import asyncio
import socket
from typing import Any

import pytest

from asgi_calls import Brightness, application
from podium.config.params import ServeParams
from podium.serving import body_reader
from podium.serving.server import answering, hypercorn_config
from waiting import PATIENCE

HEAD = " HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"1\r\nx\r\n" * 40
"""More pieces in one packet than hypercorn's queue has places; the body has no end."""


async def answer(app: Any, first: bytes) -> bytes:
    """All that comes until the server closes the connection, which the client keeps."""
    ended, config = asyncio.Event(), hypercorn_config(ServeParams(), 1024)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        server = asyncio.ensure_future(answering(app, config, [listening], ended))
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


def is_there(receiving: Any) -> bool:
    """Whether a message comes without waiting, so that nothing else can come meanwhile."""
    try:
        receiving.send(None)
    except StopIteration:
        return True
    receiving.close()
    return False


async def end_of(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def count_of_waiting(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with how many pieces of its body were in memory when it asked for the first one."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    count = 1
    while is_there(receive()):
        count += 1
    rest = asyncio.ensure_future(end_of(receive))  # else hypercorn would wait for room for the end of the answer
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(count).encode()})
    await rest


def test_few_pieces_of_a_body_wait_in_memory_that_no_limit_counts() -> None:
    said = asyncio.run(answer(count_of_waiting, ("POST /" + HEAD).encode() + CHUNKS))
    assert int(said.split()[-2]) <= 3, said
