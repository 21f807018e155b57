"""Images whose files were re-encoded with loss: by what they look like they get the splits of those that are gone.

A file that was written anew, such as a PNG as JPEG, has other pixels, and so another digest (podium.data.content): it
would be placed anew, and a test image of before might be trained on. So the split file remembers 63 bits of what each
image looks like: which low frequencies of its grey thumb are above their median (pHash: C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010). An added image gets the place of the nearest one that is gone.

These bits take strangers for each other now and then, which does no harm here: they are compared only where remembered
images are gone, and what a stranger hands on is one of the splits, in the fractions that they have anyway.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from podium.data.audit.near_duplicates import COARSE, Thumbs
from podium.data.split_file import NOWHERE, PLACES, SplitFile
from podium.text import counted

BATCH = 1024
FLAT = 0.5
"""Standard deviation of a thumb's grey values below which nothing is there to compare."""
NEAR = 16
"""Bits of 63 in which two images of one look differ at most. Of 48 pieces of photographs as PNG and as JPEG of quality
75 the largest difference was 14; 1 of 1,000 pairs of strangers is as near (docs/decisions, 2026-11-30-split-names)."""
MUTUAL = 26
"""The same for two that have no nearer ones: the largest difference of all as WebP of quality 60."""
HAS_LOOK = np.uint64(1 << 63)
"""The highest bit of every look; 0 is none."""


@dataclass(frozen=True)
class Gone:
    """Remembered images whose files are not there any more."""

    by_place: NDArray[np.int64]
    """(4,) how many, by PLACES."""
    replaced: int
    """Of these, how many look like images that are there, in the same split."""
    unknown: int
    """Of these, test images of which no look is remembered."""
    added: int
    """Images that are there and were not remembered."""

    @property
    def notes(self) -> list[str]:
        """What to say."""
        total = int(self.by_place.sum())
        if not total:
            return []
        by = ", ".join(f"{name} {count:,}" for name, count in zip(PLACES, self.by_place.tolist(), strict=True) if count)
        rest = f"; {self.replaced:,} of them look like files that are there, in the same split" if self.replaced else ""
        verb = "is" if total == 1 else "are"
        notes = [f"{counted(total, 'image')} with a remembered split {verb} not in the source any more ({by}){rest}"]
        if self.added and self.unknown:
            notes.append(
                f"how {counted(self.unknown, 'test image')} among them looked is not remembered (an earlier"
                " Podium wrote their lines, or nothing can be seen on them): if files were re-encoded, bring the old"
                " ones back, run prepare, and replace them then; otherwise test images of before may be trained on"
            )
        return notes


def looks_of(thumbs: Thumbs, count: int) -> NDArray[np.uint64]:
    """(count,) what images look like, in 63 bits below HAS_LOOK; 0 where too little can be seen."""
    found = np.zeros(count, np.uint64)
    weights = np.uint64(1) << np.arange(63, dtype=np.uint64)
    for start in range(0, count, BATCH):
        numbers = np.arange(start, min(start + BATCH, count))
        grey = thumbs(numbers).astype(np.float32)
        low = scipy.fft.dctn(grey, axes=(1, 2), norm="ortho")[:, :COARSE, :COARSE].reshape(len(grey), -1)[:, 1:]
        bits = low > np.median(low, axis=1, keepdims=True)
        values = (bits * weights).sum(1, dtype=np.uint64) | HAS_LOOK
        found[numbers] = np.where(grey.std((1, 2)) >= FLAT, values, np.uint64(0))
    return found


def taken_over(
    known: SplitFile,
    contents: NDArray[np.uint64],
    formers: NDArray[np.uint64],
    looks: NDArray[np.uint64],
    together: NDArray[np.int64],
) -> NDArray[np.int8]:
    """(N,) the place that each image takes over from one that is gone; -1: none.

    `together` (N,): images that share a split share a number. They get the place that most of them would take over, and
    none where one of them is remembered itself: that one decides.
    """
    pool = ~is_there(known, contents, formers) & (known.places < NOWHERE) & (known.looks > 0)
    free = ~np.isin(together, together[known.place_of(contents, formers) >= 0])
    rows = np.flatnonzero(free & (looks > 0))
    places = np.full(len(contents), -1, np.int8)
    looks_gone, places_gone = known.looks[pool], known.places[pool]
    places[rows] = _nearest(looks[rows], looks_gone, places_gone)
    left = rows[places[rows] < 0]
    open_ = _nearest(looks_gone, looks[rows], np.zeros(len(rows), np.int8)) < 0
    places[left] = _mutual(looks[left], looks_gone[open_], places_gone[open_])
    return _agreed(places, together, free)


def gone(
    known: SplitFile,
    contents: NDArray[np.uint64],
    formers: NDArray[np.uint64],
    looks: NDArray[np.uint64],
    places: NDArray[np.int8],
) -> Gone:
    """What of `known` is not among N images any more; `places` (N,): where these are now."""
    lost = ~is_there(known, contents, formers)
    was, look = known.places[lost], known.looks[lost]
    seen = (looks > 0) & (places >= 0) & (places < NOWHERE)
    alike = (look > 0) & (_nearest(look, looks[seen], places[seen]) == was)
    unknown = int(((was == PLACES.index("test")) & (look == 0)).sum())
    added = int((known.place_of(contents, formers) < 0).sum())
    return Gone(np.bincount(was, minlength=len(PLACES)).astype(np.int64), int(alike.sum()), unknown, added)


def is_there(known: SplitFile, contents: NDArray[np.uint64], formers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the images that `known` remembers are among N images, by either digest of these."""
    there: NDArray[np.bool_] = np.isin(known.digests, np.concatenate([contents, formers]))
    return there


def _nearest(looks: NDArray[np.uint64], pool: NDArray[np.uint64], places: NDArray[np.int8]) -> NDArray[np.int8]:
    """(n,) the place of the nearest look in `pool`, the strictest of equally near ones; -1: none is near."""
    found = np.full(len(looks), -1, np.int8)
    if not len(pool):
        return found
    order = np.argsort(-places, kind="stable")  # test first: argmin takes the first of equals
    pool, places = pool[order], places[order]
    step = max(1, 1_000_000 // len(pool))
    for start in range(0, len(looks), step):
        some = slice(start, start + step)
        apart = np.bitwise_count(looks[some, None] ^ pool)
        best = apart.argmin(1)
        near = apart[np.arange(len(best)), best] <= NEAR
        found[some] = np.where(near, places[best], np.int8(-1))
    return found


def _mutual(looks: NDArray[np.uint64], pool: NDArray[np.uint64], places: NDArray[np.int8]) -> NDArray[np.int8]:
    """(n,) the place of the look in `pool` that each is nearest to, and that it is nearest to; -1: there is none.

    What shows next to nothing differs in more bits once it was re-encoded, and still it is its own nearest.
    """
    found = np.full(len(looks), -1, np.int8)
    if not len(pool) or not len(looks):
        return found
    mine, least = np.empty(len(looks), np.int64), np.empty(len(looks), np.int64)
    theirs, nearest = np.zeros(len(pool), np.int64), np.full(len(pool), 64, np.int64)
    step = max(1, 1_000_000 // len(pool))
    for start in range(0, len(looks), step):
        apart = np.bitwise_count(looks[start : start + step, None] ^ pool)
        mine[start : start + step], least[start : start + step] = apart.argmin(1), apart.min(1)
        rows = apart.argmin(0)
        better = apart.min(0) < nearest
        theirs[better], nearest[better] = start + rows[better], apart.min(0)[better]
    both = (theirs[mine] == np.arange(len(looks))) & (least <= MUTUAL)
    found[both] = places[mine[both]]
    return found


def _agreed(places: NDArray[np.int8], together: NDArray[np.int64], free: NDArray[np.bool_]) -> NDArray[np.int8]:
    """One place for all images that share a split: that of most of them, the strictest of equally many."""
    matched = np.flatnonzero(places >= 0)
    if not len(matched):
        return places
    groups, group = np.unique(together, return_inverse=True)
    votes = np.zeros((len(groups), NOWHERE), np.int64)
    np.add.at(votes, (group[matched], places[matched]), 1)
    chosen = (NOWHERE - 1 - votes[:, ::-1].argmax(1)).astype(np.int8)
    voted = votes.sum(1) > 0
    return np.where(free & voted[group], chosen[group], np.int8(-1)).astype(np.int8)
