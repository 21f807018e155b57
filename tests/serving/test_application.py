"""The server's application without a server: its limits, its answers, and what it does for operators."""

import asyncio
import base64
import errno
import io
import json
import logging
import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from asgi_calls import Brightness, Request, Response, application, ask, picture, predictor, records, send
from podium.config.params import ServeParams
from podium.serving import body_memory, body_reader
from podium.serving.application import Application
from podium.serving.request_body import Rows


@pytest.fixture(autouse=True)
def short_discarding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "DISCARD_SECONDS", 0.05)


def one(value: int = 200) -> Request:
    return Request(picture(value), "image/png")


def test_application_answers_each_row_in_order() -> None:
    (answer,) = ask(application(Brightness()), Request(records(picture(255), picture(0), picture(204))))
    assert answer.status == 200
    got = [(row["label"], round(row["probability"], 3), row["model"]) for row in answer.json["predictions"]]
    assert got == [("bright", 1.0, "brightness/1"), ("dark", 1.0, "brightness/1"), ("bright", 0.8, "brightness/1")]


def test_application_gives_every_probability_if_asked() -> None:
    (answer,) = ask(application(Brightness()), Request(picture(255), "image/png", query=b"probabilities=true"))
    assert answer.json["predictions"][0]["probabilities"] == {"dark": 0.0, "bright": 1.0}


class MaybeUnsure(Brightness):
    abstain = {"threshold": 0.75, "error": 0.05, "confidence": 0.95}  # noqa: RUF012 (never changed)


@pytest.mark.parametrize("asked", ["query", "params"])
def test_application_gives_no_label_where_it_is_asked_to_abstain_and_is_unsure(asked: str) -> None:
    body = json.loads(records(picture(255), picture(150))) | (
        {"params": {"abstain": True}} if asked == "params" else {}
    )
    request = Request(json.dumps(body).encode(), query=b"abstain=true" if asked == "query" else b"")
    (answer,) = ask(application(MaybeUnsure()), request)
    sure, unsure = answer.json["predictions"]
    assert sure == {"label": "bright", "probability": 1.0, "model": "brightness/1", "reason": None}
    assert (unsure["label"], unsure["reason"], round(unsure["probability"], 3)) == (None, "unsure", 0.588)


def test_application_answers_as_before_where_nobody_asks_it_to_abstain() -> None:
    request = Request(records(picture(255), picture(150)))
    (plain,), (able,) = ask(application(Brightness()), request), ask(application(MaybeUnsure()), request)
    assert able.body == plain.body
    (answer,) = ask(application(Brightness()), Request(records(picture()), query=b"abstain=true"))
    assert answer.status == 400
    assert "abstain must not be true: brightness version 1 can't abstain" in answer.json["message"]


def test_application_takes_pixels() -> None:
    body = json.dumps({"dataframe_records": [{"array": [[255] * 4] * 4}, {"array": [[0] * 9] * 5}]}).encode()
    (answer,) = ask(application(Brightness()), Request(body))
    assert [row["label"] for row in answer.json["predictions"]] == ["bright", "dark"]


def test_bad_images_are_named_and_the_good_ones_are_not_predicted() -> None:
    model = Brightness()
    (answer,) = ask(application(model), Request(records(picture(), b"secret", b"")))
    assert answer.status == 400
    assert "image 2 of 3: it is no image" in answer.json["message"]
    assert "image 3 of 3: it is empty" in answer.json["message"]
    assert "secret" not in answer.body.decode()
    assert model.sizes == []


@pytest.mark.parametrize(("told", "size"), [(True, 11_000), (False, 11_000)])
def test_body_above_the_limit_is_413(told: bool, size: int) -> None:
    headers = [(b"content-length", str(size).encode())] if told else []
    request = Request(kind="application/json", headers=headers, pieces=[b"x" * 1000] * (size // 1000))
    app = application(Brightness(), max_request_mb=0.01)
    (answer,) = ask(app, request)
    assert answer.status == 413
    assert "at most 10,000 bytes (serve.max_request_mb); got 11,000" in answer.json["message"]
    assert app.memory.used == 0


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_image_that_would_take_too_much_memory_is_413_by_its_header(mode: str) -> None:
    model = Brightness()
    bomb = picture(7, 2000, mode)
    (answer,) = ask(application(model, max_decoded_mb=20), Request(records(picture(), bomb)))
    assert answer.status == 413
    assert "image 2 of 2: decoding it would take" in answer.json["message"]
    assert "at most 20 MB are allowed (serve.max_decoded_mb)" in answer.json["message"]
    (answer,) = ask(application(model, max_decoded_mb=300), Request(records(picture(), bomb)))
    assert answer.status == 200


def test_json_that_would_take_too_much_memory_is_413_before_it_is_parsed() -> None:
    (answer,) = ask(
        application(Brightness(), max_decoded_mb=1), Request(b'{"instances": [' + b"[]," * 10_000 + b"[]]}")
    )
    assert answer.status == 413
    assert "at most 1 MB are allowed (serve.max_decoded_mb)" in answer.json["message"]


def test_body_that_does_not_arrive_is_408_and_gives_its_memory_back() -> None:
    app = application(Brightness(), timeout_seconds=1)
    (answer,) = ask(app, Request(pieces=[b"x" * 100], ends=False))
    assert answer.status == 408
    assert "did not arrive whole within 1 s (serve.timeout_seconds)" in answer.json["message"]
    assert answer.headers["connection"] == "close"
    assert app.memory.used == 0


def test_work_that_takes_too_long_is_504_and_is_stopped() -> None:
    model, free = Brightness(), threading.Event()
    model.wait = free.wait
    app = application(model, timeout_seconds=1)
    (answer,) = ask(app, Request(records(*[picture()] * 200)))
    assert answer.status == 504
    free.set()
    app._pool.shutdown(wait=True)
    assert model.sizes == [64]  # the batch at work, and none of the three after it


def test_request_whose_client_goes_is_stopped() -> None:
    model, free, leaves = Brightness(), threading.Event(), threading.Event()

    def wait() -> None:
        leaves.set()
        free.wait()

    model.wait = wait
    app = application(model)
    (answer,) = ask(app, Request(records(*[picture()] * 200), leaves=leaves))
    assert answer.status == 0
    free.set()
    app._pool.shutdown(wait=True)
    assert model.sizes == [64]


def test_too_many_requests_at_work_are_503_and_health_checks_are_answered() -> None:
    model, free = Brightness(), threading.Event()
    app = application(model, max_concurrent=2)
    answers: dict[str, Any] = {}

    async def both() -> None:
        model.wait = free.wait
        busy = [asyncio.ensure_future(send(app, one())) for _ in range(2)]
        while app.at_work < 2:
            await asyncio.sleep(0.005)
        answers["third"] = await send(app, one())
        answers["health"] = await send(app, Request(path="/health", method="GET", kind=""))
        answers["ready"] = await send(app, Request(path="/ready", method="GET", kind=""))
        free.set()
        answers["busy"] = await asyncio.gather(*busy)

    asyncio.run(both())
    assert answers["third"].status == 503
    assert answers["third"].headers["retry-after"] == "1"
    assert "serve.max_concurrent" in answers["third"].json["message"]
    assert (answers["health"].status, answers["ready"].status) == (200, 200)
    assert [answer.status for answer in answers["busy"]] == [200, 200]


def test_requests_that_wait_for_the_network_share_a_batch() -> None:
    model, first = Brightness(), threading.Event()
    app = application(model)

    def wait() -> None:
        if len(model.sizes) == 1:  # the others come while the first is at work
            first.wait()

    model.wait = wait

    async def all_of_them() -> list[Any]:
        tasks = [asyncio.ensure_future(send(app, one(value))) for value in range(0, 120, 10)]
        predictor = app.follower.current
        assert predictor
        while len(predictor._turns) < 11:
            await asyncio.sleep(0.005)
        first.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(all_of_them())
    assert model.sizes == [1, 11]
    bright = [1 - answer.json["predictions"][0]["probability"] for answer in answers]
    np.testing.assert_allclose(bright, np.arange(0, 120, 10) / 255, atol=1e-6)


def test_model_that_fails_is_500_for_its_requests_only(caplog: pytest.LogCaptureFixture) -> None:
    model = Brightness()

    def fail() -> None:
        raise RuntimeError("secret")

    model.wait = fail
    app = application(model)
    (answer,) = ask(app, one())
    assert (answer.status, answer.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.body.decode()
    model.wait = lambda: None
    assert ask(app, one())[0].status == 200
    assert app.memory.used == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_model_that_gives_no_numbers_is_500_and_no_observer_sees_it(
    value: float, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(Brightness):
        def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            found = super().probabilities(images)
            found[images.reshape(len(images), -1).mean(axis=1) < 10] = value
            return found

    seen = list[int]()
    watcher: Any = SimpleNamespace(most=10**7, offer=lambda *one: seen.append(len(one[1].values)))
    app = application(Wrong())
    app.observers = [watcher]
    files = [picture(200)] * 70
    bad, good = ask(app, Request(records(*files, picture(0))), Request(records(*files)))
    assert (bad.status, bad.json["error_code"], good.status) == (500, "INTERNAL_ERROR", 200)
    assert bad.json["message"] == (
        "image 71 of 71: brightness version 1 gave probabilities that are no numbers (NaN or infinite)"
    )
    assert f"a request failed: {bad.json['message']}" in caplog.text
    assert seen == [64, 6]


def test_memory_of_a_request_is_given_back_and_no_more_is_used_than_there_is() -> None:
    model = Brightness()
    app = application(model, max_decoded_mb=100, max_request_mb=10, memory_mb=192)
    most: list[int] = []
    model.wait = lambda: most.append(app.memory.used)
    answers = ask(app, *[Request(picture(9, 2600), "image/png") for _ in range(6)])
    assert [answer.status for answer in answers] == [200] * 6
    assert 0 < max(most) <= 192_000_000


def test_application_before_its_model_is_loaded() -> None:
    app = application(None)
    for path, status in (("/health", 200), ("/ping", 503), ("/ready", 503), ("/metrics", 200), ("/", 200)):
        assert ask(app, Request(path=path, method="GET", kind=""))[0].status == status
    assert ask(app, one())[0].status == 503


@pytest.mark.parametrize("path", ["/", "/docs", "/ping", "/health", "/ready", "/version", "/metrics"])
def test_pages_answer_get_and_head_alone(path: str) -> None:
    app = application(Brightness())
    got, head, post = ask(app, *(Request(path=path, method=how, kind="") for how in ("GET", "HEAD", "POST")))
    assert (got.status, head.status, post.status) == (200, 200, 405)
    assert post.headers["allow"] == "GET, HEAD"
    assert b"<script" not in got.body


def test_page_that_can_not_be_made_is_said_and_is_no_broken_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(Brightness())

    def full() -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logging.getLogger("podium.serve"), "propagate", True)
    monkeypatch.setattr(app.metrics, "text", full)
    for how in ("GET", "HEAD"):
        (answer,) = ask(app, Request(path="/metrics", method=how, kind=""))
        assert answer.status == 500
        assert answer.json["message"] == "the page /metrics failed; the server's log says why"
    assert ["a request failed: No space left on device" in one for one in caplog.messages] == [True, True]


def test_connection_that_breaks_says_what_there_is_to_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(message: Any) -> None:
        raise ConnectionError("the transport is closed")

    said: list[dict[str, Any]] = [{"type": "http.request"}]

    async def nothing() -> Any:
        return said.pop() if said else await asyncio.Event().wait()

    monkeypatch.setattr(logging.getLogger("podium.serve"), "propagate", True)
    scope = {"type": "http", "path": "/health", "method": "GET", "headers": [], "query_string": b""}
    asyncio.run(application(Brightness())(scope, nothing, broken))
    assert caplog.messages == ["the connection to a client broke: the transport is closed"]


@pytest.mark.parametrize("address", ["http://proxy.example:80", "HTTPS://x", "http://[::1"])
def test_whole_address_as_a_proxy_writes_it_is_its_path(address: str) -> None:
    app = application(Brightness())
    ping, root, other = ask(app, *(Request(path=f"{address}{path}", method="GET") for path in ("/ping", "", "/a")))
    assert (ping.status, root.status, other.status) == (200, 200, 404)
    (answer,) = ask(app, Request(picture(), "image/png", f"{address}/invocations"))
    assert answer.json["predictions"][0]["label"] == "bright"


def test_other_addresses_and_methods_are_said() -> None:
    app = application(Brightness())
    missing, asked = ask(app, Request(path="/secret"), Request(method="GET"))
    assert (missing.status, missing.json["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert b"secret" not in missing.body
    assert (asked.status, asked.headers["allow"]) == (405, "POST")


def test_compressed_body_is_415() -> None:
    (answer,) = ask(application(Brightness()), Request(b"x", headers=[(b"content-encoding", b"gzip")]))
    assert (answer.status, "Content-Encoding" in answer.json["message"]) == (415, True)


def test_metrics_count_what_was_answered() -> None:
    app = application(Brightness())
    ask(app, Request(records(picture(), picture())), Request(b"{"))
    text = ask(app, Request(path="/metrics", method="GET", kind=""))[0].body.decode()
    for line in (
        'podium_requests_total{path="/invocations",status="200"',
        'podium_requests_total{path="/invocations",status="400"',
        "podium_images_total{",
        "podium_reserved_bytes{",
    ):
        assert line in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("podium_images_total")] == ["2.0"]


def large(mode: str, side: int) -> bytes:
    """A picture whose file is not small."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, len(mode)), dtype=np.uint8)
    Image.fromarray(noise.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def test_request_that_needs_nearly_all_the_memory_is_answered() -> None:
    image = large("L", 1180)
    assert 1_390_000 < len(image) < 1_420_000
    app = application(Brightness(), max_decoded_mb=20, max_request_mb=1.5, memory_mb=29, timeout_seconds=5)
    (answer,) = ask(app, Request(image, "image/png"))
    assert answer.status == 200
    assert app.memory.used == 0


@pytest.mark.parametrize("told", [True, False])
def test_requests_that_fill_the_memory_with_their_bodies_are_all_answered(told: bool) -> None:
    image = large("L", 990)
    assert 980_000 < len(image) < 1_000_000
    headers = [(b"content-length", str(len(image)).encode())] if told else []
    pieces = [image[n : n + 65_536] for n in range(0, len(image), 65_536)]
    app = application(Brightness(), max_decoded_mb=16, max_request_mb=1, memory_mb=22, timeout_seconds=20)
    requests = [Request(kind="image/png", headers=headers, pieces=pieces) for _ in range(24)]
    assert [answer.status for answer in ask(app, *requests)] == [200] * 24
    assert app.memory.used == 0


def test_request_whose_json_and_image_together_take_more_than_there_is_is_413() -> None:
    rows = [{"image": base64.b64encode(picture(7, 1180)).decode()}, *[{"image": "", "x": [[]] * 60_000}]]
    app = application(Brightness(), max_decoded_mb=20, max_request_mb=1, memory_mb=26)
    (answer,) = ask(app, Request(json.dumps({"dataframe_records": rows}).encode()))
    assert answer.status == 413
    assert "(serve.memory_mb): send fewer images at a time" in answer.json["message"]
    assert app.memory.used == 0


def stalled(count: int, size: int, length: int | None = None) -> list[Request]:
    """Requests of which `size` bytes come, of the `length` that they announce, and then nothing."""
    headers = [(b"content-length", str(length).encode())] if length else []
    return [
        Request(kind="image/png", pieces=[b"x" * size], headers=headers, ends=False, leaves=threading.Event())
        for _ in range(count)
    ]


async def beside(app: Application, slow: list[Request], *good: Request) -> tuple[list[Response], list[Response]]:
    """The answers to slow requests, whose clients leave in the end, and to good ones sent while these are there."""
    waiting = [asyncio.ensure_future(send(app, request)) for request in slow]
    await asyncio.sleep(0)
    answers = list(await asyncio.gather(*(send(app, request) for request in good)))
    for request in slow:
        assert request.leaves
        request.leaves.set()
    return list(await asyncio.gather(*waiting)), answers


@pytest.mark.parametrize("length", [1_000_000, None], ids=["announced", "of unknown length"])
def test_clients_that_announce_large_bodies_and_send_nothing_hold_no_memory(length: int | None) -> None:
    app = application(Brightness(), max_decoded_mb=4, max_request_mb=1, memory_mb=10)
    slow, good = asyncio.run(beside(app, stalled(100, 1, length), *[one()] * 20))
    assert {answer.status for answer in good} == {200}
    assert {answer.status for answer in slow} == {0}  # they left before their time was over
    assert app.bodies.memory.used == 0


def test_clients_that_fill_the_memory_and_stop_make_way_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_memory, "PATIENCE", 0.1)
    app = application(Brightness(), max_decoded_mb=4, max_request_mb=1, memory_mb=10)
    slow, good = asyncio.run(beside(app, stalled(8, 900_000), *[one()] * 20))
    assert {answer.status for answer in good} == {200}
    ended = [answer.json["message"] for answer in slow if answer.status]  # the others left, when nobody waited
    assert len(ended) >= 6
    assert all("the memory for requests is taken (serve.memory_mb)" in message for message in ended)
    assert app.bodies.memory.used == 0


def test_metrics_show_what_is_reserved_while_a_body_is_read() -> None:
    app = application(Brightness())
    metrics = Request(path="/metrics", method="GET", kind="")
    _, (page,) = asyncio.run(beside(app, stalled(1, 300_000, 5_000_000), metrics))
    reserved = [line for line in page.body.decode().splitlines() if line.startswith("podium_reserved_bytes{")]
    assert [float(line.split()[-1]) for line in reserved] == [3e5]


@pytest.mark.parametrize(("memory", "fits"), [(26.0, True), (25.9, False)])
def test_memory_must_hold_all_that_one_request_may_take(memory: float, fits: bool) -> None:
    from pydantic import ValidationError

    limits = {"max_decoded_mb": 20, "max_request_mb": 1, "memory_mb": memory}
    if fits:
        assert ServeParams.model_validate(limits).memory_mb == memory
        return
    with pytest.raises(ValidationError, match=r"max_decoded_mb and six times max_request_mb together \(26\)"):
        ServeParams.model_validate(limits)


@pytest.mark.parametrize("path", ["/invocations", "/health"])
def test_request_with_two_lengths_is_refused_and_its_connection_closed(path: str) -> None:
    headers = [(b"Content-Length", b"5"), (b"transfer-encoding", b"chunked")]
    (answer,) = ask(application(Brightness()), Request(picture(200), "image/png", path, headers=headers))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "one of Content-Length and Transfer-Encoding" in answer.json["message"]


@pytest.mark.parametrize("path", ["/invocations", "/docs"])
@pytest.mark.parametrize("broken", [OSError(113, "No route to host"), None])
def test_client_that_takes_no_answer_is_left_alone_whatever_it_asked_for(path: str, broken: OSError | None) -> None:
    async def take(message: Any) -> None:
        if broken:
            raise broken
        await asyncio.Event().wait()  # HTTP/2 with a window of nothing, for example

    pieces = [{"type": "http.request", "body": picture(200)}]

    async def receive() -> Any:
        return pieces.pop() if pieces else await asyncio.Event().wait()

    method = "POST" if path == "/invocations" else "GET"
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    app = application(Brightness(), timeout_seconds=1)
    asyncio.run(asyncio.wait_for(app(scope, receive, take), 600))
    assert app.at_work == 0


class Many(Brightness):
    """As many classes as some models have."""

    classes = tuple(f"class number {number}" for number in range(1_000))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(images), len(self.classes)), 1 / len(self.classes), np.float32)


def test_probabilities_of_thousands_of_classes_count_in_the_memory_of_a_request() -> None:
    files = [picture()] * 40
    asked = Request(records(*files), query=b"probabilities=true")
    app = application(Many())
    ask(app, asked)  # what the first request imports
    tracemalloc.start()
    try:
        (found,) = ask(app, asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.json["predictions"][39]["probabilities"]["class number 999"] == pytest.approx(1 / 1_000)
    rows = Rows("image", files, probabilities=True)
    need = predictor(Many()).memory(rows, 10**9)
    assert peak < need + 2 * len(asked.body) + 1_000_000 < 3 * peak
    small = application(Many(), memory_mb=7, max_decoded_mb=1, max_request_mb=1)
    refused, plain = ask(small, asked, Request(records(*files)))
    assert (refused.status, plain.status) == (413, 200)
    assert "send fewer images at a time" in refused.json["message"]
