"""An application called as a server calls it (ASGI), without a server; and a model that is as small as one can be."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.config.params import ServeParams
from podium.data.decode import BadImage, Preprocess, decode, decode_array
from podium.registry.loading import LoadedModel
from podium.serving.application import Application
from podium.serving.follower import Follower
from podium.serving.predictor import Predictor
from podium.serving.server_metrics import ServerMetrics

Message = MutableMapping[str, Any]


class Brightness:
    """`bright` or `dark` for images of 4x4."""

    decode = staticmethod(decode)
    decode_array = staticmethod(decode_array)
    bad_image = BadImage
    classes: tuple[str, ...] = ("dark", "bright")
    name = "brightness/1"

    def __init__(self, size: int = 4) -> None:
        self.spec = Preprocess(1, size, size)
        self.wait: Callable[[], object] = lambda: None
        self.sizes: list[int] = []

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean of the pixels, after `wait`."""
        self.sizes.append(len(images))
        self.wait()
        bright = images.reshape(len(images), -1).mean(axis=1) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def predictor(model: Any) -> Predictor:
    """`model` as a loaded version 1."""
    inside = SimpleNamespace(unwrap_python_model=lambda: model)
    loaded = SimpleNamespace(model=inside, name="brightness version 1", abstain=getattr(model, "abstain", None))
    return Predictor(cast(LoadedModel, loaded), 1, "d" * 64)


def application(model: Any | None = None, **params: Any) -> Application:
    """The application with `model`; None: it is still being loaded."""
    choice: Any = SimpleNamespace(name="brightness", follows="champion", which="champion")
    follower = Follower(choice, 1.0, lambda _: None)
    follower.current = predictor(model) if model else None
    return Application(follower, ServeParams(**{"access_log": False} | params), ServerMetrics())


@dataclass
class Request:
    """A request to be sent."""

    body: bytes = b""
    kind: str = "application/json"
    path: str = "/invocations"
    method: str = "POST"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] | None = None
    """In place of `body`."""
    ends: bool = True
    """Whether the body comes to its end; else nothing comes after the pieces."""
    leaves: threading.Event | None = None
    """The client goes when it is set."""


@dataclass
class Response:
    """What was sent back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def send(app: Application, request: Request) -> Response:
    """The answer to `request`; status 0: none."""
    pieces = list(request.pieces if request.pieces is not None else [request.body])
    sent: list[Message] = []

    async def receive() -> Message:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or not request.ends}
        while request.leaves is None or not request.leaves.is_set():
            await asyncio.sleep(0.005)
        return {"type": "http.disconnect"}

    async def collect(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", request.kind.encode())] if request.kind else []
    scope = {"type": "http", "method": request.method, "path": request.path, "query_string": request.query}
    await app(scope | {"headers": headers + request.headers, "client": ("127.0.0.1", 1)}, receive, collect)
    if not sent:
        return Response(0, {}, b"")
    headers_back = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], headers_back, b"".join(one.get("body", b"") for one in sent[1:]))


def ask(app: Application, *requests: Request) -> list[Response]:
    """The answers to requests that are sent at the same time."""

    async def all_of_them() -> list[Response]:
        return list(await asyncio.gather(*(send(app, request) for request in requests)))

    return asyncio.run(all_of_them())


def picture(value: int = 200, side: int = 4, mode: str = "L") -> bytes:
    """A PNG of one value."""
    buffer = io.BytesIO()
    kind = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.full((side, side), value, kind)).save(buffer, "PNG")
    return buffer.getvalue()


def records(*files: bytes) -> bytes:
    """JSON with these image files."""
    return json.dumps({"instances": [base64.b64encode(file).decode() for file in files]}).encode()
