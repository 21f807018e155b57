"""What is measured of images and answers: known values, and what must not change a feature."""

import numpy as np
import pytest
from numpy.typing import NDArray

from drift_world import answer, as_pixels, blurred, noisy, reference, scenes
from podium.drift.image_features import INPUTS, answer_features, measure_answers, measure_images, measure_sizes


def full(red: int, green: int, blue: int, side: int = 6) -> NDArray[np.uint8]:
    return np.full((1, 3, side, side), 0, np.uint8) + np.array([red, green, blue], np.uint8)[:, None, None]


@pytest.mark.parametrize(
    ("image", "name", "value"),
    [
        (full(0, 0, 0), "brightness", 0.0),
        (full(255, 255, 255), "brightness", 1.0),
        (full(255, 0, 0), "brightness", 0.299),
        (full(255, 0, 0), "warmth", 1.0),
        (full(0, 0, 255), "warmth", -1.0),
        (full(0, 255, 0), "tint", 1.0),
        (full(200, 100, 100), "saturation", 100 / 255),
        (full(9, 9, 9), "sharpness", 0.0),
        (full(9, 9, 9), "noise", 0.0),
    ],
)
def test_feature_of_a_plain_image(image: NDArray[np.uint8], name: str, value: float) -> None:
    assert measure_images(image)[name][0] == pytest.approx(value, abs=1e-5)


def test_noise_is_immerkaers_estimate_of_its_standard_deviation() -> None:
    draw = np.random.default_rng(0)
    image = as_pixels(128 + draw.normal(0, 20, (1, 1, 200, 200)))
    found = measure_images(image)
    assert found["contrast"][0] * 255 == pytest.approx(20, rel=0.02)
    assert found["noise"][0] == pytest.approx(1.0, rel=0.02)  # all of the contrast is noise


def test_darker_images_are_neither_blurred_nor_less_noisy() -> None:
    images = scenes(50, seed=0)
    before, after = measure_images(images), measure_images(as_pixels(images * 0.5))
    for name in ("sharpness", "noise"):
        assert np.median(after[name] / before[name]) == pytest.approx(1, abs=0.03)
    assert (measure_images(blurred(images))["sharpness"] < before["sharpness"]).mean() > 0.95
    assert (measure_images(noisy(images))["noise"] > before["noise"]).mean() > 0.85


def test_grey_images_have_no_colours() -> None:
    assert set(measure_images(np.zeros((2, 1, 4, 4), np.uint8))) == {"brightness", "contrast", "sharpness", "noise"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (3, 3), (5, 1)])
def test_images_of_any_shape_give_numbers(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 3, *shape), dtype=np.uint8)
    assert all(np.isfinite(values).all() and values.shape == (3,) for values in measure_images(images).values())


def test_images_measured_together_are_as_measured_alone() -> None:
    images = scenes(7, seed=4)
    whole = measure_images(images)
    for name, values in whole.items():
        alone = [measure_images(images[row : row + 1])[name][0] for row in range(7)]
        assert values == pytest.approx(alone, abs=1e-5), name


def test_turned_image_has_the_same_size() -> None:
    found = measure_sizes(np.array([[400, 100], [100, 400]]))
    assert found["size"].tolist() == [200, 200]
    assert found["elongation"].tolist() == [4, 4]


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_answers_have_their_features_also_at_certainty(classes: int) -> None:
    probabilities = np.eye(classes, dtype=np.float32)[:2]
    found = measure_answers(probabilities)
    assert list(found) == [one.name for one in answer_features(classes)]
    assert all(np.isfinite(values).all() for values in found.values())


def test_names_and_words_are_different() -> None:
    names = [one.name for one in (*INPUTS, *answer_features(1000))]
    assert len(set(names)) == len(names)
    words = [word for one in INPUTS for word in (one.lower, one.higher)]
    assert len(set(words)) == len(words)
    assert set(reference().names) == {*names} - {"logits 4"}  # four classes have three dimensions
    assert answer(scenes(3, seed=0)).shape == (3, 4)
