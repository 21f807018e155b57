"""Real handwriting that is inside a package: scikit-learn's digits, 1,797 images of 8x8.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from podium.data.sources import ImageSource
from podium.data.sources.item import Item
from podium.data.sources.source import Source

if TYPE_CHECKING:
    from podium.config.params import PrepareParams


class Digits(ImageSource):
    """Real handwriting inside scikit-learn: no files are needed."""

    NAME: ClassVar[str] = "digits"

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """All 1,797 of them."""
        return read()


def read() -> Source:
    """The digits as (3, 8, 8) uint8: grey values 0 to 16 stretched to 0 to 255, in three equal channels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    items = [
        Item(f"digits[{i}]", int(k), None, image) for i, (image, k) in enumerate(zip(images, bunch.target, strict=True))
    ]
    return Source("digits", tuple(str(name) for name in bunch.target_names), items)
