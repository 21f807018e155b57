"""Where each image belongs: train, validation or sealed test, by what is in it and nothing else.

An image's place is a number in [0, 1) that follows from SHA-256 of the salt, its shape and its pixels. So equal images
share a place, another order of the source changes nothing, and images that are added move none that were there.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Division:
    """The rows of each part, in the order of the images' fingerprints (equal images: by label)."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The rows by the part's name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def fingerprints(images: NDArray[np.uint8], salt: str) -> NDArray[np.uint64]:
    """SHA-256 of `salt`, shape and pixels of each of `images` (N, C, H, W), as (N, 4) words, the highest first."""
    start = hashlib.sha256(f"{salt}\x1f{'x'.join(map(str, images.shape[1:]))}\x1f".encode())
    digests = bytearray()
    for image in tqdm(images, "fingerprints", unit=" images", delay=2, leave=False, disable=None):
        sha = start.copy()
        sha.update(np.ascontiguousarray(image).data)
        digests += sha.digest()
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64)


def places(prints: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each fingerprint: its first 53 bits, all that a float64 holds."""
    return (prints[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53


def divide(
    prints: NDArray[np.uint64],
    labels: NDArray[np.int64],
    val_fraction: float,
    test_fraction: float,
    given_test: NDArray[np.bool_] | None = None,
) -> Division:
    """Divide images by their places: test below `test_fraction`, validation the next `val_fraction`, train the rest.

    With `given_test` (N,) those images are the test part, and validation is `val_fraction` of the others.
    """
    place = places(prints)
    if given_test is None:
        test = place < test_fraction
        val = ~test & (place < test_fraction + val_fraction)
    else:
        test = given_test
        val = ~test & (place < val_fraction)
    order = in_order(prints, labels)
    train = ~test & ~val
    return Division(order[train[order]], order[val[order]], order[test[order]])


def in_order(prints: NDArray[np.uint64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by fingerprint, then by label."""
    return np.lexsort((labels, *prints.T[::-1])).astype(np.int64)
