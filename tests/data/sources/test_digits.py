import numpy as np

from data.sources.reading import pixels
from podium.config.params import PrepareParams
from podium.data.sources import read


def test_digits_are_1797_images_in_three_equal_channels() -> None:
    source = read(PrepareParams(source="digits"))

    images, labels = pixels(source)
    assert images.shape == (1797, 3, 8, 8)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(images[:, 0], images[:, 2])
    assert source.classes == tuple("0123456789")
    assert np.bincount(labels).min() == 174
    assert {item.split for item in source.items} == {None}
