"""What is done beside answers: each image is seen once, nothing waits for it, and nothing of it reaches a client."""

import asyncio
import gc
import logging
import threading
from collections import Counter

import pytest

from asgi_calls import Brightness, Request, Response, application, ask, picture, predictor, records
from podium.data.decode import decode_file
from podium.serving.observers import Answers, Images, ObserverThread, Sighting
from podium.serving.request_body import Rows
from waiting import PATIENCE


class Notes:
    """An observer that remembers, waits or fails."""

    name = "notes"

    def __init__(self, *, fails: bool = False) -> None:
        self.found: list[tuple[str, Images, Answers]] = []
        self.fails, self.ended, self.free = fails, False, threading.Event()
        self.free.set()

    def seen(self, request_id: str, images: Images, answers: Answers) -> None:
        self.free.wait()
        if self.fails:
            raise ValueError("secret of the observer")
        self.found.append((request_id, images, answers))

    def end(self) -> None:
        self.ended = True


def observed(
    observer: Notes, *requests: Request, most: int = 10**7, start: bool = True
) -> tuple[list[Response], Counter[str]]:
    """The answers, and how many images were seen, dropped or failed."""
    counts: Counter[str] = Counter()
    thread = ObserverThread(observer, most, lambda outcome, images: counts.update({outcome: images}))
    app = application(Brightness())
    app.observers = [thread]
    if start:
        thread.start()
    answers = ask(app, *requests)
    observer.free.set()
    while start and sum(counts.values()) < thread_images(answers):
        thread._thread.join(0.005)
    assert thread.end(PATIENCE) == (start or thread._thread.ident is None)
    return answers, counts


def thread_images(answers: list[Response]) -> int:
    return sum(len(one.json["predictions"]) for one in answers if one.status == 200)


def test_observer_sees_what_was_answered_once() -> None:
    notes = Notes()
    headers = [(b"X-Request-Id", b"scan-7")]
    bad = Request(records(picture(), b"no image"))
    answers, counts = observed(notes, Request(records(picture(255), picture(0)), headers=headers), bad)
    assert answers[0].headers["x-request-id"] == "scan-7"
    assert counts == {"seen": 2}
    ((name, images, found),) = notes.found
    assert (name, images.column, list(images.places), images.count) == ("scan-7", "image", [0, 1], 2)
    assert [bytes(one) for one in images.values] == [picture(255), picture(0)]
    assert images.pixels.shape == (2, 1, 4, 4)
    assert not images.pixels.flags.writeable
    assert (found.number, found.classes, found.probabilities.tolist()) == (1, ("dark", "bright"), [[0, 1], [1, 0]])
    assert found.seconds > 0
    assert notes.ended


def test_request_of_many_images_is_seen_in_batches() -> None:
    notes = Notes()
    _, counts = observed(notes, Request(records(*[picture()] * 130)))
    assert counts == {"seen": 130}
    assert [list(images.places)[::63] for _, images, _ in notes.found] == [[0, 63], [64, 127], [128]]


class Sized(Brightness):
    """A model whose decoder says how large an image was, as those that are registered now do."""

    decode_file = staticmethod(decode_file)


@pytest.mark.parametrize(
    ("model", "rows", "sizes"),
    [
        (Sized(), Rows("image", [picture(side=5), picture(side=9)], False), [[5, 5], [9, 9]]),
        (Brightness(), Rows("array", [[[0] * 5] * 3, [[[1, 2, 3]] * 2]], False), [[5, 3], [2, 1]]),
        (Brightness(), Rows("image", [picture()], False), None),
    ],
)
def test_observer_is_told_the_sizes_as_sent_where_the_decoder_says_them(
    model: Brightness, rows: Rows, sizes: list[list[int]] | None
) -> None:
    seen: list[tuple[Images, Answers]] = []
    predictor(model).probabilities(rows, threading.Event(), lambda *one: seen.append(one))
    ((images, answers),) = seen
    assert (None if images.sizes is None else images.sizes.tolist()) == sizes
    assert answers.digest == "d" * 64


@pytest.mark.parametrize("sent", [b"../../x", b"=1+1", b"a b", b"x" * 65, b"\xff", b""])
def test_request_id_that_is_no_plain_name_is_replaced(sent: bytes) -> None:
    (answer,) = ask(application(Brightness()), Request(picture(), "image/png", headers=[(b"x-request-id", sent)]))
    assert len(answer.headers["x-request-id"]) == 16
    assert answer.headers["x-request-id"].isalnum()


def test_observer_that_fails_changes_no_answer_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "podium.serve"):
        answers, counts = observed(Notes(fails=True), *[Request(picture(), "image/png")] * 3)
    assert [one.status for one in answers] == [200] * 3
    assert all("secret" not in one.body.decode() for one in answers)
    assert counts == {"failed": 3}
    assert len(caplog.records) == 1  # the same failure is said once


def test_full_queue_drops_images_and_answers_do_not_wait() -> None:
    notes, one = Notes(), Request(picture(), "image/png")
    notes.free.clear()  # it is stuck until all are answered
    answers, counts = observed(notes, *[one] * 10, most=4 * (len(picture()) + 16))
    assert [answer.status for answer in answers] == [200] * 10
    assert counts["seen"] <= 5
    assert counts["dropped"] == 10 - counts["seen"]


def test_images_of_one_request_beyond_the_queue_are_dropped() -> None:
    notes = Notes()
    _, counts = observed(notes, Request(records(*[picture()] * 130)), most=70 * (len(picture()) + 16))
    assert counts == {"seen": 66, "dropped": 64} or counts == {"seen": 64, "dropped": 66}


def test_observer_that_was_not_started_can_end() -> None:
    _, counts = observed(Notes(), Request(picture(), "image/png"), start=False)
    assert counts == {}


@pytest.mark.parametrize(("most", "queued"), [(10**7, 1), (0, 0)])
def test_client_that_reads_slowly_holds_no_images(most: int, queued: int) -> None:
    """They are in the queue, or dropped, before the answer is sent; after it fails they are gone too."""
    counts: Counter[str] = Counter()
    thread = ObserverThread(Notes(), most, lambda outcome, images: counts.update({outcome: images}))
    app = application(Brightness())
    app.observers = [thread]
    held: list[tuple[int, int]] = []

    async def slow(request: Request) -> None:
        body = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> dict[str, object]:
            while not body:
                await asyncio.sleep(0.01)
            return body.pop()

        async def read(message: object) -> None:
            sightings = [one for one in gc.get_objects() if type(one) is Sighting]
            held.append((thread._waiting.qsize(), sum(len(one._found) for one in sightings)))

        scope = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b"", "client": ("", 1)}
        await app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, read)

    asyncio.run(slow(Request(records(picture()))))
    assert held[0] == (queued, 0)
    assert counts["dropped"] == 1 - queued
    asyncio.run(slow(Request(records(*[picture()] * 64, b"no image"))))  # the first batch was fine
    assert held[-1] == (queued, 0)
