"""The application of `podium serve`: MLflow's own scoring server behind a limit on the size of a request."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from podium.config.params import ServeParams

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MODEL, LIMIT, THREADS = "PODIUM_SERVED_MODEL", "PODIUM_MAX_REQUEST_BYTES", "PODIUM_SERVE_THREADS"
SECONDS = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
"""How the command tells its worker processes what they need; the last one MLflow reads too."""


def serve(folder: Path, params: ServeParams) -> None:
    """Serve predictions of the MLflow model in `folder` until a signal ends it."""
    import uvicorn

    os.environ |= {
        MODEL: str(folder),
        LIMIT: str(int(params.max_request_mb * 1e6)),
        THREADS: str(params.threads),
        SECONDS: str(params.timeout_seconds),
    }
    uvicorn.run(
        "podium.serving.server:create",
        factory=True,
        host=params.host,
        port=params.port,
        workers=params.workers,
        limit_concurrency=params.max_concurrent + 1,  # uvicorn counts the new one too
        timeout_keep_alive=params.timeout_seconds,
        log_level="warning",
    )


def create() -> "BodyLimit":
    """The application, as each of uvicorn's workers makes it."""
    import torch
    from mlflow.pyfunc import scoring_server

    torch.set_num_threads(int(os.environ[THREADS]))
    model = scoring_server.load_model_with_mlflow_config(os.environ[MODEL])  # type: ignore[no-untyped-call]
    return BodyLimit(scoring_server.init(model), int(os.environ[LIMIT]), float(os.environ[SECONDS]))


class BodyLimit:
    """An ASGI application that lets requests through to `app`: JSON of at most `limit` bytes, here within `seconds`."""

    def __init__(self, app: Application, limit: int, seconds: float) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request: its body is held, never more than `limit` of it, and then handed on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > self.limit:
            await self._too_long(send, int(said))
            return
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":  # MLflow's others unpack to any size
            await _refuse(send, 415, f"a request must be application/json; got {kind.decode('latin-1') or 'no type'}")
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(receive)
        except TimeoutError:
            sentence = f"the request did not arrive whole within {self.seconds:g} s (serve.timeout_seconds)"
            await _refuse(send, 408, sentence)
            return
        if body is None:
            return
        if len(body) > self.limit:
            await self._too_long(send, len(body))
            return
        await self.app(scope, _once(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or as much of it as is more than the limit; None where the client has gone."""
        body = bytearray()
        more = True
        while more and len(body) <= self.limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)

    async def _too_long(self, send: Send, size: int) -> None:
        sentence = f"a request may have at most {self.limit:,} bytes (serve.max_request_mb); got {size:,} or more"
        await _refuse(send, 413, sentence)


async def _refuse(send: Send, status: int, sentence: str) -> None:
    """Answer without reading the rest of the request."""
    content = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body is known: it comes in one piece, then whatever the connection says."""
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return pieces.pop() if pieces else await receive()

    return read
