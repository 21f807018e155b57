"""Where each image belongs: train, validation or sealed test, by what is in it and nothing else.

An image's place is a number in [0, 1) that follows from SHA-256 of the salt, its shape and its pixels. So equal images
share a place, another order of the source changes nothing, and images that are added move none that were there.

Near-duplicates share the lowest place among them; those that are left out count too. So a group that grows can move
towards the test split but never out of it, and what was sealed once is not trained on when images are added. This holds
while groups only grow and no place changes: sealed images stay in the source, near-duplicates are looked for as before
(podium.data.audit.earlier), the decoder and the parameters of `prepare` stay, and the source does not begin to name a
test
split of its own.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from podium.data.dataset import Rows, chunks

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


def fingerprints(images: Rows, salt: str) -> NDArray[np.uint64]:
    """SHA-256 of `salt`, shape and pixels of each of `images` (N, C, H, W), as (N, 4) words, the highest first."""
    start = hashlib.sha256(f"{salt}\x1f{'x'.join(map(str, images.shape[1:]))}\x1f".encode())
    digests = bytearray()
    with tqdm(total=images.shape[0], desc="fingerprints", unit=" images", delay=2, leave=False, disable=None) as bar:
        for chunk in chunks(images):
            for image in chunk:
                sha = start.copy()
                sha.update(image.data)
                digests += sha.digest()
            bar.update(len(chunk))
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64)


def places(prints: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each fingerprint: its first 53 bits, all that a float64 holds."""
    return (prints[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53


def divide(
    prints: NDArray[np.uint64],
    labels: NDArray[np.int64],
    val_fraction: float,
    test_fraction: float,
    given: NDArray[np.int8] | None = None,
    groups: NDArray[np.int64] | None = None,
    used: NDArray[np.bool_] | None = None,
) -> Division:
    """Divide images by their places: test below `test_fraction`, validation the next `val_fraction`, train the rest.

    `given` (N,) is the number in NAMES of the split that the source itself names, -1 where it names none: a split that
    is given is not drawn, and only images given as train, or not at all, are drawn from. `groups` (N,): images with
    one number share a place. `used` (N,): all others belong to no part, but their places count for their groups.
    """
    place = places(prints)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        lowest = np.ones(len(place))
        np.minimum.at(lowest, group, place)
        place = lowest[group]
    used = np.ones(len(place), np.bool_) if used is None else used
    given = np.full(len(place), -1, np.int8) if given is None else given
    free = used & (given <= 0)
    test, val = used & (given == 2), used & (given == 1)
    if not test.any():
        test = free & (place < test_fraction)
    else:
        test_fraction = 0.0
    if not val.any():
        val = free & ~test & (place < test_fraction + val_fraction)
    order = in_order(prints, labels)
    train = used & ~test & ~val
    return Division(order[train[order]], order[val[order]], order[test[order]])


def in_order(prints: NDArray[np.uint64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by fingerprint, then by label."""
    return np.lexsort((labels, *prints.T[::-1])).astype(np.int64)
