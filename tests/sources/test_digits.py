import numpy as np

from podium.params import PrepareParams
from podium.sources import read


def test_digits_are_1797_images_in_three_equal_channels() -> None:
    raw = read(PrepareParams(source="digits"))

    assert raw.images.shape == (1797, 3, 8, 8)
    assert raw.images.dtype == np.uint8
    assert (raw.images.min(), raw.images.max()) == (0, 255)
    assert np.array_equal(raw.images[:, 0], raw.images[:, 2])
    assert raw.classes == tuple("0123456789")
    assert np.bincount(raw.labels).min() == 174
    assert raw.given_test is None
