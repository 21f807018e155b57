"""hypercorn without one of the names that it does not promise: requests are answered all the same, and it is said."""

import asyncio
import builtins
import socket
from typing import Any

import pytest
from hypercorn.config import Config

from plain_application import application
from podium import private_names
from podium.serving import silent_http2, websockets
from podium.serving.server import answering
from waiting import PATIENCE

NAMES = ("Sockets", "StreamClosed", "Updated", "H2Protocol", "WSStream", "worker_serve", "wrap_app")


async def answer() -> bytes:
    websockets.refuse()
    silent_http2.end()
    ended = asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    server = asyncio.ensure_future(answering(application, Config(), [listening], ended))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    ended.set()
    await server
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    return said


@pytest.mark.parametrize("name", NAMES)
def test_request_is_answered_without_a_private_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plain = builtins.__import__

    def look_up(module: str, globals: Any = None, *others: Any, **named: Any) -> Any:
        inside = str((globals or {}).get("__name__")).startswith("podium.")
        if inside and module.startswith("hypercorn") and name in (others[1] if len(others) > 1 else ()):
            raise ImportError(f"cannot import name {name!r}")
        return plain(module, globals, *others, **named)

    monkeypatch.setattr(private_names, "_said", set())
    monkeypatch.setattr(builtins, "__import__", look_up)
    assert asyncio.run(answer()).endswith(b"answered\r\n0\r\n\r\n")
    assert (
        capsys.readouterr().err.count(f"hypercorn is not what Podium expects (ImportError: cannot import name '{name}'")
        == 1
    )
