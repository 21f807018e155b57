"""Which test images are shown as pictures."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from podium.data.dataset import Split
from podium.data.image_files import ImageFile
from podium.metrics.plots import LARGEST, SHOWN, gallery, overlay

CLASSES = ("a", "b")


def split(labels: list[int], side: int = 8, channels: int = 3) -> Split:
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, channels, side, side), np.uint8)
    return Split("test", images, np.array(labels), CLASSES, "")


def test_gallery_shows_wrong_predictions_and_close_ones_by_surprise() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.02, 0.98], [0.8, 0.2]])
    found = gallery(split([0, 0, 1, 0, 0]), probabilities)
    assert [(e["kind"], e["index"]) for e in found] == [
        ("worst", 3),
        ("worst", 1),
        ("surprising", 2),
        ("surprising", 4),
        ("surprising", 0),
    ]
    assert found[0] | {"image": ""} == {
        "kind": "worst",
        "index": 3,
        "label": "a",
        "predicted": "b",
        "probability": 0.98,
        "probability_of_label": 0.02,
        "surprise": pytest.approx(-np.log(0.02), abs=1e-4),
        "image": "",
        "file": "",
        "path": "",
        "copies": 1,
    }


@pytest.mark.parametrize(("side", "channels", "shown"), [(8, 1, 8), (LARGEST, 3, LARGEST), (300, 3, LARGEST)])
def test_gallery_picture_is_the_image_no_larger_than_a_thumbnail(side: int, channels: int, shown: int) -> None:
    found = gallery(split([0] * 3, side, channels), np.tile([0.7, 0.3], (3, 1)))
    with Image.open(io.BytesIO(base64.b64decode(found[2]["image"]))) as picture:
        assert picture.size == (shown, shown)
        assert np.asarray(picture.convert("L")).max() == found[2]["index"]


def test_gallery_is_bounded_and_certain_errors_have_a_finite_surprise() -> None:
    found = gallery(split([0] * 50), np.tile([0.0, 1.0], (50, 1)))
    assert len(found) == SHOWN
    assert all(np.isfinite(e["surprise"]) for e in found)


def test_gallery_shows_each_picture_once_with_its_file_and_the_number_of_copies() -> None:
    files = [ImageFile(f"a/{n}.jpg", f"data/raw/a/{n}.jpg", picture) for n, picture in enumerate("xyxzx")]
    copied = replace(split([0] * 5), duplicates=np.array([0, 1, 0, 2, 0]))
    found = gallery(copied, np.array([[0.2, 0.8], [0.3, 0.7], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2]]), files)
    assert [(e["kind"], e["file"], e["copies"]) for e in found] == [
        ("worst", "a/2.jpg", 2),
        ("worst", "a/1.jpg", 1),
        ("surprising", "a/4.jpg", 1),
        ("surprising", "a/3.jpg", 1),
    ]
    assert found[0]["path"] == "data/raw/a/2.jpg"


def test_overlay_is_bright_where_the_heat_is() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[:, 4:] = 1
    with Image.open(io.BytesIO(base64.b64decode(overlay(np.full((1, 8, 8), 100, np.uint8), heat)))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (8, 8, 3)
    assert pixels[:, 4:].mean() > pixels[:, :4].mean() + 30
