"""The application of `podium serve` (ASGI): requests for predictions within their limits, and pages for operators."""

import asyncio
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from podium import process
from podium.config.params import ServeParams
from podium.serving import request_body
from podium.serving.body_memory import ArrivingBody
from podium.serving.body_reader import BodyReader, GoneError, discard
from podium.serving.canary import Canary, Split
from podium.serving.follower import Follower
from podium.serving.memory_budget import MemoryBudget
from podium.serving.observers import Keep, ObserverThread, Sighting
from podium.serving.operators_pages import OperatorsPages, send_answer
from podium.serving.predictor import CancelledError, Predictor
from podium.serving.request_error import RequestError
from podium.serving.server_metrics import ServerMetrics
from podium.shadow.pair_schema import REQUEST_ID
from podium.text import one_line

LOG = logging.getLogger("podium.serve")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")
Answered = tuple[bytes, int]
"""The JSON of an answer, and its images."""
WHOLE_ADDRESS = re.compile("https?://[^/]*", re.IGNORECASE)
PLAIN_ID = re.compile(REQUEST_ID)

JOBS = 16
"""Threads: requests that are decoded at a time, and that can share a batch."""
FREE = 4_000_000
"""Bytes that a thread may take without asking: small images are not worth a way back to the event loop."""
QUIET = {"/ping", "/health", "/ready", "/metrics"}
"""Asked every few seconds by machines: not in the access log."""


class Application:
    """Answers requests by the version that `follower` has at that moment."""

    def __init__(
        self,
        follower: Follower,
        params: ServeParams,
        metrics: ServerMetrics,
        observers: Sequence[ObserverThread] = (),
        canary: Canary | None = None,
    ) -> None:
        self.follower, self.params, self.metrics = follower, params, metrics
        self.observers, self.canary = observers, canary
        self.pages = OperatorsPages(follower, metrics)
        self.bodies = BodyReader(params)
        arriving = self.bodies.memory.shared + self.bodies.memory.largest
        self.memory = MemoryBudget(int(params.memory_mb * 1e6) - arriving)
        self.most_decoded = int(params.max_decoded_mb * 1e6)
        self.at_work = 0
        metrics.memory.set_function(lambda: self.memory.used + self.bodies.memory.used)
        self._rests = set[asyncio.Future[None]]()
        self._pool = ThreadPoolExecutor(JOBS, thread_name_prefix="podium-predict")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request or the server's own messages."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a WebSocket: closing it before it is accepted is 403
            await send({"type": "websocket.close"})

    def end(self) -> None:
        """Take no more work; what is at work is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        scope = {**scope, "path": _path(scope["path"])}
        path = scope["path"] if scope["path"] in {"/invocations", *self.pages.paths} else "other"
        sent: list[int] = [0, 0]
        sighting = Sighting(_request_id(scope), self.observers)

        async def counting(message: Message) -> None:
            sent[0] = message.get("status", sent[0])
            sent[1] += len(message.get("body", b""))
            await send(message)

        try:
            if _has_two_lengths(scope):
                refusal = RequestError(400, "a request must have one of Content-Length and Transfer-Encoding")
                content = json.dumps(refusal.content).encode()
                await discard(receive)
                await self._send(send_answer(counting, 400, content, close=True), receive)
            elif path == "/invocations":
                status, content = await self._invocations(scope, receive, started, sighting)
                if status == 200:
                    sighting.offer()  # before the client reads: its images are held by no request any more
                else:
                    sighting.forget()
                if status:
                    await self._send(send_answer(counting, status, content, request_id=sighting.request_id), receive)
            else:
                await discard(receive)
                await self._send(self._page(scope)(counting), receive)
        except TimeoutError:
            LOG.warning("a client does not read the response: the connection is closed")
        except OSError as error:  # of the connection: what fails in a request was answered above
            LOG.warning("the connection to a client broke: %s", error.strerror or one_line(str(error)))
        finally:
            self.metrics.requests.labels(self.metrics.worker, path, str(sent[0] or "none")).inc()
            if self.params.access_log and path not in QUIET:
                _log(scope, sent[0], sent[1], time.perf_counter() - started)

    async def _send(self, answer: Coroutine[Any, Any, None], receive: Receive) -> None:
        """Send an answer; what the client goes on to send is dropped until hypercorn says that the connection ends.

        hypercorn ends an answer by a message in the queue by which the body comes, of 10 places: were it full of a body
        that nobody reads, the connection would stay for as long as the client likes, and longer.
        """
        rest = asyncio.ensure_future(_disconnected(receive))
        self._rests.add(rest)  # the loop itself would forget it
        rest.add_done_callback(self._rests.discard)
        async with asyncio.timeout(self.params.timeout_seconds):
            await answer
        rest.cancel()  # an answer that broke off is ended later: until then the rest is dropped

    def _page(self, scope: Message) -> Callable[[Send], Coroutine[Any, Any, None]]:
        """What sends the page that is asked for, or that it can't be made."""
        try:
            return self.pages.answer(scope)
        except Exception as error:
            content = _failed(f"the page {scope['path']}", error)
            return lambda send: send_answer(send, 500, content)

    async def _invocations(
        self, scope: Message, receive: Receive, started: float, sighting: Sighting
    ) -> tuple[int, bytes]:
        """Status and JSON of the answer; status 0: nobody waits for one."""
        try:
            if scope["method"] != "POST":
                await discard(receive)
                raise RequestError(405, "predictions need POST")
            content, count = await self._answer(scope, receive, sighting)
        except RequestError as error:
            if error.status == 500:
                LOG.error("a request failed: %s", error)
            return error.status, json.dumps(error.content).encode()
        except (GoneError, CancelledError):
            return 0, b""
        except Exception as error:
            return 500, _failed("the model", error)
        self.metrics.images.inc(count)
        self.metrics.seconds.observe(time.perf_counter() - started)
        return 200, content

    async def _answer(self, scope: Message, receive: Receive, sighting: Sighting) -> Answered:
        headers = {name.lower(): value for name, value in scope["headers"]}
        predictor = self.follower.current
        if predictor is None:
            await discard(receive)
            raise RequestError(503, "the model is still being loaded")
        body = await self.bodies.read(headers, receive)
        try:
            if self.at_work >= self.params.max_concurrent:
                raise RequestError(
                    503, f"{self.params.max_concurrent} requests are in progress (serve.max_concurrent): try again"
                )
            self.at_work += 1
            self.metrics.at_work.inc()
            try:
                answering = self.canary.beside(predictor) if self.canary else predictor
                kind = headers.get(b"content-type", b"").decode("latin-1")
                job = _Job(self, answering, kind, scope["query_string"], body, sighting.keep)
                return await self._predict(job, receive)
            finally:
                self.at_work -= 1
                self.metrics.at_work.dec()
        finally:
            body.give()

    async def _predict(self, job: "_Job", receive: Receive) -> Answered:
        """Read the body and predict, in threads, within the memory and the time that there are."""
        body, kind = job.body, job.kind
        is_json = kind.lower().startswith(request_body.JSON_KIND)
        texts = request_body.PLAIN_TEXTS * len(body.content)
        need = request_body.json_memory(body.content) if is_json else texts
        if need - texts > self.most_decoded:
            raise RequestError(
                413,
                f"the JSON would take {need / 1e6:,.0f} MB of memory; at most {self.most_decoded / 1e6:,.0f} MB are"
                " allowed (serve.max_decoded_mb): send image files instead of arrays, or fewer of them",
            )
        need += len(body.content)
        work = asyncio.ensure_future(job.run(need))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, timeout=self.params.timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise GoneError
            raise RequestError(
                504,
                f"no response within {self.params.timeout_seconds:g} s (serve.timeout_seconds); the work was stopped",
            )
        finally:
            job.cancelled.set()
            gone.cancel()
            if not work.cancel() and not work.cancelled():
                work.exception()  # it has been seen, or nobody waits for it


class _Job:
    """The work of one request, in threads of `application`."""

    def __init__(
        self,
        application: Application,
        predictor: "Predictor | Split",
        kind: str,
        query: bytes,
        body: ArrivingBody,
        keep: Keep | None,
    ) -> None:
        self.application, self.predictor, self.kind, self.query = application, predictor, kind, query
        self.body, self.keep = body, keep
        self.cancelled = threading.Event()

    async def run(self, need: int) -> Answered:
        """The answer, within `need` bytes and what decoding takes beyond them.

        What is reserved is given back when the threads have ended, also after a cancellation; and before more is
        taken, so that no request waits for another one that waits too.
        """
        first = await self._reserved(need, self._read_and_maybe_answer)
        if isinstance(first[0], bytes):
            return first
        rows, memory = first
        return await self._reserved(need + memory, lambda: self._answer(rows))

    def _answer(self, rows: request_body.Rows) -> Answered:
        """Row by row: with thousands of classes all of them would keep the interpreter, and the loop, for seconds."""
        records = self.predictor.answer(rows, self.cancelled, self.keep)
        each = b", ".join([json.dumps(record).encode() for record in records])
        return b'{"predictions": [%b]}' % each, len(records)

    def _read_and_maybe_answer(self) -> Answered | tuple[request_body.Rows, int]:
        if self.cancelled.is_set():
            raise CancelledError
        params = self.application.params
        rows = request_body.read(self.body.content, self.kind, self.query, params.max_images)
        memory = self.predictor.memory(rows, self.application.most_decoded)
        return self._answer(rows) if memory <= FREE else (rows, memory)

    async def _reserved(self, need: int, work: Callable[[], T]) -> T:
        application = self.application
        total = application.memory.total
        if need > total:
            raise RequestError(
                413,
                f"the request would take {need / 1e6:,.0f} MB of memory; there are {total / 1e6:,.0f} MB"
                " (serve.memory_mb): send fewer images at a time",
            )
        await application.memory.take(need)
        self.body.give()  # it is part of `need`
        loop = asyncio.get_running_loop()
        future: Future[T] = application._pool.submit(work)

        def give_back(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(application.memory.give, need)

        future.add_done_callback(give_back)
        return await asyncio.wrap_future(future)


def _failed(what: str, error: Exception) -> bytes:
    """Log why a request failed; the content of its answer."""
    known = process.message_of(error)  # such as a full disk; else it is a bug, whose traceback is needed
    LOG.error("a request failed%s", f": {one_line(known)}" if known else "", exc_info=None if known else error)
    return json.dumps(RequestError(500, f"{what} failed; the server's log says why").content).encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _path(target: str) -> str:
    """The path of a request's target, which may be a whole address: proxies write it so (RFC 9112, 3.2.2)."""
    whole = WHOLE_ADDRESS.match(target)
    return target if whole is None else target[whole.end() :] or "/"


def _has_two_lengths(scope: Message) -> bool:
    """Whether two servers in a row could see its end at different places, and the second take the rest for a request.

    RFC 9112, 6.3: such a request may be refused; its connection is to be closed.
    """
    return {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in scope["headers"]}


def _request_id(scope: Message) -> str:
    """What the client calls the request (X-Request-Id), where that is a plain name; else a new one."""
    sent = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-request-id"), "")
    return sent if PLAIN_ID.fullmatch(sent) else secrets.token_hex(8)


def _log(scope: Message, status: int, size: int, seconds: float) -> None:
    client = (scope.get("client") or ["-"])[0]
    path = one_line(scope["path"][:200])
    LOG.info('%s "%s %s" %s %d B %.1f ms', client, scope["method"], path, status or "-", size, 1000 * seconds)
