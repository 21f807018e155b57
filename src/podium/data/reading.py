"""A source's images, decoded into the store.

Decoding is parallel, in threads: Pillow lets others work while it reads, decodes and resizes.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from podium import resources
from podium.config.params import PrepareParams
from podium.data.colour_profiles import ColourProfiles, embedded
from podium.data.content import BYTES, Seen, as_numbers, of_array
from podium.data.decode import (
    THUMB,
    BadImage,
    Decoded,
    Preprocess,
    decode_file,
    decode_image,
    decode_pixels,
)
from podium.data.image_facts import LEAST_CONTRAST, Facts, New, fingerprint
from podium.data.image_modes import Modes, is_grey
from podium.data.image_store import Store
from podium.data.lazy_rows import Numbers, room_for
from podium.data.sources.item import Item, Reject
from podium.data.sources.source import Source
from podium.errors import InputError

CHUNK = 64
"""Items per task, fewer if they are large."""
CHUNK_BYTES = 8 * 1024**2
SAVE_EVERY = 4096
"""Images after which a killed run finds what it decoded."""
ATTEMPTS = 3
"""Times a file that changes while it is read is read again."""
WHOLE, FLOATS = "whole numbers", "floats"
BITS = (8, 10, 12, 14, 16)
"""Depths of whole numbers that are looked for in larger containers."""
LEAST_VALUE = 16
"""A highest value below it (but floats to 1) is no scale in use: what is there becomes 0 to 255."""

NODATA = {-999.0, -9999.0, -99999.0, -32768.0, -32767.0}
HUGE = 1e30
"""Beyond it a float stands for a missing value: GDAL writes -3.4e38."""
TWO_SCALES = 0.05
"""Images of floats that stay at or below 1 are another scale, not dark ones, where more than this fraction does."""

Result = Facts | New | Reject
"""Known already, just decoded, or not usable."""


@dataclass(frozen=True)
class Images:
    """The usable images of a source, and what became of the others."""

    numbers: Numbers
    """(N,) which of the source's items each is."""
    rows: Numbers
    """(N,) where its pixels and its thumb are in the store."""
    sizes: NDArray[np.int32]
    """(N, 2) width and height of the image itself."""
    modes: Modes
    """Their modes; `(animated)` follows where there are several frames."""
    contents: NDArray[np.uint64]
    """(N,) digests of what the images themselves show: see podium.data.content."""
    formers: NDArray[np.uint64]
    """(N,) the former digests."""
    prints: NDArray[np.uint64]
    """(N, 2) fingerprints of the prepared pixels, the higher word first."""
    looks: NDArray[np.uint64]
    """(N,) what they look like: see podium.data.audit.replaced."""
    shades: NDArray[np.uint8]
    """(N, 2) the darkest and the lightest grey value of their thumbs."""
    shown: NDArray[np.bool_]
    """(N,) whether there is enough on the thumb to look for near-duplicates."""
    rejects: list[Reject]
    decoded: int
    """How many were decoded now; the rest was known."""
    values: dict[str, tuple[float, float]]
    """The lowest and highest value of all images deeper than 8 bits, of whole numbers and of floats."""
    scales: tuple[int, int] = (0, 0)
    """How many images of floats stay at or below 1, and how many have a value of LEAST_VALUE or more."""
    profiles: ColourProfiles = field(default_factory=ColourProfiles)
    """Of those whose colour profile is another than sRGB."""


def read(source: Source, spec: Preprocess, store: Store) -> Images:
    """Decode every item of `source` as `spec` says into `store`; only files that it does not know are decoded."""
    found = _Found(len(source.items))
    rejects: list[Reject] = []
    profiles = ColourProfiles()
    decoded = 0
    with tqdm(total=len(source.items), desc="decode", unit=" images", delay=1, leave=False, disable=None) as bar:
        for start, results in _results(source.items, spec, store, profiles):
            new = [result for result in results if isinstance(result, New)]
            added = iter(store.add(new))
            rejects += [result for result in results if isinstance(result, Reject)]
            usable = [number for number, result in enumerate(results) if not isinstance(result, Reject)]
            facts = [one if isinstance(one := results[number], Facts) else next(added) for number in usable]
            found.add([start + number for number in usable], facts)
            decoded += len(new)
            if new and decoded // SAVE_EVERY != (decoded - len(new)) // SAVE_EVERY:
                store.save()
            bar.update(len(results))
    store.save()
    return replace(found.images(rejects, decoded), profiles=profiles)


def settled(spec: Preprocess, images: Images, params: PrepareParams) -> Preprocess:
    """`spec` as it has to be now that all images have been decoded: only headers of some were looked at before.

    One rule for the whole set: with colours in one image all are RGB, and one range of values becomes 0 to 255. Raises
    InputError where the set has whole numbers and floats, or floats of two scales.
    """
    if params.channels is None and spec.channels == 1 and not images.modes.where(is_grey).all():
        spec = replace(spec, channels=3)
    if not isinstance(params.range, str) or not images.values:
        return spec
    if len(images.values) > 1:
        raise InputError(
            "prepare.range: the source has images of whole numbers deeper than 8 bits and images of floats, which have"
            f" no scale in common ({', '.join(f'{k} {a:g} to {b:g}' for k, (a, b) in images.values.items())}). Convert"
            " them, or write the range of both, such as `range: [0, 65535]`"
        )
    if min(images.scales) > TWO_SCALES * sum(images.scales):
        raise InputError(
            f"prepare.range: {images.scales[0]:,} images of floats have values up to 1, and {images.scales[1]:,} up to"
            f" {images.values[FLOATS][1]:g}: two scales, or dark images among bright ones. Convert them to one scale,"
            " or write the range of all of them, such as `range: [0, 255]`"
        )
    ((kind, (low, high)),) = images.values.items()
    if params.range == "auto":
        _check_nodata(low, high)
        return replace(spec, range=_range(low, high, whole=kind == WHOLE))
    return replace(spec, range=None if kind == WHOLE else (0.0, 1.0) if high <= 1 else (0.0, 255.0))


def _check_nodata(low: float, high: float) -> None:
    """Raise InputError where an end of the values is a number that stands for missing ones: all others look alike."""
    ends = [end for end in (low, high) if end in NODATA or abs(end) >= HUGE]
    if ends:
        raise InputError(
            f"prepare.range: auto would make the values from {low:g} to {high:g} black to white, and {ends[0]:g} is a"
            " number that stands for missing values in many files: all others would look alike. Write the"
            " range of the values that are meant, such as `range: [0, 4095]` (what lies beyond becomes black or white)"
            f", or `range: [{low:g}, {high:g}]` if {ends[0]:g} is a value as others"
        )


class _Found:
    """The usable images so far, in arrays: what is held of an image does not depend on how many there are."""

    def __init__(self, most: int) -> None:
        self._count = 0
        self._numbers, self._rows = room_for(most, most), room_for(most, most)
        self._sizes = np.empty((most, 2), np.int32)
        self._contents, self._formers = np.empty(most, np.uint64), np.empty(most, np.uint64)
        self._prints, self._looks = np.empty((most, 2), np.uint64), np.empty(most, np.uint64)
        self._shades, self._shown = np.empty((most, 2), np.uint8), np.empty(most, np.bool_)
        self._modes = np.empty(most, np.uint16)
        self._names: dict[str, int] = {}
        """The number of each mode."""
        self._values: dict[str, tuple[float, float]] = {}
        self._scales = [0, 0]

    def add(self, numbers: list[int], facts: list[Facts]) -> None:
        """The source's items `numbers`, of which `facts` are known."""
        if not facts:
            return
        here = slice(self._count, self._count + len(facts))
        self._count = here.stop
        self._numbers[here] = numbers
        self._rows[here] = self._of_store([one.row for one in facts])
        self._sizes[here] = [(one.width, one.height) for one in facts]
        self._contents[here] = as_numbers([one.content[:BYTES] for one in facts])
        self._formers[here] = as_numbers([one.content[BYTES:] for one in facts])
        self._prints[here] = as_numbers([one.fingerprint for one in facts]).reshape(-1, 2)
        self._looks[here] = as_numbers([one.look for one in facts])
        self._shades[here] = [(one.darkest, one.lightest) for one in facts]
        self._shown[here] = [one.contrast >= LEAST_CONTRAST for one in facts]
        self._modes[here] = [self._names.setdefault(_mode(one), len(self._names)) for one in facts]
        for one in facts:
            if one.low is not None and one.high is not None:
                self._take_in(FLOATS if one.mode == "F" else WHOLE, one.low, one.high)

    def _of_store(self, rows: list[int]) -> list[int]:
        """`rows`, for which there is room now: a store may hold more images than the source has."""
        if max(rows) > np.iinfo(self._rows.dtype).max:
            self._rows = self._rows.astype(np.int64)
        return rows

    def _take_in(self, kind: str, low: float, high: float) -> None:
        """The values of an image deeper than 8 bits."""
        lowest, highest = self._values.get(kind, (low, high))
        self._values[kind] = min(lowest, low), max(highest, high)
        self._scales[0] += kind == FLOATS and high <= 1
        self._scales[1] += kind == FLOATS and high >= LEAST_VALUE

    def images(self, rejects: list[Reject], decoded: int) -> Images:
        """All of them."""
        few = slice(self._count)
        return Images(
            self._numbers[few],
            self._rows[few],
            self._sizes[few],
            Modes(tuple(self._names), self._modes[few]),
            self._contents[few],
            self._formers[few],
            self._prints[few],
            self._looks[few],
            self._shades[few],
            self._shown[few],
            rejects,
            decoded,
            self._values,
            (self._scales[0], self._scales[1]),
        )


def _mode(one: Facts) -> str:
    return one.mode + (" (animated)" if one.frames > 1 else "") + (" (transparent)" if one.transparent else "")


def _range(low: float, high: float, *, whole: bool) -> tuple[float, float] | None:
    """What becomes 0 to 255 in a set of values from `low` to `high`; None: all that 16 bits hold.

    The least number of bits that cameras and scanners have; the values themselves where these do not fit. Floats a
    little above 1 were on a scale to 1 (a resampling overshoots): on one to 255 they would all be black.
    """
    steps = [2.0**bits - 1 for bits in BITS] if whole else [1.0, 255.0]
    top = next((step for step in steps if high <= step), None)
    if low < 0 or top is None or (high < LEAST_VALUE and top != 1):
        return (low, high) if low < high else None
    return None if whole and top == steps[-1] else (0.0, top)


def workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    return resources.cores()


def _results(
    items: Sequence[Item], spec: Preprocess, store: Store, profiles: ColourProfiles
) -> Iterator[tuple[int, list[Result]]]:
    """Chunks of results in the order of `items`, each with the number of its first; only a few are ahead."""
    step = max(1, min(CHUNK, CHUNK_BYTES // store.pixels.row_bytes))
    ahead: deque[tuple[int, Future[list[Result]]]] = deque()
    threads = workers()  # asked once: cgroups' quotas are read from files
    pool = ThreadPoolExecutor(threads, "podium-decode")
    try:
        for start in range(0, len(items), step):
            ahead.append((start, pool.submit(_chunk, items[start : start + step], spec, store, profiles)))
            if len(ahead) > 2 * threads:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(items: Sequence[Item], spec: Preprocess, store: Store, profiles: ColourProfiles) -> list[Result]:
    return [_one(item, spec, store, profiles) for item in items]


def _one(item: Item, spec: Preprocess, store: Store, profiles: ColourProfiles) -> Result:
    try:
        if isinstance(item.content, Path):
            return _encoded(item.origin, read_file(item.content, spec.max_bytes), spec, store, profiles)
        if isinstance(item.content, bytes):
            return _encoded(item.origin, item.content, spec, store, profiles)
        if isinstance(item.content, np.ndarray):
            return _new(None, decode_pixels(item.content, spec, THUMB), of_array(item.content))
        return _opened(item, spec)
    except BadImage as error:
        return Reject(error.kind, item.origin, str(error), split=item.split)


def _encoded(origin: str, data: bytes, spec: Preprocess, store: Store, profiles: ColourProfiles) -> Result:
    """The bytes of an image file."""
    digest = hashlib.sha256(data).digest()
    found: Result | None = store.find(digest)
    if found is None:
        seen = Seen(data)
        found = _new(digest, decode_file(data, spec, THUMB, seen), seen.both)
    profiles.add(origin, embedded(data))
    return found


def _new(digest: bytes | None, image: Decoded, content: bytes) -> New:
    return New(digest, image, content, fingerprint(image.pixels))


def _opened(item: Item, spec: Preprocess) -> Result:
    seen = Seen()
    try:
        # The other kinds were taken before.
        image = item.content if isinstance(item.content, Image.Image) else item.content()  # type: ignore[operator]
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        return _new(None, decode_image(image, spec, THUMB, seen, whole=True), seen.both)
    except BadImage:
        raise
    except Exception as error:  # torchvision's loaders raise whatever their readers do
        raise BadImage(f"it can't be read: {error}") from None


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, as they were at one moment. Raises BadImage of the kind changed, unreadable or huge."""
    for _ in range(ATTEMPTS):
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > max_bytes:
                    raise BadImage(f"it has {before.st_size:,} bytes; at most {max_bytes:,} are taken", "huge")
                data = file.read(before.st_size + 1)  # not max_bytes: so much would be reserved for every file
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            raise BadImage("it went away while the images were read", "changed") from None
        except OSError as error:
            raise BadImage(f"it can't be read: {error.strerror}", "unreadable") from None
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size:
            return data
    raise BadImage("it changed while it was read, again and again", "changed")
