"""Pictures can be opened, stay small, and are the same for the same numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.metrics.classification import Metrics, measure
from podium.metrics.plots import draw_calibration, draw_confusion

Draw = Callable[[Path, Metrics], None]
BOTH = pytest.mark.parametrize("draw", [draw_confusion, draw_calibration])


def some_metrics(classes: Sequence[str], seed: int = 0) -> Metrics:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), 20 * len(classes))
    logits = rng.normal(size=(len(labels), len(classes)))
    logits[np.arange(len(labels)), labels] += 3
    return measure(labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), classes)


@BOTH
@pytest.mark.parametrize("count", [2, 10, 100, 501])
def test_picture_any_number_of_classes_is_a_small_png(tmp_path: Path, draw: Draw, count: int) -> None:
    path = tmp_path / "picture.png"
    draw(path, some_metrics([f"class {k}" for k in range(count)]))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert all(200 <= side <= 1300 for side in picture.size)
    assert path.stat().st_size < 200_000


@BOTH
def test_picture_same_numbers_is_the_same_file_and_others_are_not(tmp_path: Path, draw: Draw) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    for path, seed in zip(files, (0, 0, 1), strict=True):
        draw(path, some_metrics(["a", "b", "c"], seed))
    first, again, other = (path.read_bytes() for path in files)
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", ["$a$", r"$\frac$", "\u732b", "x" * 300, "two\nlines", ""])
def test_confusion_odd_class_name_is_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    draw_confusion(tmp_path / "picture.png", some_metrics([name, "other"]))
    assert (tmp_path / "picture.png").stat().st_size > 1000


@BOTH
def test_picture_one_image_is_drawn(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "picture.png", measure(np.array([0]), np.array([[0.2, 0.8]]), ("a", "b")))
    assert (tmp_path / "picture.png").is_file()
