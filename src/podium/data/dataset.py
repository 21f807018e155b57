"""A split on disk: memory-mapped uint8 images, labels, and a JSON that is written last.

The JSON's presence means that the folder is complete. A sealed split opens only for evaluation and the promotion
gate: everything else is refused, so that no choice can be made on the held-out test set by mistake.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from podium.data import accesses, shards
from podium.data.image_files import ImageFile, anonymous, write_files
from podium.data.linked_files import LinkedFiles
from podium.data.shards import Images, Shards
from podium.data.split_errors import damaged, unreadable
from podium.errors import InputError, RefusedError

MARKER = "split.json"
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""Of a marker: the split was not written to its end, or there is none."""
DUPLICATES = "duplicates.npy"
"""Only where images of the split are near-duplicates of each other."""
CHUNK_BYTES = 16 * 1024**2
"""Images are written and digested so many bytes at a time."""


class Rows(Protocol):
    """Images that are read a slice at a time: an array (N, C, H, W) uint8, or what looks like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        """Some of them."""


@dataclass(frozen=True)
class Split:
    """One part of the data set."""

    name: str
    """train, val or test."""
    images: Images
    """(N, C, H, W), memory-mapped: pages are shared between processes until somebody writes. Shards if it is large."""
    labels: NDArray[np.int64]
    """(N,), index into `classes`."""
    classes: tuple[str, ...]
    """Names of the classes, in label order."""
    digest: str
    """SHA-256 of classes, shape, labels and pixels, and of `duplicates` where there are some."""
    duplicates: NDArray[np.int64] | None = None
    """(N,) images with one number are equal, or nearly so; None: there are no such images."""
    drawn: str = ""
    """Name of the split in the split file; empty: it is not remembered."""

    @property
    def access_key(self) -> str:
        """By which accesses to a test set are counted: it stays while the set grows."""
        return self.drawn or self.digest

    @property
    def pictures(self) -> NDArray[np.int64]:
        """(N,) a number that only duplicates share."""
        return _pictures(self.duplicates, len(self.labels))

    @property
    def weights(self) -> NDArray[np.float64]:
        """(N,) what each image counts in a metric: a group of duplicates counts once, each of its images a part."""
        _, group, size = np.unique(self.pictures, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / size[group])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def counts(self) -> dict[str, int]:
        """Images of each class, in label order."""
        return _counts(self.labels, self.classes)


@dataclass(frozen=True)
class Written:
    """A split that was just written; its images are on disk only."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width."""
    counts: dict[str, int]
    """Images of each class, in label order."""
    digest: str
    """SHA-256 of classes, shape, labels and pixels."""


def write_split(
    folder: Path,
    name: str,
    images: Rows,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    sealed: bool = False,
    duplicates: NDArray[np.int64] | None = None,
    drawn: str = "",
    files: Sequence[ImageFile] | None = None,
    starts: NDArray[np.int64] | None = None,
    linked: LinkedFiles | None = None,
) -> Written:
    """Write a split to `folder` (made if missing), its marker last; `images` may be larger than memory.

    `duplicates` (N,): images with one number are equal, or nearly so. `drawn`: its name in the split file. `files`:
    where each image came from; None: not known. `starts`: where a large split may be divided into several files, as
    `shards.starts_of` tells; None: it is one file. `linked`: what the several files are links of; None: of nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    duplicates = _numbered(duplicates)
    counts = shards.counts_of(starts, images.shape)
    write = _written if linked is None or len(counts) == 1 else linked.write
    digest = _write_images(folder, images, counts, _begun(images.shape, labels, classes, duplicates), write)
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    if duplicates is not None:
        np.save(folder / DUPLICATES, duplicates, allow_pickle=False)
    write_files(folder, anonymous(len(labels), name) if files is None else files)
    _, channels, height, width = images.shape
    split = Written(name, classes, (channels, height, width), _counts(labels, classes), digest)
    about = {"split": name, "sealed": sealed, "digest": split.digest, "classes": list(classes)}
    about |= {"drawn": drawn} if drawn else {}
    about |= {"count": len(labels), "shape": list(split.shape), "per_class": split.counts}
    about |= {"images_per_file": counts} if len(counts) > 1 else {}
    write_json(folder / MARKER, about)
    return split


def chunks(images: Rows, first: int = 0, end: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """`images` from row `first` to before `end` (None: all) in order, C-contiguous, about CHUNK_BYTES at a time."""
    count, *shape = images.shape
    end = count if end is None else end
    step = max(1, CHUNK_BYTES // math.prod(shape))
    for start in range(first, end, step):
        yield np.ascontiguousarray(images[start : min(start + step, end)])


def open_split(folder: Path) -> Split:
    """Open train or val. Raises RefusedError for a sealed split, InputError where it is missing or incomplete."""
    return _open(folder, _unsealed(folder))


def open_labels(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """The labels (N,) of train or val, numbers (N,) that only duplicates share, and the names of the classes.

    The images are not opened. Raises as `open_split`.
    """
    about = _unsealed(folder)
    try:
        labels: NDArray[np.int64] = np.load(folder / "labels.npy", allow_pickle=False)
        duplicates = _duplicates(folder, len(labels))
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(folder, error) from None
    return labels, _pictures(duplicates, len(labels)), tuple(about["classes"])


def _unsealed(folder: Path) -> dict[str, Any]:
    """What the marker of train or val says. Raises RefusedError for a sealed split."""
    about = _about(folder)
    if about["sealed"]:
        raise RefusedError(
            f"{folder} is sealed: only `evaluate` and the promotion gate open it, so that nothing is chosen on it"
        )
    return about


def open_test_set(folder: Path, reader: Literal["evaluate", "gate"], purpose: str = "") -> Split:
    """Open the held-out test set as `reader`; the access is counted. Raises RefusedError for another reader.

    Every pixel and label is read once, so that metrics are of the images that the digest names. Raises InputError where
    they are others.
    """
    if reader not in ("evaluate", "gate"):
        raise RefusedError(f"{folder} opens for evaluate and gate only; got {reader!r}")
    about = _about(folder)
    split = _open(folder, about)
    if _digest(split.images, split.labels, split.classes, split.duplicates) != split.digest:
        raise damaged(folder, f"images or labels do not have the digest in {MARKER}")
    accesses.record(split.access_key, reader, purpose)
    return split


def images_again(folder: Path) -> Images:
    """The images of a split that is open already; of a test set this is no further access."""
    return _images(folder, _about(folder))


@dataclass(frozen=True)
class SealedFacts:
    """What is known of the held-out test set without opening it."""

    counts: dict[str, int]
    """Images of each class, in label order."""
    shape: tuple[int, ...]
    """Channels, height, width."""


def sealed_facts(folder: Path) -> SealedFacts:
    """Classes and shape of the held-out test set, by its marker: no image or label is read, and it is no access.

    Raises InputError where the set is missing or incomplete.
    """
    about = _about(folder)
    return SealedFacts({name: about["per_class"].get(name, 0) for name in about["classes"]}, tuple(about["shape"]))


@dataclass(frozen=True)
class DatasetInfo:
    """data/prepared/dataset.json: a summary of the whole data set."""

    source: str
    classes: list[str]
    shape: list[int]
    """Channels, height, width."""
    counts: dict[str, dict[str, int]]
    """Images by split and class."""
    mean: list[float]
    """Mean of each channel of the training images, on a scale of 0 to 1."""
    std: list[float]
    """Standard deviation of each channel of the training images, on the same scale."""
    digest: str
    """SHA-256 over the digests of the three splits."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """How the images were decoded, the arguments of podium.data.decode.Preprocess: serving must do the same."""
    sealed: str = ""
    """Digest of the held-out test split that was made with the others."""
    drawn: str = ""
    """Name of the split in the split file; empty: it is not remembered."""

    @property
    def access_key(self) -> str:
        """By which accesses to the test set are counted: see Split."""
        return self.drawn or self.sealed

    def write(self, folder: Path) -> None:
        """Write dataset.json to `folder`."""
        write_json(folder / "dataset.json", asdict(self))

    @staticmethod
    def read(folder: Path) -> "DatasetInfo":
        """Read dataset.json of `folder`. Raises InputError where it is missing or damaged."""
        path = folder / "dataset.json"
        try:
            return DatasetInfo(**json.loads(path.read_text(encoding="utf-8")))
        except ABSENT:
            raise InputError(f"{path} is missing: run `dvc repro prepare`") from None
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except ABSENT:
        raise InputError(f"{folder} holds no complete split ({MARKER} is missing): run `dvc repro prepare`") from None
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from None
    return about


def _open(folder: Path, about: dict[str, Any]) -> Split:
    images = _images(folder, about)
    try:
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        duplicates = _duplicates(folder, about["count"])
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(folder, error) from None
    if list(images.shape) != [about["count"], *about["shape"]] or len(labels) != about["count"]:
        raise damaged(folder, f"{MARKER} says {about['count']} images and the arrays hold {len(images)}, {len(labels)}")
    drawn = str(about.get("drawn", ""))
    return Split(about["split"], images, labels, tuple(about["classes"]), about["digest"], duplicates, drawn)


def _images(folder: Path, about: dict[str, Any]) -> Images:
    """The images in their file or files, as the marker tells."""
    files = shards.files_of(about.get("images_per_file", [about["count"]]))
    # Mode "c" keeps a file read-only and its pages shared, while torch may wrap the array without a warning.
    try:
        found = [np.load(folder / name, mmap_mode="c", allow_pickle=False) for name, _ in files]
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(folder, error) from None
    if "images_per_file" not in about:
        return cast(NDArray[np.uint8], found[0])
    for part, (name, count) in zip(found, files, strict=True):
        if list(part.shape) != [count, *about["shape"]]:
            raise damaged(folder, f"{MARKER} says that {name} has {count} images and it holds {part.shape}")
    return Shards(found)


def _duplicates(folder: Path, count: int) -> NDArray[np.int64] | None:
    """The file of duplicates of `count` images; None where there are none."""
    if not (folder / DUPLICATES).exists():
        return None
    found: NDArray[np.int64] = np.load(folder / DUPLICATES, allow_pickle=False)
    if len(found) != count:
        raise damaged(folder, f"there are {count} images and {DUPLICATES} holds {len(found)}")
    return found


def _pictures(duplicates: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) if duplicates is None else duplicates


def _numbered(duplicates: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Numbers of groups in the order in which they occur; None where each image is alone."""
    if duplicates is None:
        return None
    found, first, number = np.unique(duplicates, return_index=True, return_inverse=True)
    if len(found) == len(duplicates):
        return None
    return np.asarray(np.argsort(np.argsort(first))[number.reshape(-1)], np.int64)


def _write_images(
    folder: Path,
    images: Rows,
    counts: Sequence[int],
    sha: "hashlib._Hash",
    write: Callable[[Path, Iterable[memoryview]], None],
) -> str:
    """The images as .npy files of so many each, as np.save writes them; returns the split's digest, begun as `sha`."""

    def pieces(first: int, count: int) -> Iterator[memoryview]:
        header = io.BytesIO()
        shape = (count, *map(int, images.shape[1:]))
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield header.getbuffer()
        for chunk in chunks(images, first, first + count):
            sha.update(chunk.data)
            yield chunk.data.cast("B")

    first = 0
    for name, count in shards.files_of(counts):
        write(folder / name, pieces(first, count))
        first += count
    return sha.hexdigest()


def _written(path: Path, pieces: Iterable[memoryview]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def _digest(
    images: Rows, labels: NDArray[np.int64], classes: tuple[str, ...], duplicates: NDArray[np.int64] | None
) -> str:
    sha = _begun(images.shape, labels, classes, duplicates)
    for chunk in chunks(images):
        sha.update(chunk.data)
    return sha.hexdigest()


def _begun(
    shape: tuple[int, ...],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    duplicates: NDArray[np.int64] | None,
) -> "hashlib._Hash":
    sha = hashlib.sha256(json.dumps([list(classes), list(map(int, shape))]).encode())
    sha.update(np.ascontiguousarray(labels).tobytes())
    if duplicates is not None:
        sha.update(np.ascontiguousarray(duplicates).tobytes())
    return sha


def _counts(labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, int]:
    per_label = np.bincount(labels, minlength=len(classes))
    return {name: int(n) for name, n in zip(classes, per_label, strict=True)}
