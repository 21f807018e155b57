"""A split on disk: memory-mapped uint8 images, labels, and a JSON that is written last.

The JSON's presence means that the folder is complete. A sealed split opens only for evaluation and the promotion
gate: everything else is refused, so that no choice can be made on the test set by mistake.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from podium import openings
from podium.errors import InputError, RefusedError

MARKER = "split.json"


@dataclass(frozen=True)
class Split:
    """One part of the data set."""

    name: str
    """train, val or test."""
    images: NDArray[np.uint8]
    """(N, C, H, W), memory-mapped; pages are shared between processes until somebody writes."""
    labels: NDArray[np.int64]
    """(N,), index into `classes`."""
    classes: tuple[str, ...]
    """Names of the classes, in label order."""
    digest: str
    """SHA-256 of classes, shape, labels and pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def counts(self) -> dict[str, int]:
        """Images of each class, in label order."""
        per_label = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes, per_label, strict=True)}


def write_split(
    folder: Path,
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    sealed: bool = False,
) -> Split:
    """Write a split to `folder` (made if missing), its marker last."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images, allow_pickle=False)
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    split = Split(name, images, labels, classes, _digest(images, labels, classes))
    about = {"split": name, "sealed": sealed, "digest": split.digest, "classes": list(classes)}
    about |= {"count": len(labels), "shape": list(split.shape), "per_class": split.counts()}
    write_json(folder / MARKER, about)
    return split


def open_split(folder: Path) -> Split:
    """Open train or val. Raises RefusedError for a sealed split, InputError where it is missing or incomplete."""
    about = _about(folder)
    if about["sealed"]:
        raise RefusedError(
            f"{folder} is sealed: only `evaluate` and the promotion gate open it, so that nothing is chosen on it"
        )
    return _open(folder, about)


def open_sealed(folder: Path, reader: Literal["evaluate", "gate"], purpose: str = "") -> Split:
    """Open the sealed test split as `reader`; the opening is counted. Raises RefusedError for another reader."""
    if reader not in ("evaluate", "gate"):
        raise RefusedError(f"{folder} opens for evaluate and gate only; got {reader!r}")
    about = _about(folder)
    openings.record(about["digest"], reader, purpose)
    return _open(folder, about)


@dataclass(frozen=True)
class DatasetInfo:
    """data/prepared/dataset.json: the whole data set in a page."""

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

    def write(self, folder: Path) -> None:
        """Write dataset.json to `folder`."""
        write_json(folder / "dataset.json", asdict(self))

    @staticmethod
    def read(folder: Path) -> "DatasetInfo":
        """Read dataset.json of `folder`. Raises InputError where it is missing."""
        path = folder / "dataset.json"
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro prepare`")
        return DatasetInfo(**json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _about(folder: Path) -> dict[str, Any]:
    marker = folder / MARKER
    if not marker.is_file():
        raise InputError(f"{folder} holds no complete split ({MARKER} is missing): run `dvc repro prepare`")
    try:
        about: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder, str(error)) from None
    return about


def _open(folder: Path, about: dict[str, Any]) -> Split:
    # Mode "c" keeps the file read-only and the pages shared, while torch may wrap the array without a warning.
    try:
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, str(error)) from None
    if list(images.shape) != [about["count"], *about["shape"]] or len(labels) != about["count"]:
        raise _damaged(
            folder, f"{MARKER} says {about['count']} images and the arrays hold {len(images)}, {len(labels)}"
        )
    return Split(about["split"], images, labels, tuple(about["classes"]), about["digest"])


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{folder} is damaged: {what}; run `dvc repro prepare`")


def _digest(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    sha = hashlib.sha256(json.dumps([list(classes), list(images.shape)]).encode())
    sha.update(np.ascontiguousarray(labels).tobytes())
    for start in range(0, len(images), 4096):
        sha.update(np.ascontiguousarray(images[start : start + 4096]).tobytes())
    return sha.hexdigest()
