"""The limit on the size of a request, without a server."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from podium.serving.server import BodyLimit

Message = MutableMapping[str, Any]


def asked(
    pieces: list[bytes], length: int | None, kind: bytes = b"application/json; charset=utf-8"
) -> tuple[list[Message], list[bytes]]:
    """What is sent back for a body of `pieces` where 10 bytes are taken, and the bodies that the application got."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1} for n, piece in enumerate(pieces)
    ]
    sent: list[Message] = []
    got: list[bytes] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        got.append((await receive())["body"])
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", kind)] if kind else []
    headers += [] if length is None else [(b"content-length", str(length).encode())]
    asyncio.run(BodyLimit(app, 10, 60)({"type": "http", "method": "POST", "headers": headers}, receive, send))
    return sent, got


@pytest.mark.parametrize("pieces", [[b""], [b"0123456789"], [b"01234", b"", b"56789"]])
@pytest.mark.parametrize("told", [True, False])
def test_request_within_the_limit_comes_through_whole(pieces: list[bytes], told: bool) -> None:
    whole = b"".join(pieces)
    assert asked(pieces, len(whole) if told else None) == ([], [whole])


@pytest.mark.parametrize(
    ("pieces", "length"),
    [([b"x"], 11), ([b"0123456789x"], None), ([b"012345", b"6789x"], None), ([b"0123456789x"], 3)],
    ids=["told", "not told", "in pieces", "told wrongly"],
)
def test_longer_request_is_answered_413_and_not_let_through(pieces: list[bytes], length: int | None) -> None:
    sent, got = asked(pieces, length)
    assert got == []
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["message"].startswith(
        "a request may have at most 10 bytes (serve.max_request_mb)"
    )


def test_connection_that_goes_away_is_left() -> None:
    async def never(*_: object) -> None:
        raise AssertionError

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(BodyLimit(never, 10, 60)({"type": "http", "method": "GET", "headers": []}, gone, never))


@pytest.mark.parametrize("kind", [b"", b"text/csv", b"application/vnd.apache.parquet"])
def test_request_of_another_kind_is_answered_415_and_not_let_through(kind: bytes) -> None:
    sent, got = asked([b"x"], 1, kind)
    assert got == []
    assert sent[0]["status"] == 415
    assert "a request must be application/json; got " in json.loads(sent[1]["body"])["message"]


def test_request_that_never_arrives_whole_is_answered_408() -> None:
    sent: list[Message] = []

    async def never(*_: object) -> None:
        raise AssertionError

    async def waits() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    asyncio.run(BodyLimit(never, 10, 0.01)({"type": "http", "method": "POST", "headers": headers}, waits, send))
    assert sent[0]["status"] == 408
    assert "did not arrive whole within 0.01 s (serve.timeout_seconds)" in json.loads(sent[1]["body"])["message"]
