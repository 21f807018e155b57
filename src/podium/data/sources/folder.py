"""A folder of image files: one sub-folder per class, or the same below train/, val/ and test/."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from podium.data.dvcignore import LEFT_OUT, DvcIgnore
from podium.data.sources import ImageSource
from podium.data.sources import layout as layouts
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Reject, in_order, not_pulled, shown
from podium.data.sources.listing import (
    UNFINISHED,
    Hides,
    each_entry,
    entries,
    folders_in,
    hidden_folders,
    hidden_images,
    is_litter,
    none_hidden,
)
from podium.data.sources.source import Source
from podium.data.sources.split_words import marks, split_of
from podium.errors import InputError
from podium.text import counted

if TYPE_CHECKING:
    from podium.config.params import PrepareParams


SHOWN = 10
"""Links that an error names; it counts the rest."""
LOOKED_AT = 500
"""Names of files that are looked at for what all of them say."""
COUNTED = 100_000
"""Files of a hidden folder that are counted at most: nobody asked for them."""


class Folder(ImageSource):
    """A sub-folder for each class, or these below train/, val/ and test/."""

    NAME: ClassVar[str] = "folder:"
    HAS_PATH: ClassVar[bool] = True

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """Every file of the folder."""
        hides = none_hidden if follow_links else DvcIgnore(Path.cwd()).hides_folder
        return read(Path(self.rest), Path(params.root), follow_links=follow_links, layout=params.layout, hides=hides)


def read(
    folder: Path,
    root: Path | None = None,
    *,
    follow_links: bool = False,
    layout: str = "auto",
    hides: Hides = none_hidden,
) -> Source:
    """Every file of `folder`, sorted by path; its class is the folder right below `folder` (or below its split).

    `root`: what DVC watches, `folder` if it is None; links that leave it are rejected unless `follow_links`. A folder
    that `hides` leaves out is no class and no split, and rejected as one. Raises
    InputError where `folder` is none, holds no class folder, can be read in two ways (see podium.data.sources.layout),
    or where itself or a class folder is a link that leaves `root`.
    """
    inside = (root or folder).resolve()
    found = _layout(folder, layout, hides)
    if not follow_links:
        _check_links(folder, [one.path for one in found.folders], root or folder)
    walk = _Walk(folder, inside, follow_links, hides, {one.path.resolve(): one.name for one in found.folders})
    for one in found.folders:
        walk.files_of(one.path, one.name, one.split, ())
    walk.split = None
    for path, why in found.strays:
        walk.reject("stray", path, why)
    if hides is not none_hidden:
        walk.left_out(folder, {one.path for one in found.folders})
    if not walk.found:
        raise InputError(
            f"prepare.source: {shown(folder)} holds no image that could be read: it needs a sub-folder with images for"
            f" each class (or train/, val/ and test/ with these below){_loose(walk.rejects)}"
        )
    names = in_order(set(walk.names))
    walk.found.relabel([names.index(name) for name in walk.names])
    around = sorted({one.path.parent for one in found.folders})
    walk.hidden_folders += [path for place in around for path in hidden_folders(place)]
    notes = _about_hidden([shown(path.relative_to(folder)) for path in walk.hidden], "file named like an image")
    notes += _about_hidden([shown(path.relative_to(folder)) for path in walk.hidden_folders], "folder of images")
    given = frozenset(one.split for one in found.folders if one.split)
    notes += _about_names(walk.found) if not given else ()
    notes += _about_parted(found)
    return Source(f"folder:{shown(folder)}", tuple(map(shown, names)), walk.found, walk.rejects, notes, given)


def _layout(folder: Path, layout: str, hides: Hides) -> layouts.Layout:
    """What `folder` is made of. Raises InputError where that is not known, or names of classes are the same."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        hint = not_pulled(folder)
        raise InputError(f"prepare.source: {shown(folder)} {what}; it must hold one sub-folder per class{hint}")
    try:
        found = layouts.read(folder, layout, hides)
        _check_wrapped(folder, found.folders, hides)
    except PermissionError as error:
        raise InputError(
            f"prepare.source: {shown(error.filename)} can't be listed: {error.strerror}; what the folders of"
            f" {shown(folder)} are is not known. Change its permissions"
        ) from None
    if layout == "auto":
        _check_marks(folder, found.folders)
    _check_twice(found.folders)
    return found


def _check_wrapped(folder: Path, classes: list[layouts.ClassFolder], hides: Hides) -> None:
    """Raise InputError where an archive was unpacked into a folder of its own, which would be the only class."""
    if len({one.name for one in classes}) != 1:
        return
    wrapped = (folder / classes[0].name).is_dir()
    only = folder / classes[0].name if wrapped else classes[0].path
    if only != folder and only.is_dir() and (within := folders_in(only, hides)):
        inside = ", ".join(shown(path.name) for path in within[:5])
        remedy = (
            f"write `source: folder:{shown(only)}`"
            if wrapped
            else f"move them up, out of the folder {shown(only.name)!r} of each split"
        )
        raise InputError(
            f"prepare.source: {shown(folder)} would have one class, {shown(only.name)!r}, which holds the folders"
            f" {inside}: if these are the classes{' or splits' if wrapped else ''}, {remedy}; if not, there must"
            " be a folder for each of at least two classes"
        )


def _check_marks(folder: Path, classes: list[layouts.ClassFolder]) -> None:
    """Raise InputError for images beside what is marked in them: a set for detection or segmentation."""
    names = sorted({shown(one.name) for one in classes})
    if marked := marks(names):
        splits = any(one.split for one in classes)
        raise InputError(
            f"prepare.layout: {shown(folder)} can be read in two ways: {', '.join(map(repr, names))} as classes, or"
            f" {', '.join(map(repr, marked))} as what is marked in the images, as in a set for detection or"
            f" segmentation. Write `layout: {'splits' if splits else 'classes'}` for the first; for the second put the"
            " images of each class into a folder of its own, or write a csv with the columns path and label"
        )


def _check_twice(classes: list[layouts.ClassFolder]) -> None:
    """Raise InputError where the folder of a class is a link to that of another: each image would have both labels."""
    known: dict[Path, layouts.ClassFolder] = {}
    for one in sorted(classes, key=lambda one: one.path.is_symlink()):
        first = known.setdefault(one.path.resolve(), one)
        if first.name != one.name:
            raise InputError(
                f"prepare.source: the class folders {shown(first.path)} and {shown(one.path)} are one folder, to which"
                " a link leads: each of its images would have both labels. Remove the link"
            )


def _check_links(folder: Path, classes: list[Path], root: Path) -> None:
    """Raise InputError where DVC would not see the images of `folder` or of some of its `classes` change.

    DVC 3.67 follows a link that is the dependency itself or above it, and none to a folder below it (tried).
    """
    inside = root.resolve()
    if not folder.resolve().is_relative_to(inside):
        raise InputError(
            f"prepare.root: {shown(folder)} is a link, or below one, that leads to {shown(folder.resolve())}, out of"
            f" {shown(root)}: DVC would not follow it, nor see when the images change. Write `root: {shown(folder)}`,"
            " which it follows"
        )
    outside = [path for path in classes if not path.resolve().is_relative_to(inside)]
    if outside:
        lines = [f"  {shown(path)} -> {shown(path.resolve())}" for path in outside[:SHOWN]]
        lines += [f"  and {len(outside) - SHOWN:,} more"] if len(outside) > SHOWN else []
        raise InputError(
            f"prepare.source: class folders are links that leave prepare.root, {shown(root)}. DVC does not follow them:"
            " `dvc repro` would say that nothing changed when their images do.\n" + "\n".join(lines) + "\nCopy or"
            " bind-mount the folders, or name the folder that they lie in as prepare.source and prepare.root."
            " `doctor.outside: keep` follows the links; then run `dvc repro -f prepare` after each change"
        )


def files_below(folder: Path) -> tuple[list[Path], list[Reject]]:
    """Every file below `folder`, sorted, as a source of images would find them, and what would be rejected."""
    walk = _Walk(folder, folder.resolve(), follow_links=False)
    walk.files_of(folder, "", None, ())
    unseen = [*walk.hidden, *walk.hidden_folders]
    hidden = [Reject("stray", shown(path.relative_to(folder)), "it is hidden") for path in unseen]
    return sorted(one.content for one in walk.found if isinstance(one.content, Path)), walk.rejects + hidden


@dataclass
class _Walk:
    """Files found so far, and what was rejected."""

    folder: Path
    inside: Path
    """What DVC watches, links resolved; what leads out of it is rejected unless `follow_links`."""
    follow_links: bool
    hides: Hides = none_hidden
    """Which folders are left out."""
    classes: dict[Path, str] = field(default_factory=dict)
    """The class of each class folder, links resolved."""
    names: dict[str, int] = field(default_factory=dict)
    """Classes with their numbers, in the order in which they were found; those without a file too."""
    rejects: list[Reject] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    """Files that are ignored although their names are those of images."""
    hidden_folders: list[Path] = field(default_factory=list)
    """Folders that are ignored although they hold files named so."""
    split: str | None = None
    """Of the files that are looked at now."""

    def __post_init__(self) -> None:
        self.found = FileItems(self.folder)

    def reject(self, kind: str, path: Path, why: str) -> None:
        self.rejects.append(Reject(kind, shown(path.relative_to(self.folder)), why, split=self.split))

    def files_of(self, path: Path, name: str, split: str | None, above: tuple[Path, ...]) -> None:
        """Everything below the folder `path`; `above`: the real folders on the way, to which a link may lead back."""
        self.split = split
        label = self.names.setdefault(name, len(self.names))
        real = path.resolve()
        if not self._allowed(path, real):
            return
        if real in above or (path.is_symlink() and self._leads_back(path, real)):
            self.reject("outside", path, "it is a link that leads back to a folder above it")
            return
        if self.classes.get(real, name) != name:
            self.reject("outside", path, f"it is a link to the folder of another class, {shown(self.classes[real])!r}")
            return
        try:
            within = each_entry(path)
            self.hidden += hidden_images(path)
            self.hidden_folders += hidden_folders(path)
        except OSError as error:
            self._unlisted(path, error)
            return
        for entry in within:
            is_folder = os.path.isdir(entry)  # noqa: PTH112 (Path raises where `path` may not be entered)
            if is_folder and self.hides(entry):
                self._hidden_folder(entry)
            elif is_folder:
                self.files_of(entry, name, split, (*above, real))
            elif UNFINISHED.fullmatch(entry.name):
                why = (
                    "it is named as a backup copy or an unfinished download is; rename it if it is an image of the set"
                )
                self.reject("not_image", entry, why)
            elif self._is_file(entry):
                self.found.append(str(entry.relative_to(self.folder)), label, split)

    def left_out(self, place: Path, known: set[Path], levels: int = 1) -> None:
        """Reject the folders in `place` that `hides` leaves out, and those in the folders of `levels` below.

        Folders `known` were walked.
        """
        try:
            within = entries(place)
        except OSError as error:
            self._unlisted(place, error)
            return
        for path in within:
            if path in known or path.is_symlink() or not path.is_dir():
                continue
            if self.hides(path):
                self._hidden_folder(path)
            elif levels:
                self.left_out(path, known, levels - 1)

    def _hidden_folder(self, path: Path) -> None:
        """One reject for the folder `path`, which a person left out: its files were never meant to be in the set."""
        count = 0
        for _, folders, files in os.walk(path):
            folders[:] = [name for name in folders if not is_litter(name)]
            count += sum(not is_litter(name) for name in files)
            if count >= COUNTED:
                break
        if count:
            many = f"{COUNTED:,} files or more" if count >= COUNTED else counted(count, "file")
            origin = shown(path.relative_to(self.folder))
            why = DvcIgnore(Path.cwd()).why(path)
            self.rejects.append(
                Reject("outside", origin, f"{why}, with {many} in it", why != LEFT_OUT, files=count, split=self.split)
            )

    def _unlisted(self, path: Path, error: OSError) -> None:
        self.reject("unreadable", path, f"it can't be listed: {error.strerror}")

    def _allowed(self, path: Path, real: Path) -> bool:
        if self.follow_links or real.is_relative_to(self.inside):
            return True
        what = "a link to a folder, with all that is in it," if path.is_dir() else "a link"
        self.reject("outside", path, f"it is {what} that leaves the folder")
        return False

    def _leads_back(self, link: Path, real: Path) -> bool:
        """Whether a link leads to a folder around it: other classes in there would be of its class, too."""
        return link.parent.resolve().is_relative_to(real)

    def _is_file(self, path: Path) -> bool:
        try:
            kind = path.stat().st_mode
        except OSError as error:
            what = "it can't be reached" if isinstance(error, PermissionError) else "it is a link to nowhere"
            self.reject("unreadable", path, f"{what}: {error.strerror}")
            return False
        if not stat.S_ISREG(kind):
            self.reject("unreadable", path, "it is neither a file nor a folder")
            return False
        return not path.is_symlink() or self._allowed(path, path.resolve())


def _about_hidden(names: list[str], what: str) -> tuple[str, ...]:
    """A note of the hidden `names`; `what`: one of them."""
    if not names:
        return ()
    first, _, rest = what.partition(" ")
    count = f"{counted(len(names), f'hidden {first}')} {rest}"
    return (f"{count} {'is' if len(names) == 1 else 'are'} ignored, such as {names[0]}",)


def _about_parted(found: layouts.Layout) -> tuple[str, ...]:
    """A note where folders of one name are in several classes: they could be the classes."""
    if not found.parted:
        return ()
    some = ", ".join(map(shown, found.parted[:3])) + (" and others" if len(found.parted) > 3 else "")
    return (
        f"folders called {some} are in several classes and taken as parts of these: `layout: classes` says so. If they"
        " are the classes, move them to the top, or write a csv with the columns path and label",
    )


def _about_names(found: FileItems) -> tuple[str, ...]:
    """A note where the names of files say train and test: cat/train_1.png, cat/test_1.png."""
    step = max(1, len(found) // LOOKED_AT)
    some = [found.origin(number) for number in range(0, len(found), step)]
    splits = {origin: said[0] for origin in some if (said := split_of(Path(origin).stem))}
    if len(splits) < len(some) or len(set(splits.values())) < 2 or "train" not in splits.values():
        return ()
    return (
        f"names of files say {', '.join(sorted(set(splits.values())))}, such as {some[0]}: folders called train/, val/"
        " and test/ or the column split of a csv give splits, names of files none, so all images are split again",
    )


def _loose(rejects: list[Reject]) -> str:
    loose: Iterator[str] = (reject.origin for reject in rejects if reject.kind == "stray")
    if first := next(loose, None):
        return f"; files such as {first!r} lie in no class folder"
    links = next((reject for reject in rejects if reject.kind == "outside"), None)
    remedy = "; `doctor.outside: keep` follows links (DVC does not see changes behind links to folders)"
    return f"; {links.origin!r}: {links.why}{remedy}" if links else ""
