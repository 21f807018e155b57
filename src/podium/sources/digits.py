"""Real handwriting that is inside a package: scikit-learn's digits, 1,797 images of 8x8.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

import numpy as np

from podium.sources.images import RawImages


def read() -> RawImages:
    """The digits as (1797, 3, 8, 8) uint8: grey values 0 to 16 stretched to 0 to 255, in three equal channels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    return RawImages(images, bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names))
