"""What a registered model says of itself."""

import base64

import numpy as np
import pytest

import tiny
from podium import card
from podium.decode import Preprocess, decode
from podium.trained import TrainedModel

METRICS = {"accuracy": 0.97, "accuracy_low": 0.95, "accuracy_high": 0.98, "macro_f1": 0.96, "ece": 0.01, "nll": 0.1}
METRICS["count"] = 1234
TAGS = {"git_commit": "c" * 40, "git_dirty": "true", "parity_max_difference": "3e-07"}


def trained(classes: list[str]) -> TrainedModel:
    recipe = tiny.recipe().model_dump()
    return TrainedModel(
        recipe, classes, [3, 8, 8], [0.3] * 3, [0.3] * 3, 5, "cpu", "d" * 64, "podium-x", 17, [1, 2], "r" * 32
    )


def test_markdown_tells_figures_configuration_and_origin() -> None:
    text = card.markdown(trained(["left", "right"]), METRICS, TAGS)
    assert text.startswith("**Accuracy 0.9700** (0.9500 to 0.9800) on 1,234 sealed images")
    for words in ("makes them 3x8x8", "left, right", "trial 17 of study `podium-x`", "seeds 1, 2", "width 2"):
        assert words in text
    assert "commit `cccccccccccc`, with uncommitted changes" in text


@pytest.mark.parametrize("count", [1, 10_000])
def test_markdown_of_any_number_of_classes_fits_a_database(count: int) -> None:
    assert len(card.markdown(trained([f"a class with a long name {n}" for n in range(count)]), METRICS, TAGS)) < 4000


def test_right_answers_are_a_few_images_with_what_was_answered() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    probabilities = np.tile(np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32), (10, 1))
    rows = card.right_answers(images, probabilities, ["no", "yes"])
    assert len(rows) == card.ANSWERS
    assert [(row["label"], row["probability"]) for row in rows[:2]] == [("yes", 0.75), ("no", 0.5)]
    for row, image in zip(rows, images, strict=False):
        np.testing.assert_array_equal(decode(base64.b64decode(row["image"]), Preprocess(3, 8, 8)), image)
