"""What a server answers besides predictions: is it alive, is it ready, which version, metrics, how to ask."""

import html
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any

from podium.serving.follower import Follower
from podium.serving.server_metrics import CONTENT_TYPE, ServerMetrics

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON, TEXT, HTML = b"application/json", b"text/plain; charset=utf-8", b"text/html; charset=utf-8"
FIXED = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{model}</title>
<style>body{{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em}}pre{{overflow:auto}}</style>
<h1>{model}</h1>
<p>Send images to <code>/invocations</code>; each gets a label, a probability and the version that predicted it.</p>
<pre>curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://{host}/invocations
curl -F image=@photo.jpg -F image=@other.png http://{host}/invocations
curl -d '{{"dataframe_records": [{{"image": "..."}}]}}' -H 'Content-Type: application/json' \\
  http://{host}/invocations</pre>
<p><code>image</code> is an image file in base64 or a data URL; <code>array</code> in its place takes pixels: rows of 0
to 255, or of [red, green, blue]. <code>?probabilities=true</code>, or <code>"params": {{"probabilities": true}}</code>
in JSON, adds the probability of every class. What can't be used gets status 400 with a message that names the row.</p>
<p>For operators: <code>/health</code> (it runs), <code>/ready</code> and <code>/ping</code> (it can answer),
<code>/version</code> (of MLflow), <code>/metrics</code> (Prometheus).</p></html>
"""


class OperatorsPages:
    """The pages, each for GET and HEAD. None of them waits for the model."""

    def __init__(self, follower: Follower, metrics: ServerMetrics) -> None:
        self.follower, self.metrics = follower, metrics
        self.draining = False
        """Whether the server ends: it is not ready any more."""
        self.challenger: Follower | None = None
        """Of a second version, if there is one."""
        self._pages: dict[str, Callable[[str], tuple[int, bytes, bytes]]] = {
            "/": self._usage,
            "/docs": self._usage,
            "/ping": lambda _: (200 if self._ready() else 503, TEXT, b"\n"),
            "/health": lambda _: (200, JSON, b'{"status": "ok"}'),
            "/ready": self._about,
            "/version": lambda _: (200, TEXT, _mlflow_version().encode()),
            "/metrics": lambda _: (200, CONTENT_TYPE.encode(), self._metrics()),
        }
        self.paths = frozenset(self._pages)

    def answer(self, scope: MutableMapping[str, Any]) -> Callable[[Send], Coroutine[Any, Any, None]]:
        """What sends the answer to one request for a page; the page is made now."""
        page = self._pages.get(scope["path"])
        if page is None:
            content = {"error_code": "ENDPOINT_NOT_FOUND", "message": "there is no such page; / says which there are"}
            return partial(send_answer, status=404, body=json.dumps(content).encode())
        if scope["method"] not in ("GET", "HEAD"):
            content = {"error_code": "INVALID_PARAMETER_VALUE", "message": "this page is for GET and HEAD"}
            return partial(send_answer, status=405, body=json.dumps(content).encode(), allow=b"GET, HEAD")
        host = dict(scope["headers"]).get(b"host", b"127.0.0.1:5001").decode("latin-1")
        status, kind, body = page(host)
        return partial(send_answer, status=status, body=body, kind=kind)

    def _ready(self) -> bool:
        return self.follower.current is not None and not self.draining

    def _about(self, _: str) -> tuple[int, bytes, bytes]:
        current, choice = self.follower.current, self.follower.choice
        about: dict[str, Any] = {
            "ready": self._ready(),
            "model": choice.name,
            "version": current.number if current else None,
            "follows": choice.follows or None,
            "problem": self.follower.failing or ("the server ends" if self.draining else None),
        }
        if (beside := self.challenger) is not None:
            second = {"version": beside.current.number if beside.current else None, "problem": beside.failing or None}
            about["challenger"] = second | {"follows": beside.choice.follows or None}
        return 200 if self._ready() else 503, JSON, json.dumps(about).encode()

    def _metrics(self) -> bytes:
        self.metrics.failing.set(bool(self.follower.failing))
        return self.metrics.text()

    def _usage(self, host: str) -> tuple[int, bytes, bytes]:
        current = self.follower.current
        model = f"{self.follower.choice.name} version {current.number}" if current else self.follower.choice.name
        return 200, HTML, PAGE.format(model=html.escape(model), host=html.escape(host)).encode()


async def send_answer(
    send: Send,
    status: int,
    body: bytes,
    kind: bytes = JSON,
    allow: bytes = b"POST",
    request_id: str = "",
    *,
    close: bool = False,
) -> None:
    """Send a whole answer; then `close` the connection, as after an error that may have left a body unread."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *FIXED]
    headers += [(b"connection", b"close")] if close or status in (408, 413, 415, 503, 504) else []
    headers += [(b"retry-after", b"1")] if status == 503 else []
    headers += [(b"allow", allow)] if status == 405 else []
    headers += [(b"x-request-id", request_id.encode())] if request_id else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _mlflow_version() -> str:
    from importlib.metadata import version

    return version("mlflow")
