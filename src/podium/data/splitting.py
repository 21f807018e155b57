"""The split of each image, train, validation or held-out test, by what is in it and nothing else.

An image's hash bucket is a number in [0, 1) that follows from SHA-256 of the salt, its shape and its pixels. So equal
images share a bucket, another order of the source changes nothing, and images that are added move none that were there.

Near-duplicates share the lowest bucket among them; those that are left out count too. So a group that grows can move
towards the test split but never out of it, and what was held out once is not trained on when images are added.

Images that the source itself groups (a patient, a scene, a burst) stay together as well. Their bucket follows from the
group's name: the lowest of many buckets would bring nearly every large group into the test split. Where near-duplicates
connect groups, the lowest bucket of these counts. A split then gets its fraction of the groups, hardly exactly that of
the images.

An image is not trained on after it was held out as long as groups only grow and no bucket changes: images of the test
split stay in the source, near-duplicates are looked for as before (podium.data.audit.data_audit), the decoder and the
parameters of `prepare` stay, and the source does not begin to name splits or groups of its own, or others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from podium.data.dataset import Rows, chunks
from podium.errors import InputError

NAMES = ("train", "val", "test")
SHOWN = 5
"""Groups that an error names."""


@dataclass(frozen=True)
class Division:
    """The rows of each split, in the order of the images' fingerprints (equal images: by label)."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The rows by the split's name."""
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
    return _words(bytes(digests))


def hash_buckets(prints: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each fingerprint: its first 53 bits, all that a float64 holds."""
    return (prints[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class SourceGroups:
    """The groups that a source names: images that belong together, such as those of a patient, a scene or a burst."""

    names: tuple[str, ...]
    numbers: NDArray[np.int64]
    """(N,) index into `names`; -1: the image is in no group."""

    @staticmethod
    def of(groups: Sequence[str | None]) -> "SourceGroups":
        """From the name of each image's group."""
        names = tuple(sorted({name for name in groups if name is not None}))
        number = {name: index for index, name in enumerate(names)}
        return SourceGroups(names, np.array([-1 if name is None else number[name] for name in groups], np.int64))

    def buckets(self, prints: NDArray[np.uint64], salt: str) -> NDArray[np.float64]:
        """The hash bucket of each image (N,): that of its group's name if it is in a group, else of its fingerprint."""
        buckets = hash_buckets(prints)
        if self.names:
            digests = b"".join(hashlib.sha256(f"{salt}\x1fgroup\x1f{name}".encode()).digest() for name in self.names)
            inside = self.numbers >= 0
            buckets[inside] = hash_buckets(_words(digests))[self.numbers[inside]]
        return buckets

    def joined(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) images share a number if they share one in `groups` or a group of the source, or others connect them."""
        if not self.names:
            return groups
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        found, group = np.unique(groups, return_inverse=True)
        inside = np.flatnonzero(self.numbers >= 0)
        size = len(found) + len(self.names)
        edges = group[inside], len(found) + self.numbers[inside]
        graph = coo_array((np.ones(len(inside), np.int8), edges), shape=(size, size))
        _, component = connected_components(graph, directed=False)
        joined: NDArray[np.int64] = component[group].astype(np.int64)
        return joined

    def given(self, given: NDArray[np.int8]) -> NDArray[np.int8]:
        """`given` as `divide` takes it, where an image without a split has that of its group.

        Raises InputError where a group is in several splits.
        """
        inside = self.numbers >= 0
        present = np.zeros((len(self.names), len(NAMES)), np.bool_)
        named = inside & (given >= 0)
        present[self.numbers[named], given[named]] = True
        if wrong := np.flatnonzero(present.sum(1) > 1).tolist():
            shown = [f"{self.names[k]!r} ({', '.join(np.array(NAMES)[present[k]])})" for k in wrong[:SHOWN]]
            more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
            raise InputError(
                "prepare.source: all images of a group must be in one split; the source names several splits for"
                f" {', '.join(shown)}{more}. Give all images of a group the same split, or no split"
            )
        whole = given.copy()
        inherits = np.flatnonzero(inside)
        inherits = inherits[present[self.numbers[inherits]].any(1)]
        whole[inherits] = present[self.numbers[inherits]].argmax(1)
        return whole


def divide(
    prints: NDArray[np.uint64],
    labels: NDArray[np.int64],
    val_fraction: float,
    test_fraction: float,
    given: NDArray[np.int8] | None = None,
    groups: NDArray[np.int64] | None = None,
    used: NDArray[np.bool_] | None = None,
    buckets: NDArray[np.float64] | None = None,
) -> Division:
    """Split images by their buckets: test below `test_fraction`, validation the next `val_fraction`, train the rest.

    `given` (N,) is the number in NAMES of the split that the source itself names, -1 where it names none: a split that
    is given is not drawn, and only images given as train, or not at all, are drawn from. `groups` (N,): images with
    one number share the lowest bucket among them. `used` (N,): all others belong to no split, but their buckets count
    for their groups. `buckets` (N,): those of the fingerprints unless given.
    """
    bucket = hash_buckets(prints) if buckets is None else buckets
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        lowest = np.ones(len(bucket))
        np.minimum.at(lowest, group, bucket)
        bucket = lowest[group]
    used = np.ones(len(bucket), np.bool_) if used is None else used
    given = np.full(len(bucket), -1, np.int8) if given is None else given
    free = used & (given <= 0)
    test, val = used & (given == 2), used & (given == 1)
    if not test.any():
        test = free & (bucket < test_fraction)
    else:
        test_fraction = 0.0
    if not val.any():
        val = free & ~test & (bucket < test_fraction + val_fraction)
    order = in_order(prints, labels)
    train = used & ~test & ~val
    return Division(order[train[order]], order[val[order]], order[test[order]])


def in_order(prints: NDArray[np.uint64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by fingerprint, then by label."""
    return np.lexsort((labels, *prints.T[::-1])).astype(np.int64)


def _words(digests: bytes) -> NDArray[np.uint64]:
    """SHA-256 digests, one after the other, as (N, 4) words."""
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64)
