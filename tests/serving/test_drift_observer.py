"""What a server keeps of answered images: windows of each version, merged in time, and metrics; no pixel."""

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drift_world import CLASSES, SIDE, Pixels, answer, as_pixels, reference, scenes
from podium.config.params import DriftParams, ServeParams
from podium.drift import windows as drift_windows
from podium.drift.reference import Reference
from podium.drift.windows import Rules, Windows, folder_of
from podium.locks import locked
from podium.serving import drift_observer, server
from podium.serving.challenger import Beside
from podium.serving.drift_observer import DriftObserver
from podium.serving.observers import Answers, Images
from podium.serving.server_metrics import ServerMetrics
from waiting import until

DIGEST = "d" * 64


def predictor(number: int = 1, stored: bytes | None = b"", digest: str = DIGEST) -> Any:
    """A version of drift_world's model; `stored`: its file drift.npz, the right one unless given."""
    inside = SimpleNamespace(reference=reference().to_bytes() if stored == b"" else stored)
    return SimpleNamespace(number=number, digest=digest, loaded=inside)


def observer(folder: Path, every: float = 0.0, **params: object) -> DriftObserver:
    drift_observer.EVERY = every  # `as_before` undoes it
    made = DriftParams(**{"window": 200, "folder": str(folder)} | params)
    return DriftObserver(made, "m", ServerMetrics())


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_observer, "EVERY", drift_observer.EVERY)


def show(
    one: DriftObserver,
    pixels: Pixels,
    number: int = 1,
    size: tuple[int, int] | None = (32, 24),
    digest: str = DIGEST,
) -> None:
    """Images that were sent in `size`, of which the network got `pixels`, were answered."""
    sizes = None if size is None else np.tile(np.array(size, np.int64), (len(pixels), 1))
    images = Images("image", [b""] * len(pixels), pixels, range(len(pixels)), len(pixels), pixels.nbytes, sizes)
    one.seen("id", images, Answers(number, CLASSES, answer(pixels), 0.01, digest))


def windows(folder: Path, number: int = 1, digest: str = DIGEST) -> Windows:
    params = DriftParams(window=200, folder=str(folder))
    return Windows(folder_of(params, "m", number, digest), reference(), Rules.of(params))


def text_of(one: DriftObserver) -> str:
    return one.metrics.text().decode()


def test_answered_images_fill_windows_whose_drift_is_logged_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    for seed in range(4):
        show(one, scenes(50, seed))
    labels = f'{{model="m",version="1",worker="{one.metrics.worker}"}}'
    assert f"podium_drift{labels} 0.0" in text_of(one)
    with caplog.at_level(logging.WARNING, "podium.serve"):
        for seed in range(4):
            show(one, as_pixels(scenes(50, seed) * 0.6))
    assert f"podium_drift{labels} 1.0" in text_of(one)
    assert f"podium_drift_window{labels} 2.0" in text_of(one)
    assert f'podium_drift_feature{{feature="brightness",{labels[1:]} 1.0' in text_of(one)
    assert f'podium_drift_feature{{feature="size",{labels[1:]} 0.0' in text_of(one)
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("drift: version 1, window 2 (200 images): ")
    assert "darker" in line


def test_folder_says_that_statistics_are_kept_before_any_image_has_come(tmp_path: Path) -> None:
    observer(tmp_path).follow(predictor())
    assert windows(tmp_path).folder.is_dir()
    assert windows(tmp_path).settle() == []
    assert windows(tmp_path).opened().count == 0


def test_first_window_of_all_is_logged_and_one_of_before_a_restart_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    show(one, as_pixels(scenes(200, 1) * 0.6))
    assert "drift: version 1, window 1" in caplog.text
    caplog.clear()
    again = observer(tmp_path)
    again.follow(predictor())
    assert f'podium_drift{{model="m",version="1",worker="{again.metrics.worker}"}} 1.0' in text_of(again)
    assert caplog.text == ""


def test_sizes_are_those_of_the_files_as_sent(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    show(one, scenes(200, 0), size=(64, 48))
    (verdict,) = windows(tmp_path).settle()
    assert verdict.words == "larger images"


def test_sizes_that_the_model_does_not_say_are_not_known(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    show(one, scenes(1, 0), size=None)
    row = dict(zip(reference().names, windows(tmp_path).opened().rows[0], strict=True))
    assert np.isnan(row["size"])
    assert not np.isnan(row["brightness"])


def test_merges_wait_for_their_time_and_the_end_writes_what_is_left(tmp_path: Path) -> None:
    one = observer(tmp_path, every=3600.0)
    one.follow(predictor())
    for seed in range(3):
        show(one, scenes(10, seed))
    assert windows(tmp_path).opened().count == 10  # the first is not kept waiting
    one.end()
    assert windows(tmp_path).opened().count == 30


def test_images_that_come_last_are_merged_by_a_timer(tmp_path: Path) -> None:
    one = observer(tmp_path, every=0.05)
    one.follow(predictor())
    show(one, scenes(10, 1))
    show(one, scenes(10, 2))
    until(lambda: windows(tmp_path).opened().count == 20)


def test_each_version_has_windows_of_its_own(tmp_path: Path) -> None:
    one = observer(tmp_path)
    for number in (1, 2):
        one.follow(predictor(number))
        show(one, scenes(10 * number, 0), number)
    show(one, scenes(10, 0), 7)  # nobody said what it is compared with
    assert [windows(tmp_path, number).opened().count for number in (1, 2, 7)] == [10, 20, 0]


def test_versions_that_went_are_let_go_with_what_they_answered(tmp_path: Path) -> None:
    one = observer(tmp_path, every=3600.0)
    for number in range(1, 7):
        one.follow(predictor(number))
        show(one, scenes(10, number), number)
    one.end()
    assert [windows(tmp_path, number).opened().count for number in range(1, 7)] == [10] * 6
    show(one, scenes(10, 1), 1)
    one.end()
    assert windows(tmp_path, 1).opened().count == 10  # it is let go


def test_champion_is_counted_after_any_number_of_challengers(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor(1))
    for number in range(2, 12):
        one.follow(predictor(number), "challenger")
    show(one, scenes(10, 0), 1)
    assert windows(tmp_path, 1).opened().count == 10


def test_versions_that_answered_last_are_kept_of_those_that_went(tmp_path: Path) -> None:
    one = observer(tmp_path)
    for number in (1, 2, 3, 4):
        one.follow(predictor(number))
        show(one, scenes(10, 0), number)
    show(one, scenes(10, 0), 1)
    one.follow(predictor(5))
    for number in (1, 2):
        show(one, scenes(10, 1), number)
    assert [windows(tmp_path, number).opened().count for number in (1, 2)] == [30, 10]


def test_number_that_was_given_again_is_another_version(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor(1))
    other = replace(reference(), input_names=reference().input_names[:4], inputs=reference().inputs[:, :4])
    one.follow(predictor(1, other.to_bytes(), "e" * 64))
    show(one, scenes(10, 0), 1)
    show(one, scenes(20, 0), 1, digest="e" * 64)
    assert windows(tmp_path).opened().count == 10
    folder = folder_of(one.params, "m", 1, "e" * 64)
    assert Windows(folder, other, Rules.of(one.params)).opened().count == 20


def test_metrics_show_versions_that_answer_and_no_other(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor(1))
    show(one, scenes(200, 0), 1)
    one.follow(predictor(2), "challenger")
    show(one, scenes(200, 1), 2)
    assert [f'version="{n}"' in text_of(one) for n in (1, 2)] == [True, True]
    one.follow(predictor(2))
    assert [f'version="{n}"' in text_of(one) for n in (1, 2)] == [False, True]
    show(one, scenes(200, 3), 1)  # one of its last answers
    assert windows(tmp_path, 1).numbers() == [1, 2]
    assert 'version="1"' not in text_of(one)
    one.follow(predictor(1))  # a rollback
    assert f'podium_drift_window{{model="m",version="1",worker="{one.metrics.worker}"}} 2.0' in text_of(one)


def test_features_that_a_window_does_not_have_leave_the_metrics(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    show(one, scenes(200, 0))
    assert 'feature="size"' in text_of(one)
    show(one, scenes(200, 1), size=None)
    assert 'feature="size"' not in text_of(one)
    assert 'feature="brightness"' in text_of(one)


def test_lock_that_another_process_never_gives_back_holds_up_no_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drift_windows, "PATIENCE", 1.0)
    now, waits = [0.0], threading.Event()
    clock = SimpleNamespace(monotonic=lambda: now[0], ctime=time.ctime, sleep=lambda seconds: waits.set())
    monkeypatch.setattr("podium.locks.time", clock)
    one = observer(tmp_path)
    one.follow(predictor(1))
    with locked(folder_of(one.params, "m", 1, DIGEST) / "lock"):
        waiting = threading.Thread(target=show, args=(one, scenes(10, 0)))
        waiting.start()
        waits.wait()
        one.follow(predictor(2))
        assert waiting.is_alive()
        now[0] = 1.0
        waiting.join()
        assert "has been held by another process for more than 1 s" in caplog.text
    show(one, scenes(10, 0), 2)
    assert [windows(tmp_path, number).opened().count for number in (1, 2)] == [10, 10]


def test_taking_up_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("of a bug")

    monkeypatch.setattr(Reference, "from_bytes", fails)
    observer(tmp_path).follow(predictor())
    assert "no statistics are stored: of a bug" in caplog.text
    caplog.clear()
    monkeypatch.undo()
    broken = windows(tmp_path).folder / "windows"
    (broken / "000001.json").mkdir(parents=True)
    (broken / "000001.npz").write_bytes(b"x")
    observer(tmp_path).follow(predictor())
    assert "000001.json can't be read: Is a directory" in caplog.text


def test_images_are_counted_once_where_windows_can_not_be_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    folder = windows(tmp_path).folder
    (folder / "windows").write_text("", encoding="utf-8")
    for _ in range(3):
        show(one, scenes(120, 0))
    assert windows(tmp_path).opened().count == 360
    assert caplog.text.count("Not a directory") == 1


def test_damaged_window_is_put_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    show(one, scenes(10, 0))
    path = windows(tmp_path).folder / "open.npz"
    path.write_bytes(b"PK" + path.read_bytes()[2:-30])
    show(one, scenes(20, 0))
    assert windows(tmp_path).opened().count == 20
    assert "open.npz is damaged" in caplog.text
    assert "it was moved aside as open.npz.damaged" in caplog.text


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [(None, "version 1 was registered by an earlier Podium"), (b"rubbish", "drift.npz of version 1 is damaged")],
)
def test_version_without_statistics_answers_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stored: bytes | None, sentence: str
) -> None:
    one = observer(tmp_path)
    one.follow(predictor(stored=stored))
    show(one, scenes(10, 0))
    assert sentence in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_disk_that_takes_nothing_is_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.follow(predictor())

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for seed in range(3):
            show(one, scenes(10, seed))
    assert caplog.text.count("No space left on device (drift.folder)") == 1
    show(one, scenes(10, 9))
    assert windows(tmp_path).opened().count == 40


def test_no_pixel_is_on_disk(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.follow(predictor())
    pixels = scenes(100, 0)
    show(one, pixels)
    assert pixels.shape[2] == SIDE
    stored = (folder_of(DriftParams(folder=str(tmp_path)), "m", 1, DIGEST) / "open.npz").read_bytes()
    assert len(stored) / len(pixels) < 100  # bytes of an image; its pixels are 768
    assert not any(pixels[row].tobytes()[:32] in stored for row in range(100))


@pytest.mark.parametrize(("canary", "counted"), [(0.0, False), (0.1, True)])
def test_challenger_is_counted_only_where_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: float, *, counted: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    choice: Any = SimpleNamespace(name="m", which="champion", follows="champion", tracking=None)
    made = server._Server(choice, ServeParams(), [], Beside(choice, shadow=True, canary=canary), DriftParams())
    assert made.challenger is not None
    assert made.drift is not None
    made.challenger.follower.on_change(predictor(2))
    made.follower.on_change(predictor(1))
    assert set(made.drift._versions) == ({(1, DIGEST), (2, DIGEST)} if counted else {(1, DIGEST)})
    made.application.end()
