"""A sketch of a window of answered images: counts of all of them, and the features of a random sample.

The sample is a bottom-k sketch (Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007): every image
draws a number, and those with the k lowest numbers are kept. Two sketches are merged by keeping the k lowest of both,
so any number of workers and servers make one uniform sample, of bounded size, and none has to know the others.
"""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.errors import InputError

SAMPLE = 1000
"""Images whose features are kept; a Kolmogorov-Smirnov test of so many sees a distance of 0.1 almost always."""
FORMAT = 1


@dataclass
class Sketch:
    """Of images answered by one version."""

    features: tuple[str, ...]
    """Names of the F columns."""
    classes: int
    """K"""
    rows: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(n, F) features of the sample; NaN: not known of that image."""
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    """(n,) the number that each image of the sample drew, rising."""
    class_counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(K,) images by the class that was predicted, of all images."""
    began: float = float("inf")
    """Time of the first image, in seconds since 1970."""
    ended: float = float("-inf")
    """Time of the last one."""

    def __post_init__(self) -> None:
        if not self.rows.size:
            self.rows = np.empty((0, len(self.features)), np.float32)
        if not self.class_counts.size:
            self.class_counts = np.zeros(self.classes, np.int64)

    @property
    def count(self) -> int:
        """Images in all."""
        return int(self.class_counts.sum())

    @property
    def limit(self) -> float:
        """An image that draws this number or more would not be kept."""
        return float(self.draws[-1]) if len(self.draws) >= SAMPLE else 1.0

    def add(
        self, rows: NDArray[np.float32], draws: NDArray[np.float64], predicted: NDArray[np.int64], at: float
    ) -> None:
        """Add images answered at the time `at`: `predicted` (N,) of all, `rows` (n, F) and `draws` (n,) of some.

        Left out of the last two may be those that drew `limit` or more.
        """
        self.class_counts += np.bincount(predicted, minlength=self.classes)
        self.began, self.ended = min(self.began, at), max(self.ended, at)
        self._keep(np.concatenate([self.rows, rows]), np.concatenate([self.draws, draws]))

    def merge(self, other: "Sketch") -> None:
        """Add the images of `other`. Raises InputError for a sketch of other features or classes."""
        if (self.features, self.classes) != (other.features, other.classes):
            raise InputError(
                "sketches that are merged must be of the same features and classes; got"
                f" {', '.join(self.features)} with {self.classes} classes and {', '.join(other.features)} with"
                f" {other.classes}"
            )
        self.class_counts = self.class_counts + other.class_counts
        self.began, self.ended = min(self.began, other.began), max(self.ended, other.ended)
        self._keep(np.concatenate([self.rows, other.rows]), np.concatenate([self.draws, other.draws]))

    def _keep(self, rows: NDArray[np.float32], draws: NDArray[np.float64]) -> None:
        order = np.argsort(draws, kind="stable")[:SAMPLE]
        self.rows, self.draws = rows[order], draws[order]

    def to_bytes(self) -> bytes:
        """As a file; at most about 100 kB and 8 bytes per class."""
        about = {"format": FORMAT, "features": self.features, "began": self.began, "ended": self.ended}
        return packed(about, rows=self.rows, draws=self.draws, class_counts=self.class_counts)

    @staticmethod
    def from_bytes(data: bytes, name: str) -> "Sketch":
        """What `to_bytes` made. Raises InputError calling it `name` where it is anything else."""
        about, arrays = unpacked(data, name, ("rows", "draws", "class_counts"))
        rows, draws, counts = arrays["rows"], arrays["draws"], arrays["class_counts"]
        features, began, ended = names_of(about.get("features")), about.get("began"), about.get("ended")
        if (
            about.get("format") != FORMAT
            or features is None
            or not (isinstance(began, float) and isinstance(ended, float))
            or not (rows.dtype == np.float32 and draws.dtype == np.float64 and counts.dtype == np.int64)
            or (counts.ndim, draws.ndim) != (1, 1)
            or rows.shape != (len(draws), len(features))
            or (counts < 0).any()
            or len(draws) > min(SAMPLE, int(counts.sum()))
        ):
            raise InputError(f"{name} is damaged, or another Podium's: it is no sketch of this one")
        return Sketch(features, len(counts), rows, draws, counts, began, ended)


def packed(about: dict[str, Any], **arrays: NDArray[Any]) -> bytes:
    """`about` (JSON) and arrays as an .npz file, whose zip has a checksum of each."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    return buffer.getvalue()


def unpacked(data: bytes, name: str, wanted: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `packed` made of the arrays `wanted`. Raises InputError calling it `name` where it is anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            names = set(archive.files)
            about, arrays = json.loads(str(archive["about"])), {one: archive[one] for one in wanted if one in names}
    except Exception as error:  # zipfile and numpy raise nearly anything, in words about themselves or of raw bytes
        raise InputError(f"{name} is damaged: not all of it can be read ({type(error).__name__})") from None
    if names != {"about", *wanted}:
        raise InputError(f"{name} is damaged: it has other arrays than {', '.join(wanted)}")
    if not isinstance(about, dict):
        raise InputError(f"{name} is damaged: it does not say what it holds")
    return about, arrays


def names_of(value: Any) -> tuple[str, ...] | None:
    """`value`, read from JSON, where it is a list of different texts; None where it is not."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or len(set(value)) < len(value):
        return None
    return tuple(value)
