"""What every source gives: images in a fixed order, none of them decoded, and the files that no image is made of."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.data.dvcignore import LEFT_OUT, DvcIgnore
from podium.data.sources.alike import about_dates, about_missing
from podium.data.sources.file_items import SPLITS, FileItems
from podium.data.sources.item import Item, Reject, shown
from podium.data.sources.several_labels import joined


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
    given: frozenset[str] = frozenset()
    """Splits that it names, of files that are missing too."""

    def within(self, root: Path) -> "Source":
        """The same without files outside of `root`, which are rejected: DVC would not see them change."""
        inside = root.resolve()
        kept, rejects = [], list(self.rejects)
        for item in self.items:
            if isinstance(item.content, Path) and not item.content.resolve().is_relative_to(inside):
                why = f"it lies outside of prepare.root, {shown(root)}"
                rejects.append(Reject("outside", item.origin, why, split=item.split))
            else:
                kept.append(item)
        return replace(self, items=kept, rejects=rejects, given=self.splits())

    def without_hidden(self, ignore: DvcIgnore) -> "Source":
        """The same without files that .dvcignore hides from DVC, which are rejected.

        Classes of nothing else are none. A file of a folder is not missed in the set, as a folder that somebody left
        out is not, unless patterns hide more files than stay; one that a table or a function names was meant to be in
        it. A note has both counts.
        """
        hidden = np.fromiter((path is not None and ignore.hides(path) for path in self.paths()), np.bool_)
        if not hidden.any():
            return self
        paths = itertools.compress(self.paths(), hidden)
        without = itertools.compress(self.items, hidden)
        found = ((item, ignore.why(str(path))) for item, path in zip(without, paths, strict=True))
        is_few = self.name.startswith("folder:") and 2 * int(hidden.sum()) <= len(hidden)
        rejects = [
            Reject("outside", item.origin, why, not is_few or why != LEFT_OUT, split=item.split) for item, why in found
        ]
        counts = self.counts()
        lost = np.bincount([item.label for item in itertools.compress(self.items, hidden)], minlength=len(counts))
        still = (lost == 0) | (lost < counts)
        labels = np.cumsum(still) - 1
        if isinstance(self.items, FileItems):
            kept = self.items.kept(~hidden)
            kept.relabel(labels.tolist())
            items: Sequence[Item] = kept
        else:
            items = [replace(one, label=int(labels[one.label])) for one in itertools.compress(self.items, ~hidden)]
        classes = tuple(itertools.compress(self.classes, still))
        whole = [*self.rejects, *rejects]
        left_out = [one.origin for one in rejects if one.why == LEFT_OUT]
        notes = (*self.notes, *_about_ignored(left_out, len(hidden), is_few=is_few))
        return replace(self, classes=classes, items=items, rejects=whole, notes=notes, given=self.splits())

    def counts(self) -> NDArray[np.int64]:
        """(K,) how many images each class has."""
        items = self.items
        labels = items.labels if isinstance(items, FileItems) else np.array([item.label for item in items], np.int64)
        return np.bincount(labels, minlength=len(self.classes))

    def splits(self) -> frozenset[str]:
        """Splits that it names, of images or of files that are missing."""
        return self.given.union(name for name in self.splits_of_images() if name is not None)

    def paths(self) -> Iterator[str | None]:
        """The path of each image that is a file, None for others."""
        if isinstance(self.items, FileItems):
            return self.items.paths()
        return (os.fspath(item.content) if isinstance(item.content, Path) else None for item in self.items)

    def origins(self) -> Iterator[str]:
        """What reports call each image."""
        return self.items.origins() if isinstance(self.items, FileItems) else (item.origin for item in self.items)

    def group_names(self) -> list[str]:
        """The groups that it names, each once."""
        if isinstance(self.items, FileItems):
            return list(self.items.group_names)
        return list(dict.fromkeys(item.group for item in self.items if item.group is not None))

    def splits_of_images(self) -> set[str | None]:
        """The splits of its images, None among them where an image has none."""
        if isinstance(self.items, FileItems):
            return {SPLITS[number + 1] for number in np.unique(self.items.splits).tolist()}
        return {item.split for item in self.items}

    def with_notes(self) -> "Source":
        """The same with notes of classes whose names may not be meant, and of splits that are drawn from train."""
        return replace(
            self,
            notes=(
                *self.notes,
                *about_missing(self.classes, self.counts().tolist()),
                *filter(None, [joined(self.classes)]),
                *about_dates(self.classes),
                *self._about_draw(),
            ),
        )

    def _about_draw(self) -> list[str]:
        """A note where it gives training images and no test images: these are drawn from them."""
        given = self.splits_of_images()
        if "train" not in given or "test" in given | self.given:
            return []
        lost = [name for name in ("val", "test") if name not in given]
        fractions = ", ".join(f"prepare.{name}_fraction" for name in lost)
        return [
            f"the source gives {' and '.join(f'no {name}' for name in lost)} images: these are drawn from those of"
            f" train{' and those without a split' if None in given else ''} ({fractions})"
        ]

    def unseen(self, root: Path, ignore: DvcIgnore | None = None) -> list[str]:
        """Origins of files that DVC does not see change: .dvcignore hides them, or their folder is outside of `root`.

        A link to a file is no such: DVC reads what it leads to (3.67, tried), but it walks no link to a folder.
        """
        inside = root.resolve()
        outside: dict[str, bool] = {}
        found = []
        for number, path in enumerate(self.paths()):
            if path is None:
                continue
            if (folder := os.path.dirname(path)) not in outside:  # noqa: PTH120 (no Path for each file)
                outside[folder] = not Path(folder).resolve().is_relative_to(inside)
            if outside[folder] or (ignore is not None and ignore.hides(path)):
                found.append(self.items[number].origin)
        return found


def _about_ignored(left_out: Sequence[str], whole: int, *, is_few: bool) -> list[str]:
    """A note of the files that patterns of .dvcignore leave out, `whole` with those that stay."""
    if not left_out:
        return []
    note = f".dvcignore leaves {len(left_out):,} of {whole:,} files out, such as {left_out[0]!r}"
    remedy = (
        "if they belong to the set, delete the pattern; if not, raise doctor.max_left_out, or move them to a folder"
    )
    return [note if is_few else f"{note}, so that they count as missing: {remedy} of their own and hide that"]
