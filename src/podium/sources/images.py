"""What every source gives: images of one shape, their labels, and the test images that it sets aside itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawImages:
    """Images as a source has them."""

    images: NDArray[np.uint8]
    """(N, C, H, W), 0 to 255."""
    labels: NDArray[np.int64]
    """(N,), index into `classes`."""
    classes: tuple[str, ...]
    """Names of the classes, in label order."""
    given_test: NDArray[np.bool_] | None = None
    """(N,), true where the source itself sets an image aside for testing; None: it has no split."""
