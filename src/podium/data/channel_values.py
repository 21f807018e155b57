"""How often each channel of images has each of the 256 values, counted while the images pass by."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.dataset import Rows


class Counted:
    """Images as they are, of which the values are counted in whatever slice of them is read: to be read once."""

    def __init__(self, images: Rows) -> None:
        self._images = images
        self._counts = np.zeros((images.shape[1], 256), np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self._images.shape

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        some = self._images[rows]
        for channel, counts in enumerate(self._counts):
            values = np.ascontiguousarray(some[:, channel]).reshape(len(some), -1)
            if values.size:  # Pillow's histogram takes a fifth of the time of numpy's bincount
                counts += Image.fromarray(values).histogram()
        return some

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of what was read, on a scale of 0 to 1.

        From counts, so the result is exact and does not depend on the images' order.
        """
        counts, values = self._counts, np.arange(256) / 255
        mean = counts @ values / counts.sum(1)
        variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
        return mean.tolist(), np.sqrt(variance).tolist()
