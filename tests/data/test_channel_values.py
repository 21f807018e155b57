"""Statistics of the channels of images that are read a slice at a time."""

import numpy as np
import pytest

from podium.data.channel_values import Counted


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_of_many_slices_are_those_of_the_whole(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (37, channels, 4, 5), dtype=np.uint8)
    counted = Counted(images)

    read = [counted[start : start + 7] for start in range(0, 42, 7)]

    assert np.array_equal(np.concatenate(read), images)
    mean, std = counted.statistics()
    assert mean == pytest.approx((images / 255).mean(axis=(0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx((images / 255).std(axis=(0, 2, 3)).tolist(), rel=1e-12)


def test_statistics_do_not_depend_on_the_order_or_the_memory_layout() -> None:
    images = np.random.default_rng(1).integers(0, 256, (9, 3, 6, 2), dtype=np.uint8)
    one, other = Counted(images), Counted(np.asfortranarray(images[::-1]))

    assert one[0:9].shape == other[0:9].shape == one.shape

    assert one.statistics() == other.statistics()
