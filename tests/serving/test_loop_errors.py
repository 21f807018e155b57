"""What the event loop reports beside the requests."""

import asyncio
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from h2.events import DataReceived
from h2.exceptions import StreamClosedError
from h11 import LocalProtocolError, RemoteProtocolError
from hypercorn.protocol.h2 import H2Protocol

from podium.serving.loop_errors import LoopErrors

SERVER = """
import asyncio, logging, resource, sys
from podium.serving.loop_errors import LoopErrors

logging.basicConfig(format="%(levelname)s %(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

async def main():
    ended = asyncio.Event()
    handler, full = LoopErrors(ended.is_set), asyncio.Event()
    def seen(loop, context):
        handler(loop, context)
        full.set()
    asyncio.get_running_loop().set_exception_handler(seen)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, backlog=1024)
    connected = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(server.sockets[0].getsockname()[1], flush=True)
    await full.wait()
    await connected
    ended.set()
    server.close()
    await asyncio.sleep(1.5)  # asyncio tries to accept again after a second

asyncio.run(main())
"""


@pytest.mark.slow
def test_server_without_open_files_says_so_once_and_ends_without_tracebacks() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = ("127.0.0.1", int(server.stdout.readline()))
        clients = [socket.create_connection(address) for _ in range(60)]
        _, said = server.communicate("connected\n")
        for client in clients:
            client.close()
    assert said == "ERROR no connection is taken until another ends: Too many open files (ulimit -n)\n"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged, whatever other tests have done to the loggers of this process."""
    for name in ("podium.serve", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.ERROR, logger=name)  # DVC, imported by others, sets that of asyncio
    return caplog


async def connect(error: Exception, times: int) -> None:
    """`times` connections to a server, each of which ends with `error`."""
    failed = asyncio.Event()
    handler, left = LoopErrors(lambda: False), times

    def seen(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        nonlocal left
        handler(loop, context)
        left -= 1
        if not left:
            failed.set()

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        raise error

    asyncio.get_running_loop().set_exception_handler(seen)
    server = await asyncio.start_server(fail, "127.0.0.1", 0)
    for _ in range(times):
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
    await failed.wait()
    server.close()


@pytest.mark.parametrize(
    "error", [TimeoutError(110, "timed out"), ExceptionGroup("", [OSError(113, "No route"), ConnectionResetError()])]
)
def test_network_that_breaks_is_nothing_to_say(said: pytest.LogCaptureFixture, error: Exception) -> None:
    asyncio.run(connect(error, 1))
    assert said.messages == []


def test_client_that_breaks_the_protocol_is_said_once_with_the_place(said: pytest.LogCaptureFixture) -> None:
    asyncio.run(connect(ExceptionGroup("", [OSError(113, "No route"), raised(data_on_a_closed_stream)]), 3))
    (message,) = said.messages
    assert re.fullmatch(
        r"a connection was closed: its client sent what HTTP does not allow: KeyError \(hypercorn/protocol/h2.py:\d+\)",
        message,
    )
    assert said.records[0].exc_info is None


def data_on_a_closed_stream() -> None:
    """As hypercorn has it; the client's other streams are not here."""
    protocol: Any = H2Protocol.__new__(H2Protocol)
    protocol.streams = {}
    event = DataReceived(stream_id=7, data=b"", flow_controlled_length=0)
    asyncio.run(protocol._handle_events([event]))


def no_memory() -> None:
    raise MemoryError


def own_lookup() -> None:
    raise KeyError("of our own code")


def own_protocol() -> None:
    raise LocalProtocolError("Too much data for declared Content-Length")


def raised(work: Callable[[], None]) -> Exception:
    """What `work` raises, with its place."""
    try:
        work()
    except Exception as error:
        return error
    raise RuntimeError("it raised nothing")


@pytest.mark.parametrize("work", [no_memory, own_lookup, own_protocol])
def test_error_of_the_server_is_not_blamed_on_the_client_and_has_its_traceback_once(
    said: pytest.LogCaptureFixture, work: Callable[[], None]
) -> None:
    error = raised(work)
    asyncio.run(connect(ExceptionGroup("", [raised(data_on_a_closed_stream), error]), 3))
    (record,) = said.records
    message = (
        rf"a connection was closed by an error of this server: {type(error).__name__} \(.*test_loop_errors.py:\d+\)"
    )
    assert re.fullmatch(message, record.getMessage())
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("error", [RemoteProtocolError("illegal request line"), StreamClosedError(3)])
def test_error_of_a_protocol_is_the_clients(said: pytest.LogCaptureFixture, error: Exception) -> None:
    asyncio.run(connect(error, 1))
    assert ["its client sent what HTTP does not allow" in one for one in said.messages] == [True]


@pytest.mark.parametrize("ended", [True, False])
def test_connection_that_is_at_work_when_the_server_has_ended_is_nothing_to_say(
    said: pytest.LogCaptureFixture, ended: bool
) -> None:
    async def cut_off() -> None:
        tasks = list[Any]()

        async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append((asyncio.current_task(), writer))
            at_work.set()
            await asyncio.Event().wait()

        at_work, reported = asyncio.Event(), asyncio.Event()
        handler = LoopErrors(lambda: ended)

        def seen(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
            handler(loop, context)
            reported.set()

        asyncio.get_running_loop().set_exception_handler(seen)
        server = await asyncio.start_server(work, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await at_work.wait()
        task, accepted = tasks[0]
        task.cancel()
        await reported.wait()
        for one in (accepted, writer):
            one.close()
            await one.wait_closed()
        server.close()

    asyncio.run(cut_off())
    assert len(said.messages) == (0 if ended else 1)


def test_what_is_neither_is_left_to_asyncio(said: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(LoopErrors(lambda: False))
        loop.call_soon(lambda: [][0])
        await asyncio.sleep(0)

    asyncio.run(fail())
    assert [one.startswith("Exception in callback") for one in said.messages] == [True]
