"""Champion and challenger on the same images: what is kept of them, and who answers which."""

import base64
import hashlib
import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from asgi_calls import Brightness, Request, application, ask, picture, predictor, records
from podium.config.params import ServeParams
from podium.registry.loading import LoadedModel
from podium.serving.canary import Canary, image_digest, is_canary
from podium.serving.follower import Follower
from podium.serving.observers import ObserverThread
from podium.serving.predictor import Predictor
from podium.serving.shadow import Shadow
from podium.shadow import pair_summary
from podium.shadow.pair_store import PairStore
from waiting import PATIENCE


class Darker(Brightness):
    """The challenger: `bright` from a higher value on, and larger images."""

    name = "brightness/2"
    fails: str = ""

    def __init__(self) -> None:
        super().__init__(8)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.fails:
            raise RuntimeError(self.fails)
        bright = super().probabilities(images)[:, 1] * 0.7
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def second(model: Any) -> Predictor:
    inside = SimpleNamespace(unwrap_python_model=lambda: model)
    loaded = SimpleNamespace(model=inside, name="brightness version 2", abstain=getattr(model, "abstain", None))
    return Predictor(cast(LoadedModel, loaded), 2, "e" * 64)


class Served:
    """An application with a shadow, and a canary if there is a share."""

    def __init__(
        self, folder: Path, challenger: Predictor | None, share: float = 0.0, *, keep_images: bool = False
    ) -> None:
        choice: Any = SimpleNamespace(name="brightness", follows="challenger", which="challenger")
        self.app = application(Brightness())
        self.folder, follower = folder, Follower(choice, 1.0, lambda _: None)
        follower.current = challenger
        self.counts: list[tuple[str, int]] = []
        shadow = Shadow(
            PairStore(folder, 50, 30),
            "brightness",
            lambda: self.app.follower.current,
            lambda: follower.current,
            most_decoded=10**7,
            keep_images=keep_images,
            count=lambda *one: self.counts.append(one),
        )
        self.thread = ObserverThread(shadow, 10**7, lambda *_: None)
        self.app.observers = [self.thread]
        self.by: list[tuple[str, int]] = []
        self.app.canary = Canary(follower, share, 10**8, lambda *one: self.by.append(one)) if share else None

    def ask(self, *requests: Request) -> list[Any]:
        """The answers, when the shadow has seen them."""
        self.thread.start()
        answers = ask(self.app, *requests)
        while self.thread._waiting.qsize():
            self.thread._thread.join(0.005)
        assert self.thread.end(PATIENCE)
        return [one.json for one in answers]

    def summary(self) -> pair_summary.Summary:
        return pair_summary.summary(self.folder, "brightness", 1, 2)


def test_shadow_keeps_agreement_time_and_disagreements_and_the_answer_is_the_champions(tmp_path: Path) -> None:
    plain = ask(application(Brightness()), Request(records(picture(255), picture(160), picture(0))))
    served = Served(tmp_path, second(Darker()))
    headers = [(b"x-request-id", b"scan")]
    (answer,) = served.ask(Request(records(picture(255), picture(160), picture(0)), headers=headers))
    assert answer == plain[0].json
    found = served.summary()
    assert (found.images, found.agreed, found.failed, found.canary) == (3, 2, 0, 0)
    assert served.counts == [("agreed", 2), ("disagreed", 1)]
    assert {side: time.images for side, time in found.latencies.items()} == {"champion": 3, "challenger": 3}
    (one,) = found.examples
    assert (one.id, one.champion, one.challenger, one.image) == ("scan/2", "bright", "dark", None)
    assert one.digest == hashlib.sha256(picture(160)).hexdigest()
    assert one.champion_each["bright"] == pytest.approx(160 / 255, abs=1e-5)


def test_image_of_a_disagreement_is_kept_as_the_network_saw_it_if_asked_for(tmp_path: Path) -> None:
    served = Served(tmp_path, second(Darker()), keep_images=True)
    served.ask(Request(records(picture(160, 40), picture(0))))
    (one,) = served.summary().examples
    assert one.image
    assert one.image != picture(160, 40)
    assert one.image.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("challenger", "said"),
    [
        (None, []),
        (
            predictor(Brightness()),
            ["version 1 answers and is asked in the shadow too: nothing is compared until one of them changes"],
        ),
    ],
    ids=["not loaded yet", "the same"],
)
def test_nothing_is_compared_without_another_version(
    tmp_path: Path, challenger: Predictor | None, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(tmp_path, challenger)
    with caplog.at_level(logging.WARNING, "podium.serve"):
        answers = served.ask(*[Request(picture(), "image/png")] * 3)
    assert [one["predictions"][0]["model"] for one in answers] == ["brightness/1"] * 3
    assert pair_summary.every(tmp_path, "brightness") == []
    assert [one.getMessage() for one in caplog.records] == said


def test_challenger_that_fails_is_counted_and_reaches_no_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Darker()
    model.fails = "out of memory\nsecret"
    served = Served(tmp_path, second(model))
    with caplog.at_level(logging.WARNING, "podium.serve"):
        answers = served.ask(*[Request(picture(), "image/png")] * 3)
    assert all(one["predictions"][0]["label"] == "bright" for one in answers)
    assert (served.summary().failed, served.summary().images) == (3, 3)
    assert [one.getMessage() for one in caplog.records] == [
        r"version 2 fails in the shadow: RuntimeError: out of memory\nsecret"
    ]


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_challenger_that_gives_no_numbers_has_failed_and_the_champion_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    model = Darker()

    def probabilities(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = Brightness.probabilities(model, images)
        found[images.reshape(len(images), -1).mean(axis=1) < 10] = np.nan
        return found

    cast(Any, model).probabilities = probabilities
    served = Served(tmp_path, second(model), share)
    body = json.loads(records(picture(255), picture(0))) | {"params": {"probabilities": True}}
    with caplog.at_level(logging.WARNING, "podium.serve"):
        (answer,) = served.ask(Request(json.dumps(body).encode()))
    assert answer == ask(application(Brightness()), Request(json.dumps(body).encode()))[0].json  # the champion's
    found = served.summary()
    assert (found.images, found.agreed, found.failed, found.canary) == (2, 1, 1, 0)
    assert "fallback" in dict(served.by) or not share
    assert "brightness version 2 gave probabilities that are no numbers" in caplog.text


def test_answer_of_a_canary_stays_the_challengers_when_the_alias_has_moved(tmp_path: Path) -> None:
    served = Served(tmp_path, second(Darker()), 0.999)
    ask(served.app, Request(records(picture(160)), headers=[(b"x-request-id", b"scan")]))
    assert served.app.canary
    served.app.canary.follower.current = predictor(Brightness())  # now it names another version
    served.thread.start()
    while served.thread._waiting.qsize():
        served.thread._thread.join(0.005)
    assert served.thread.end(PATIENCE)
    assert pair_summary.every(tmp_path, "brightness") == [(1, 2)]
    assert served.summary().canary == 1
    found = pair_summary.served(tmp_path, "brightness", (1, "d" * 64), (2, "e" * 64))
    assert found.images == 1


def test_image_that_only_the_challenger_refuses_is_its_failure_and_the_others_are_compared(tmp_path: Path) -> None:
    model = Darker()

    def decode(data: bytes, spec: Any) -> NDArray[np.uint8]:
        if data == picture(9):
            raise model.bad_image("it is none of mine")
        return Brightness.decode(data, spec)

    cast(Any, model).decode = decode
    served = Served(tmp_path, second(model))
    served.ask(Request(records(picture(255), picture(9), picture(0))))
    found = served.summary()
    assert (found.images, found.agreed, found.failed) == (3, 2, 1)
    assert [(one.id[-2:], one.challenger) for one in found.examples] == [("/2", None)]


def test_pixels_are_compared_too(tmp_path: Path) -> None:
    served = Served(tmp_path, second(Darker()))
    pixels = [[160] * 4] * 4
    served.ask(Request(json.dumps({"dataframe_records": [{"array": pixels}]}).encode()))
    (one,) = served.summary().examples
    assert one.digest == hashlib.sha256(json.dumps(pixels, separators=(",", ":")).encode()).hexdigest()


def test_canary_answers_its_share_and_the_same_image_always_goes_the_same_way(tmp_path: Path) -> None:
    files = [picture(value, side) for value in range(0, 256, 20) for side in (4, 5)]
    served = Served(tmp_path, second(Darker()), share=0.3)
    alone = [Request(file, "image/png") for file in files]
    in_a_form = [Request(json.dumps({"inputs": [base64.b64encode(file).decode()]}).encode()) for file in files]
    answers = served.ask(Request(records(*files)), *alone, *in_a_form)
    together = [row["model"] for row in answers[0]["predictions"]]
    expected = [f"brightness/{2 if is_canary(hashlib.sha256(file).hexdigest(), 0.3) else 1}" for file in files]
    assert together == expected
    assert [one["predictions"][0]["model"] for one in answers[1:]] == expected * 2
    found, canaries = served.summary(), 3 * expected.count("brightness/2")
    assert (found.images, found.canary) == (3 * len(files), canaries)
    assert {by: sum(n for one, n in served.by if one == by) for by, _ in served.by} == {
        "challenger": canaries,
        "champion": 3 * len(files) - canaries,
    }
    assert {(one.champion, one.challenger) for one in found.examples} == {("bright", "dark")}


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_canary_abstains_and_tells_probabilities_where_it_is_asked_to(tmp_path: Path, share: float) -> None:
    old, new = Brightness(), Darker()
    for model in (old, new):
        cast(Any, model).abstain = {"threshold": 0.9}
    served = Served(tmp_path, second(new), share)
    served.app.follower.current = predictor(old)
    files = [picture(value) for value in (110, 115, 120, 125, 130, 135, 140, 145)]
    body = json.loads(records(*files)) | {"params": {"abstain": True, "probabilities": True}}
    (answer,) = served.ask(Request(json.dumps(body).encode()))
    rows = answer["predictions"]
    assert "brightness/2" in {row["model"] for row in rows}
    assert [(row["label"], row["reason"]) for row in rows] == [(None, "unsure")] * len(files)
    assert all(set(row["probabilities"]) == {"dark", "bright"} for row in rows)
    assert served.summary().images == len(files)


def test_share_is_kept_and_grows_without_moving_back() -> None:
    digests = [image_digest("image", str(number).encode()) for number in range(4000)]
    small, large = ({one for one in digests if is_canary(one, share)} for share in (0.05, 0.2))
    assert small < large
    assert len(small) == pytest.approx(200, abs=45)
    assert len(large) == pytest.approx(800, abs=80)


@pytest.mark.parametrize("fails", ["it breaks", ""])
def test_champion_answers_where_the_canary_fails(tmp_path: Path, fails: str) -> None:
    model = Darker()
    model.fails = fails
    if not fails:
        cast(Any, model).spec = SimpleNamespace(channels=1, height=10**4, width=10**4)  # twice 100 MB
    served = Served(tmp_path, second(model), share=0.999)
    (answer,) = ask(served.app, Request(records(picture(255), picture(0))))
    assert [row["model"] for row in answer.json["predictions"]] == ["brightness/1"] * 2
    assert ("fallback", 2) in served.by


def test_bad_image_among_canaries_is_named_by_its_place_in_the_request(tmp_path: Path) -> None:
    files = [picture(value) for value in range(0, 200, 20)]
    ways = [is_canary(hashlib.sha256(file).hexdigest(), 0.5) for file in files]
    assert len(set(ways)) == 2
    served = Served(tmp_path, second(Darker()), share=0.5)
    (answer,) = ask(served.app, Request(records(*files, b"no image")))
    assert answer.status == 400
    assert f"image {len(files) + 1} of {len(files) + 1}: it is no image" in answer.json["message"]


def test_answer_does_not_wait_for_the_shadow(tmp_path: Path) -> None:
    model, free = Darker(), threading.Event()
    model.wait = free.wait
    served = Served(tmp_path, second(model))
    served.thread.start()
    answers = ask(served.app, *[Request(picture(), "image/png")] * 3)
    assert [one.status for one in answers] == [200] * 3  # the challenger has answered nothing yet
    free.set()
    assert served.thread.end(PATIENCE)
    assert ServeParams().keep == "none"
