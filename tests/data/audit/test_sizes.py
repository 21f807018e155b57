"""Sizes of a set: the histogram of the page, and what resizing costs."""

import re

import numpy as np
import pytest

from podium.data.audit.sizes import about_resizing, histogram
from podium.data.decode import Preprocess


def test_histogram_counts_shorter_sides_between_the_first_and_the_last() -> None:
    sizes = np.array([(8, 300), (100, 10), (64, 64), (64, 64), (127, 200)], np.int32)

    assert histogram(sizes) == [
        [8, 16, 2],
        [16, 24, 0],
        [24, 32, 0],
        [32, 48, 0],
        [48, 64, 0],
        [64, 96, 2],
        [96, 128, 1],
    ]
    assert histogram(np.array([(9000, 9000)], np.int32)) == [[8192, 0, 1]]
    assert histogram(np.empty((0, 2), np.int32)) == []


@pytest.mark.parametrize(
    ("resize", "sentence"),
    [
        ("crop", "2 of 3 images .* cropped to the middle: 33% of an image is cut off .median; 50% at most."),
        ("pad", "padded: 33% of a prepared image is background .median; 50% at most."),
        ("stretch", "stretched: one side by a factor of up to 2 more than the other"),
    ],
)
def test_resizing_says_what_it_costs(resize: str, sentence: str) -> None:
    sizes = np.array([(300, 200), (100, 200), (64, 64)], np.int32)

    assert re.search(sentence, about_resizing(sizes, Preprocess(3, 32, 32, resize=resize)))


def test_resizing_of_the_same_ratio_costs_nothing() -> None:
    sizes = np.array([(300, 200), (150, 100)], np.int32)

    assert "nothing is cut off" in about_resizing(sizes, Preprocess(3, 20, 30, resize="crop"))
