"""The split of each image: train, validation or held-out test. Remembered for those that have one, drawn for the rest.

What is known stays (podium.data.split_file): an image that was placed once keeps its split, whatever becomes of the
parameters and of other images. A new image goes where its group is: near-duplicates, and images that the source groups
(a patient, a scene, a burst), share a split. What is in no such group is drawn, class by class, so that each split gets
its fraction of each class to within one group.

A new image that joins images of several splits is in none of them: in train it would be a near-duplicate of a test
image, in test one of a training image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import Numbers
from podium.data.shards import starts_of
from podium.data.split_draw import Units, draw, numbered
from podium.data.split_file import NOWHERE, PLACES
from podium.errors import InputError
from podium.text import counted

NAMES = PLACES[:NOWHERE]
SHOWN = 5
"""Groups or images that an error names."""


@dataclass(frozen=True)
class Division:
    """The rows of each split, in the order of the images' fingerprints (equal images: by label)."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    starts: dict[str, NDArray[np.int64]]
    """By the split's name, where it may be divided into files: podium.data.shards."""

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The rows by the split's name."""
        return {"train": self.train, "val": self.val, "test": self.test}


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
        if not names:
            return SourceGroups.none(len(groups))
        number = {name: index for index, name in enumerate(names)}
        return SourceGroups(names, np.array([-1 if name is None else number[name] for name in groups], np.int64))

    @staticmethod
    def none(count: int) -> "SourceGroups":
        """Of `count` images of which none is in a group; no memory for each."""
        return SourceGroups((), np.broadcast_to(np.int64(-1), count))

    @staticmethod
    def numbered(names: Sequence[str], numbers: NDArray[np.integer[Any]]) -> "SourceGroups":
        """From the number of each image's group among `names`, -1 for none; names of no image are left out."""
        used = np.zeros(len(names), np.bool_)
        used[numbers[numbers >= 0]] = True
        order = sorted(np.flatnonzero(used).tolist(), key=lambda k: names[k])
        new = np.full(len(names) + 1, -1, np.int64)  # the last one stands for none
        new[order] = np.arange(len(order))
        return SourceGroups(tuple(names[k] for k in order), new[numbers])

    def joined(self, groups: Numbers, inside: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """(N,) images share a number if they share one in `groups` or a group of the source, or others connect them.

        `inside` (N,): images that connect; all others are alone.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(groups)
        inside = np.ones(count, np.bool_) if inside is None else inside
        near, group = numbered(groups)
        if not self.names:  # nothing joins what is near each other; the graph takes 60 bytes an image
            return np.where(inside, group, near + np.arange(count))
        first, second = np.flatnonzero(inside), np.flatnonzero(inside & (self.numbers >= 0))
        nodes = np.concatenate([count + group[first], count + near + self.numbers[second]])
        images = np.concatenate([first, second])
        size = count + near + len(self.names)
        graph = coo_array((np.ones(len(images), np.int8), (images, nodes)), shape=(size, size))
        _, component = connected_components(graph, directed=False)
        joined: NDArray[np.int64] = component[:count].astype(np.int64)
        return joined

    def check(self, places: NDArray[np.int8], why: str) -> None:
        """Raise InputError where a group has images in several of `places` (N,), -1: none; `why` ends the message."""
        present = self.present(places)
        if wrong := np.flatnonzero(present.sum(1) > 1).tolist():
            shown = [f"{self.names[k]!r} ({', '.join(np.array(NAMES)[present[k]])})" for k in wrong[:SHOWN]]
            more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
            raise InputError(
                "prepare.source: all images of a group must be in one split, and these have images in several:"
                f" {', '.join(shown)}{more}. {why}"
            )

    def present(self, places: NDArray[np.int8]) -> NDArray[np.bool_]:
        """(groups, 3) which splits images of each group are in."""
        return _present(self.numbers, len(self.names), places)


@dataclass(frozen=True)
class Images:
    """The images of a source, as far as their splits follow from it; arrays of one length N."""

    contents: NDArray[np.uint64]
    """Digests: podium.data.content."""
    labels: NDArray[np.int64]
    given: NDArray[np.int8]
    """Number in NAMES of the split that the source itself names; -1: none."""
    near: Numbers
    """Near-duplicates share a number."""
    groups: SourceGroups
    used: NDArray[np.bool_]
    """The others belong to no split, but share the place of their group."""
    known: NDArray[np.int8]
    """Place that the split file remembers; -1: none."""
    origins: Sequence[str]
    """What errors call them."""
    keys: NDArray[np.uint64] | None = None
    """What images are drawn by: former digests, so that a new set is split as by earlier versions. None: `contents`."""


@dataclass(frozen=True)
class Placed:
    """Where each of N images goes."""

    places: NDArray[np.int8]
    """(N,) index into PLACES; -1: in no split, and not remembered."""
    groups: NDArray[np.int64]
    """(N,) images with one number share a split."""
    groups_per_class: NDArray[np.int64]
    """(K,) of the used images that the source gives no validation or test split."""


def place(
    images: Images, classes: Sequence[str], val_fraction: float, test_fraction: float, salt: str, remembered: str
) -> Placed:
    """Where each image goes; `remembered`: the name of the split file, for errors.

    Only a split that the source does not give is drawn, and only from images that it gives as train or not at all.
    Raises InputError where the source gives an image, or a group, another split than one of them has.
    """
    missing = [k for k in (1, 2) if not (images.used & (images.given == k)).any()]
    allowed = _allowed(images.given, missing)
    images.groups.check(images.given, "Give all images of a group the same split, or no split")
    _check_given(images, allowed, remembered)
    places = _inherited(images, _fixed(images, allowed, missing, remembered), allowed)
    together = images.groups.joined(images.near, places != NOWHERE)
    places = _spread(places, together, allowed)
    drawn_from = images.used & (images.given <= 0) & (places != NOWHERE)
    fractions = np.array([0.0, val_fraction * (1 in missing), test_fraction * (2 in missing)])
    fractions[0] = 1 - fractions.sum()
    have = np.zeros((len(classes), len(NAMES)), np.int64)
    settled = drawn_from & (places >= 0)
    np.add.at(have, (images.labels[settled], places[settled]), 1)
    free = np.flatnonzero(places < 0)
    keys = images.contents if images.keys is None else images.keys
    units, unit = Units.of(keys[free], images.labels[free], together[free], drawn_from[free], salt)
    places[free] = draw(units, have, fractions, classes)[unit]
    return Placed(places, together, _groups_per_class(images.labels, together, drawn_from, len(classes)))


def may_take(given: NDArray[np.int8], used: NDArray[np.bool_], places: NDArray[np.int8]) -> NDArray[np.bool_]:
    """(N,) whether the source, which gives the splits `given` (N,), lets each image be in `places` (N,), -1: none."""
    missing = [k for k in (1, 2) if not (used & (given == k)).any()]
    fits: NDArray[np.bool_] = _allowed(given, missing)[np.arange(len(given)), np.clip(places, 0, NOWHERE - 1)]
    return fits & (places >= 0) | np.equal(places, NOWHERE)


def in_order(prints: NDArray[np.uint64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by fingerprint, then by label."""
    return np.lexsort((labels, *prints.T[::-1])).astype(np.int64)


def division(
    places: NDArray[np.int8], used: NDArray[np.bool_], prints: NDArray[np.uint64], labels: NDArray[np.int64]
) -> Division:
    """The rows of each split among the images that are used."""
    order = in_order(prints, labels)
    train, val, test = (order[(used & (places == k))[order]] for k in range(len(NAMES)))
    starts = {name: starts_of(prints[rows, :1]) for name, rows in zip(NAMES, (train, val, test), strict=True)}
    return Division(train, val, test, starts)


def _allowed(given: NDArray[np.int8], missing: list[int]) -> NDArray[np.bool_]:
    """(N, 3) splits that each image may be in by what the source gives; `missing`: those that it does not give."""
    allowed = np.ones((len(given), len(NAMES)), np.bool_)
    for k in range(len(NAMES)):
        allowed[given == k] = [k == other or (k == 0 and other in missing) for other in range(len(NAMES))]
    return allowed


def _check_given(images: Images, allowed: NDArray[np.bool_], remembered: str) -> None:
    """Raise InputError where the source gives an image another split than it has.

    Equal images in several given splits are a leak, which the audit reports: they have one line in the split file.
    """
    rows = np.flatnonzero((images.known >= 0) & (images.known < NOWHERE) & (images.given >= 0))
    if not len(rows):
        return
    known = images.known[rows]
    _, content = np.unique(images.contents[rows], return_inverse=True)
    fits = np.zeros(len(rows), np.bool_)
    np.logical_or.at(fits, content, allowed[rows, known])
    wrong = rows[~fits[content]]
    if not len(wrong):
        return
    pairs = np.unique(np.stack([images.known[wrong], images.given[wrong]], 1), axis=0).tolist()
    moves = ", ".join(f"{NAMES[a]} to {NAMES[b]}" for a, b in pairs)
    shown = [f"{images.origins[row]!r} (it was {NAMES[images.known[row]]})" for row in wrong[:SHOWN].tolist()]
    more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    raise InputError(
        f"prepare.source: gives {counted(len(wrong), 'image')} another split than {remembered} remembers ({moves}):"
        f" {', '.join(shown)}{more}. A test image must not be trained on, nor a training image be a test image of the"
        f" same models. Give each image the split that it had, or delete {remembered} to split all images again:"
        " models trained before have then seen images of the new test set"
    )


def _fixed(images: Images, allowed: NDArray[np.bool_], missing: list[int], remembered: str) -> NDArray[np.int8]:
    """The places (N,) that the source gives and the file remembers; -1: none. Raises InputError for a torn group."""
    known = images.known.copy()
    inside = np.flatnonzero((known >= 0) & (known < NOWHERE))
    known[inside[~allowed[inside, known[inside]]]] = -1
    images.groups.check(
        np.where((known == NOWHERE) | (images.given > 0), np.int8(-1), known),
        f"They were placed before they were one group ({remembered}). Take these groups apart again, or delete that"
        " file to split all images again: models trained before have then seen images of the new test set",
    )
    known = np.where(images.given > 0, images.given, known)
    return known if missing else np.where(images.given == 0, np.int8(0), known)


def _inherited(images: Images, fixed: NDArray[np.int8], allowed: NDArray[np.bool_]) -> NDArray[np.int8]:
    """`fixed`, and the place of each other image's own near-duplicates and group where these are in one split."""
    count, near = numbered(images.near)
    of = _present(near, count, fixed)[near]
    inside = images.groups.numbers >= 0
    of[inside] |= images.groups.present(fixed)[images.groups.numbers[inside]]
    return _settled(fixed, of & allowed)


def _spread(places: NDArray[np.int8], together: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.int8]:
    """`places`, and that of its whole group for each image that has none."""
    count, group = numbered(together)
    return _settled(places, _present(group, count, places)[group] & allowed)


def _settled(places: NDArray[np.int8], of: NDArray[np.bool_]) -> NDArray[np.int8]:
    """`places`, where an image without one gets the only split in `of` (N, 3), and none where there are several."""
    count = of.sum(1)
    new = np.where(count == 1, of.argmax(1), np.where(count > 1, NOWHERE, -1)).astype(np.int8)
    return np.where(places < 0, new, places).astype(np.int8)


def _present(numbers: NDArray[np.int64], count: int, places: NDArray[np.int8]) -> NDArray[np.bool_]:
    """(count, 3) which splits the images of each of `count` groups are in; `numbers` (N,): -1 for no group."""
    present = np.zeros((count, len(NAMES)), np.bool_)
    named = (numbers >= 0) & (places >= 0) & (places < NOWHERE)
    present[numbers[named], places[named]] = True
    return present


def _groups_per_class(
    labels: NDArray[np.int64], together: NDArray[np.int64], inside: NDArray[np.bool_], classes: int
) -> NDArray[np.int64]:
    count, group = numbered(together[inside])
    pairs = np.unique(labels[inside] * count + group)
    return np.bincount(pairs // max(count, 1), minlength=classes).astype(np.int64)
