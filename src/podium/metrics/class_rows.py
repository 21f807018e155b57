"""The rows of an evaluation's per_class.csv, as text."""

from collections.abc import Iterable, Mapping


def by_recall(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """`rows`, the class of lowest recall first; classes without a test image, whose recall says nothing, at the end."""
    return sorted(rows, key=lambda row: (not has_images(row), float(row["recall"])))


def has_images(row: Mapping[str, str]) -> bool:
    """Whether the test set has images of the class."""
    return int(row["support"]) > 0
