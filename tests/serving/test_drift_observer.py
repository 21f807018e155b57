"""What a server keeps of answered images: windows of each version, merged in time, and metrics; no pixel."""

import io
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drift_world import CLASSES, SIDE, Pixels, answer, as_pixels, reference, scenes
from podium.config.params import DriftParams
from podium.drift.windows import Rules, Windows, folder_of
from podium.serving import drift_observer
from podium.serving.drift_observer import DriftObserver
from podium.serving.observers import Answers, Images
from podium.serving.server_metrics import ServerMetrics

DIGEST = "d" * 64


def predictor(number: int = 1, stored: bytes | None = b"") -> Any:
    """A version of drift_world's model; `stored`: its file drift.npz, the right one unless given."""
    inside = SimpleNamespace(reference=reference().to_bytes() if stored == b"" else stored)
    return SimpleNamespace(number=number, digest=DIGEST, loaded=inside)


def observer(folder: Path, every: float = 0.0, **params: object) -> DriftObserver:
    drift_observer.EVERY = every  # `as_before` undoes it
    made = DriftParams(**{"window": 200, "folder": str(folder)} | params)
    return DriftObserver(made, "m", ServerMetrics())


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_observer, "EVERY", drift_observer.EVERY)


def show(one: DriftObserver, pixels: Pixels, number: int = 1, size: tuple[int, int] = (32, 24)) -> None:
    """Images of `size` as PNG files, of which the network got `pixels`, were answered."""
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    files = [buffer.getvalue()] * len(pixels)
    images = Images("image", files, pixels, range(len(pixels)), len(pixels), pixels.nbytes)
    one.seen("id", images, Answers(number, CLASSES, answer(pixels), 0.01))


def windows(folder: Path, number: int = 1) -> Windows:
    params = DriftParams(window=200, folder=str(folder))
    return Windows(folder_of(params, "m", number, DIGEST), reference(), Rules.of(params))


def text_of(one: DriftObserver) -> str:
    return one.metrics.text().decode()


def test_answered_images_fill_windows_whose_drift_is_logged_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.take_up(predictor())
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


def test_first_window_of_all_is_logged_and_one_of_before_a_restart_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.take_up(predictor())
    show(one, as_pixels(scenes(200, 1) * 0.6))
    assert "drift: version 1, window 1" in caplog.text
    caplog.clear()
    again = observer(tmp_path)
    again.take_up(predictor())
    assert f'podium_drift{{model="m",version="1",worker="{again.metrics.worker}"}} 1.0' in text_of(again)
    assert caplog.text == ""


def test_sizes_are_those_of_the_files_as_sent(tmp_path: Path) -> None:
    one = observer(tmp_path)
    one.take_up(predictor())
    show(one, scenes(200, 0), size=(64, 48))
    (verdict,) = windows(tmp_path).settle()
    assert verdict.words == "larger images"


@pytest.mark.parametrize(
    ("column", "value", "size"),
    [("array", [[0] * 5] * 3, (5, 3)), ("image", b"no image", (0, 0)), ("array", [[[1, 2, 3]] * 2], (2, 1))],
)
def test_size_of_what_was_sent(tmp_path: Path, column: Any, value: Any, size: tuple[int, int]) -> None:
    one = observer(tmp_path)
    one.take_up(predictor())
    pixels = scenes(1, 0)
    one.seen("id", Images(column, [value], pixels, [0], 1, 1), Answers(1, CLASSES, answer(pixels), 0.01))
    row = dict(zip(reference().names, windows(tmp_path).opened().rows[0], strict=True))
    assert np.isnan(row["size"]) if size == (0, 0) else row["size"] == pytest.approx(np.sqrt(size[0] * size[1]))


def test_merges_wait_for_their_time_and_the_end_writes_what_is_left(tmp_path: Path) -> None:
    one = observer(tmp_path, every=3600.0)
    one.take_up(predictor())
    for seed in range(3):
        show(one, scenes(10, seed))
    assert windows(tmp_path).opened().count == 10  # the first is not kept waiting
    one.end()
    assert windows(tmp_path).opened().count == 30


def test_images_that_come_last_are_merged_by_a_timer(tmp_path: Path) -> None:
    one = observer(tmp_path, every=0.05)
    one.take_up(predictor())
    show(one, scenes(10, 1))
    show(one, scenes(10, 2))
    for _ in range(500):  # until the timer's thread had its turn
        if windows(tmp_path).opened().count == 20:
            return
        time.sleep(0.02)
    raise AssertionError("the second images were never merged")


def test_each_version_has_windows_of_its_own(tmp_path: Path) -> None:
    one = observer(tmp_path)
    for number in (1, 2):
        one.take_up(predictor(number))
        show(one, scenes(10 * number, 0), number)
    show(one, scenes(10, 0), 7)  # nobody said what it is compared with
    assert [windows(tmp_path, number).opened().count for number in (1, 2, 7)] == [10, 20, 0]


def test_versions_that_went_are_let_go_with_what_they_answered(tmp_path: Path) -> None:
    one = observer(tmp_path, every=3600.0)
    for number in range(1, 7):
        one.take_up(predictor(number))
        show(one, scenes(10, number), number)
    assert [windows(tmp_path, number).opened().count for number in range(1, 7)] == [10, 10, 0, 0, 0, 0]
    one.end()
    assert [windows(tmp_path, number).opened().count for number in range(1, 7)] == [10] * 6


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [(None, "version 1 was registered by an earlier Podium"), (b"rubbish", "drift.npz of version 1 is damaged")],
)
def test_version_without_statistics_answers_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stored: bytes | None, sentence: str
) -> None:
    one = observer(tmp_path)
    one.take_up(predictor(stored=stored))
    show(one, scenes(10, 0))
    assert sentence in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_disk_that_takes_nothing_is_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = observer(tmp_path)
    one.take_up(predictor())

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
    one.take_up(predictor())
    pixels = scenes(100, 0)
    show(one, pixels)
    assert pixels.shape[2] == SIDE
    stored = (folder_of(DriftParams(folder=str(tmp_path)), "m", 1, DIGEST) / "open.npz").read_bytes()
    assert len(stored) / len(pixels) < 100  # bytes of an image; its pixels are 768
    assert not any(pixels[row].tobytes()[:32] in stored for row in range(100))
