"""A source's items decoded in parallel: threads, since Pillow lets others work while it reads, decodes and resizes."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from podium.data.decode import THUMB, BadImage, Decoded, Preprocess, decode_file, decode_image, decode_pixels
from podium.data.sources.items import Item, Reject, Source
from podium.data.store import Facts, Store

CHUNK = 64
"""Items a task, fewer where they are large."""
CHUNK_BYTES = 8 * 1024**2
SAVE_EVERY = 4096
"""Images after which a killed run finds what it decoded."""
ATTEMPTS = 3
"""Times a file that changes while it is read is read again."""

Result = Facts | tuple[bytes | None, Decoded] | Reject
"""Known already, just decoded, or not usable."""


@dataclass(frozen=True)
class Images:
    """The usable images of a source, and what became of the others."""

    numbers: NDArray[np.int64]
    """(N,) which of the source's items each is."""
    rows: NDArray[np.int64]
    """(N,) where its pixels and its thumb are in the store."""
    sizes: NDArray[np.int32]
    """(N, 2) width and height of the image itself."""
    modes: list[str]
    """N names of modes; `(animated)` follows where there are several frames."""
    rejects: list[Reject]
    decoded: int
    """How many were decoded now; the rest was known."""


def read(source: Source, spec: Preprocess, store: Store) -> Images:
    """Decode every item of `source` as `spec` says into `store`; only files that it does not know are decoded."""
    facts: list[Facts] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    decoded = 0
    with tqdm(total=len(source.items), desc="decode", unit=" images", delay=1, leave=False, disable=None) as bar:
        for start, results in _results(source.items, spec, store):
            new = [result for result in results if isinstance(result, tuple) and not isinstance(result, Facts)]
            added = iter(store.add(new))
            for number, result in enumerate(results, start):
                if isinstance(result, Reject):
                    rejects.append(result)
                    continue
                numbers.append(number)
                facts.append(result if isinstance(result, Facts) else next(added))
            decoded += len(new)
            if new and decoded // SAVE_EVERY != (decoded - len(new)) // SAVE_EVERY:
                store.save()
            bar.update(len(results))
    store.save()
    sizes = np.array([(one.width, one.height) for one in facts], np.int32).reshape(-1, 2)
    modes = [one.mode + (" (animated)" if one.frames > 1 else "") for one in facts]
    rows = np.array([one.row for one in facts], np.int64)
    return Images(np.array(numbers, np.int64), rows, sizes, modes, rejects, decoded)


def workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(items: Sequence[Item], spec: Preprocess, store: Store) -> Iterator[tuple[int, list[Result]]]:
    """Chunks of results in the order of `items`, each with the number of its first; only a few are ahead."""
    step = max(1, min(CHUNK, CHUNK_BYTES // store.pixels.row_bytes))
    ahead: deque[tuple[int, Future[list[Result]]]] = deque()
    pool = ThreadPoolExecutor(workers(), "podium-decode")
    try:
        for start in range(0, len(items), step):
            ahead.append((start, pool.submit(_chunk, items[start : start + step], spec, store)))
            if len(ahead) > 2 * workers():
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(items: Sequence[Item], spec: Preprocess, store: Store) -> list[Result]:
    return [_one(item, spec, store) for item in items]


def _one(item: Item, spec: Preprocess, store: Store) -> Result:
    try:
        if isinstance(item.content, Path):
            return _file(item.content, spec, store)
        if isinstance(item.content, np.ndarray):
            return None, decode_pixels(item.content, spec, THUMB)
        return None, _opened(item, spec)
    except BadImage as error:
        return Reject(error.kind, item.origin, str(error))


def _file(path: Path, spec: Preprocess, store: Store) -> Result:
    data = read_file(path, spec.max_bytes)
    digest = hashlib.sha256(data).digest()
    return store.find(digest) or (digest, decode_file(data, spec, THUMB))


def _opened(item: Item, spec: Preprocess) -> Decoded:
    try:
        image = item.content()  # type: ignore[operator] # the two other kinds were taken before
        return decode_image(image if isinstance(image, Image.Image) else Image.fromarray(image), spec, THUMB)
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
                data = file.read(max_bytes + 1)
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            raise BadImage("it went away while the images were read", "changed") from None
        except OSError as error:
            raise BadImage(f"it can't be read: {error.strerror}", "unreadable") from None
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size:
            return data
    raise BadImage("it changed while it was read, again and again", "changed")
