"""What a person should know of a data set before training on it: counts, and images that occur more than once."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.dataset import write_json
from podium.splitting import Division, in_order

EXAMPLES = 10
"""Groups that are shown of each kind."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of images with exactly equal pixels, of one kind."""

    groups: int
    images: int
    """Images in these groups."""
    examples: list[dict[str, Any]]
    """Of the first groups: `classes`, and the rows of the images such as train[12]."""


@dataclass(frozen=True)
class Audit:
    """The report of prepared/audit.json; nothing in it depends on the order in which the source gave the images."""

    counts: dict[str, dict[str, int]]
    """Images by class and split."""
    same_class: Duplicates
    """Groups whose images have one label."""
    conflicting: Duplicates
    """Groups whose images have different labels: no model can be right on all of them."""
    leaking: Duplicates
    """Groups with images in the test split and in another one: only a source with a test split of its own has any."""

    def write(self, folder: Path) -> None:
        """Write audit.json and audit.md to `folder`."""
        write_json(folder / "audit.json", asdict(self))
        (folder / "audit.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """The report for a person."""
        lines = ["# Audit", "", *_count_table(self.counts), "", "## Images that occur more than once", ""]
        lines += _duplicates("with one label", self.same_class)
        lines += _duplicates("with different labels: no model can be right on all of them", self.conflicting)
        lines += _duplicates("in the test split and in another: they make the test easier than it looks", self.leaking)
        return "\n".join(lines)

    def sentence(self) -> str:
        """The duplicates in a line."""
        kinds = {"of one class": self.same_class, "with conflicting labels": self.conflicting}
        found = [f"{d.groups:,} groups {kind} ({d.images:,} images)" for kind, d in kinds.items() if d.groups]
        if self.leaking.groups:
            found.append(f"{self.leaking.groups:,} groups in the source's test split and outside of it")
        return "; ".join(found) or "none"


def audit(prints: NDArray[np.uint64], labels: NDArray[np.int64], classes: Sequence[str], division: Division) -> Audit:
    """Count `labels` (N,) by class and split, and group the images whose fingerprints (N, 4) are equal."""
    groups = _groups(prints, labels)
    place = _Places(division, len(labels))
    one = [rows for rows in groups if labels[rows[0]] == labels[rows[-1]]]
    several = [rows for rows in groups if labels[rows[0]] != labels[rows[-1]]]
    leaking = [rows for rows in groups if place.leaks(rows)]
    described = (_describe(kind, labels, classes, place) for kind in (one, several, leaking))
    return Audit(count(labels, classes, division), *described)


def count(labels: NDArray[np.int64], classes: Sequence[str], division: Division) -> dict[str, dict[str, int]]:
    """Images by class and split."""
    table = {name: np.bincount(labels[rows], minlength=len(classes)) for name, rows in division.parts().items()}
    return {name: {part: int(table[part][label]) for part in table} for label, name in enumerate(classes)}


class _Places:
    """Split and row of each of the source's images."""

    def __init__(self, division: Division, images: int) -> None:
        self._names = list(division.parts())
        self._part = np.zeros(images, np.int8)
        self._row = np.zeros(images, np.int64)
        for number, rows in enumerate(division.parts().values()):
            self._part[rows] = number
            self._row[rows] = np.arange(len(rows))

    def leaks(self, rows: NDArray[np.int64]) -> bool:
        """Whether some of `rows` are in the test split and some are not."""
        sealed = self._part[rows] == self._names.index("test")
        return bool(sealed.any() and not sealed.all())

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        """Each row as `train[12]`."""
        return sorted(f"{self._names[self._part[row]]}[{self._row[row]}]" for row in rows)


def _groups(prints: NDArray[np.uint64], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of equal images, by label within a group; only where there are at least two."""
    order = in_order(prints, labels)
    new = np.any(prints[order][1:] != prints[order][:-1], axis=1)
    bounds = np.concatenate([[0], np.flatnonzero(new) + 1, [len(order)]])
    return [order[bounds[i] : bounds[i + 1]] for i in np.flatnonzero(np.diff(bounds) > 1)]


def _describe(
    groups: list[NDArray[np.int64]], labels: NDArray[np.int64], classes: Sequence[str], place: _Places
) -> Duplicates:
    examples = [
        {"classes": [classes[label] for label in np.unique(labels[rows])], "images": place.names(rows)}
        for rows in groups[:EXAMPLES]
    ]
    return Duplicates(len(groups), sum(map(len, groups)), examples)


def _count_table(counts: dict[str, dict[str, int]]) -> list[str]:
    total = {part: sum(row[part] for row in counts.values()) for part in ("train", "val", "test")}
    rows = [[_cell(name), *map(str, row.values())] for name, row in [*counts.items(), ("all", total)]]
    return ["| class | train | val | test |", "|---|--:|--:|--:|", *(f"| {' | '.join(row)} |" for row in rows)]


def _duplicates(kind: str, found: Duplicates) -> list[str]:
    lines = [f"- {kind}: {found.groups:,} groups, {found.images:,} images"]
    lines += [f"  - {', '.join(map(_cell, e['classes']))}: {', '.join(e['images'])}" for e in found.examples]
    if found.groups > len(found.examples):
        lines.append(f"  - and {found.groups - len(found.examples):,} groups more")
    return [*lines, ""]


def _cell(text: str) -> str:
    """`text` so that it can't break a table."""
    return " ".join(text.replace("|", "\\|").split())
