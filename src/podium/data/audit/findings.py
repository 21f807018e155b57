"""What can be wrong with a set of images: one finding per kind, what it means, and the files that it is about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams
from podium.data.image_modes import Modes
from podium.data.lazy_rows import LazyRows, Numbers
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Item
from podium.text import counted

EXAMPLES = 12
"""Files or groups of each kind that a report shows; it counts all."""
MEMBERS = 8
"""Images of a group that a report shows."""

KINDS = {
    "unreadable": "files that can't be opened",
    "empty": "empty files",
    "not_image": "files that are no image",
    "truncated": "image files that end too early",
    "corrupt": "image files that can't be decoded",
    "huge": "files or images above the limits of size",
    "changed": "files that changed while they were read",
    "outside": "links and paths that leave the folder, and files that .dvcignore leaves out",
    "stray": "files outside the class folders",
    "tiny": "images that are tiny",
    "odd_size": "images of an odd size or shape",
    "odd_mode": "images stored in an odd mode",
    "blank": "images on which nothing can be seen",
    "mixed_channels": "grey images among coloured ones, or the other way round (prepare.channels decides)",
    "duplicates": "images that occur more than once in a class",
    "conflicts": "equal images with different labels",
    "leaks": "equal images in several splits",
    "near_duplicates": "near-duplicates in a class",
    "near_conflicts": "near-duplicates with different labels",
    "near_leaks": "near-duplicates in several splits",
    "large_groups": "images in groups that hold much of a class, each within one split (doctor.near, column group)",
    "left_out": "files that are left out, too many of them (doctor.max_left_out)",
    "similar_classes": "class names that are hard to tell apart",
    "imbalance": "classes out of balance",
}
"""Every kind, in the order of reports; each has its policy in params.yaml under `doctor`."""


def policies(params: DoctorParams) -> dict[str, str]:
    """The policy of each kind in params.yaml."""
    return {kind: str(getattr(params, kind)) for kind in KINDS}


@dataclass(frozen=True)
class Example:
    """One file, or one group of images that belong together."""

    files: list[str]
    """The first MEMBERS of them."""
    classes: list[str]
    why: str
    """A sentence, where the kind does not say it all."""
    rows: list[int] = field(default_factory=list)
    """Where the pixels of `files` are in the store; empty: there are none."""


class Entry(NamedTuple):
    """A file of a finding."""

    group: int
    """From 1: files of one group belong together."""
    file: str
    classes: str
    why: str


@dataclass(frozen=True)
class Finding:
    """Everything of one kind."""

    kind: str
    policy: str
    """refuse, skip or keep."""
    images: int
    """Files or images concerned."""
    groups: int
    """Groups that they form; as many as images where each stands for itself. All files of a folder are one place."""
    examples: list[Example]
    every: Sequence[Entry] = ()
    """All of them, for the table beside the page."""

    @property
    def counts(self) -> str:
        """How many images, and in how many groups."""
        what = "place" if self.kind == "outside" else "group"
        in_groups = f" in {counted(self.groups, what)}" if self.groups != self.images else ""
        return f"{self.images:,}{in_groups}"

    def sentence(self) -> str:
        """The finding in a line."""
        is_whole = self.groups == self.images or self.kind == "outside"
        done = {"refuse": "refused", "skip": "left out" if is_whole else "left out where needed", "keep": "kept"}
        return f"{KINDS[self.kind]}: {self.counts}, {done[self.policy]}"


class Origins(LazyRows[str]):
    """What reports call each image; a name is made when it is asked for."""

    def __init__(self, items: Sequence[Item], numbers: Numbers) -> None:
        """`numbers` (N,) of the images among `items`."""
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, number: int) -> str:
        """Of the image `number`."""
        place = int(self._numbers[number])
        return self._items.origin(place) if isinstance(self._items, FileItems) else self._items[place].origin


@dataclass(frozen=True)
class Subject:
    """The usable images of a source as arrays of one length N, for whatever looks at them."""

    origins: Sequence[str]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    splits: NDArray[np.int8]
    """Number in splitting.NAMES of the split that the source names or the split file remembers; -1: none."""
    rows: Numbers
    """Where the pixels are in the store."""
    sizes: NDArray[np.int32]
    """(N, 2) width and height."""
    modes: Modes
    prints: NDArray[np.uint64]
    """(N, 2) fingerprints of the prepared pixels."""
    shades: NDArray[np.uint8]
    """(N, 2) the darkest and the lightest grey value of the thumbs."""
    shown: NDArray[np.bool_]
    """(N,) whether there is enough on the thumb to look for near-duplicates."""

    def example(self, numbers: NDArray[np.int64], why: str = "") -> Example:
        """An example of these images."""
        shown = sorted(numbers.tolist(), key=lambda number: (self.origins[number], number))[:MEMBERS]
        labels = sorted(set(self.labels[numbers].tolist()))
        files = [self.origins[number] for number in shown]
        return Example(files, [self.classes[k] for k in labels], why, [int(self.rows[number]) for number in shown])

    def entries(self, groups: Iterable[tuple[NDArray[np.int64], str]]) -> list[Entry]:
        """All images of `groups`, each with its reason, in the order of their names."""
        return [
            Entry(count, self.origins[number], self.classes[int(self.labels[number])], why)
            for count, (numbers, why) in enumerate(groups, 1)
            for number in sorted(numbers.tolist(), key=lambda number: (self.origins[number], number))
        ]
