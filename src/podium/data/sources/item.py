"""What every source gives: a list of images yet to be decoded, each with its name, label, given split and group."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from podium.data.dvcignore import DvcIgnore

Content = Path | bytes | NDArray[np.uint8] | Image.Image | Callable[[], Image.Image]
"""A file, the bytes of one, pixels (1 or 3, H, W), a loaded image, or what opens one when called, in any thread."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, before it is decoded."""

    origin: str
    """What reports call it: its path in the source, or such as train[12]."""
    label: int
    """Index into the source's classes."""
    split: str | None
    """train, val or test where the source itself says so."""
    content: Content
    group: str | None = None
    """Images that belong together (of one patient, scene or burst) have one group, and so one split."""
    left_out: bool = False
    """Whether a person leaves it out (prepare.corrections); it still counts for the split of what belongs to it."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Something among a source's files that no image is made of."""

    kind: str
    """A field of DoctorParams."""
    origin: str
    why: str


@dataclass(frozen=True)
class Source:
    """Images in an order that does not change from run to run; none has been decoded."""

    name: str
    """As in params.yaml."""
    classes: tuple[str, ...]
    """Names of the classes, in label order."""
    items: Sequence[Item]
    rejects: list[Reject] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    """What its reader has to say, such as columns that it did not use."""

    def within(self, root: Path) -> "Source":
        """The same without files outside of `root`, which are rejected: DVC would not see them change."""
        inside = root.resolve()
        kept, rejects = [], list(self.rejects)
        for item in self.items:
            if isinstance(item.content, Path) and not item.content.resolve().is_relative_to(inside):
                rejects.append(Reject("outside", item.origin, f"it lies outside of prepare.root, {shown(root)}"))
            else:
                kept.append(item)
        return Source(self.name, self.classes, kept, rejects, self.notes)

    def without_hidden(self, ignore: "DvcIgnore") -> "Source":
        """The same without files that .dvcignore hides from DVC, which are rejected.

        Classes of nothing else are none.
        """
        hidden = [isinstance(item.content, Path) and ignore.hides(item.content) for item in self.items]
        if not any(hidden):
            return self
        why = "DVC does not see it: .dvcignore leaves it out"
        kept = [item for item, out in zip(self.items, hidden, strict=True) if not out]
        rejects = [Reject("outside", item.origin, why) for item, out in zip(self.items, hidden, strict=True) if out]
        lost = {item.label for item in self.items} - {item.label for item in kept}
        labels = [label for label in range(len(self.classes)) if label not in lost]
        number = {label: index for index, label in enumerate(labels)}
        items = [replace(item, label=number[item.label]) for item in kept] if lost else kept
        classes = tuple(self.classes[label] for label in labels)
        return Source(self.name, classes, items, [*self.rejects, *rejects], self.notes)

    def unseen(self, root: Path, ignore: "DvcIgnore | None" = None) -> list[str]:
        """Origins of files that DVC does not see change: .dvcignore hides them, or their folder is outside of `root`.

        A link to a file is no such: DVC reads what it leads to (3.67, tried), but it walks no link to a folder.
        """
        inside = root.resolve()
        parents = {item.content.parent for item in self.items if isinstance(item.content, Path)}
        outside = {parent for parent in parents if not parent.resolve().is_relative_to(inside)}
        return [
            item.origin
            for item in self.items
            if isinstance(item.content, Path)
            and (item.content.parent in outside or (ignore is not None and ignore.hides(item.content)))
        ]


SUFFIXES = tuple(
    f".{kind}"
    for kind in "png jpg jpeg jfif jpe webp gif bmp tif tiff ppm pgm pbm pnm jp2 j2k avif heic heif".split()  # noqa: SIM905
)
"""Of names that are meant as images: other files beside class folders are notes."""


FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that spreadsheets compute or take apart when they open a table: https://owasp.org, CSV injection."""


def is_meant(name: str) -> bool:
    """Whether a file of this name is meant as an image."""
    return name.lower().endswith(SUFFIXES)


def shown(path: Path | str) -> str:
    """A path as text that can be printed and encoded, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def cell(path: Path | str) -> str:
    """A path as `shown`, for a table: one that a spreadsheet would compute as a formula begins with `./`."""
    text = shown(path)
    return f"./{text}" if text.startswith(FORMULAS) else text


def in_order(names: set[str]) -> list[str]:
    """Names of classes sorted, whole numbers by their value."""
    whole = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if whole else sorted(names)
