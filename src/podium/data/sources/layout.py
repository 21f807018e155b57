"""Layouts of a folder of images: which folders are classes and which are splits.

A folder is read in one way or refused with both readings: a split that is taken for a class trains a network that
tells training images from test images, and everything afterwards looks well.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from podium.data import dvcignore
from podium.data.sources.item import is_meant, shown
from podium.data.sources.listing import Hides, entries, folders_in, is_litter, none_hidden
from podium.data.sources.split_words import SHORT_SPLITS, SPLITS, is_container, split_of, split_twins
from podium.errors import InputError
from podium.text import counted

FOLDS = re.compile(r"(fold|cv|kfold|split|part)[ _.-]?\d+", re.IGNORECASE)
"""Names of parts of a set that are neither classes nor splits."""
GENERIC = re.compile(r"[\W\d_]+|[^\W\d_]+[ _.-]?\d+")
"""Names of folders that part the images of a class as well as a set: 2023, 2024-05-01, batch1, day_3."""
DATED = re.compile(
    r"(19|20)\d\d([ _.-]?\d\d){1,2}|(batch|burst|day|month|roll|session|take|visit|week)[ _.-]?\d+", re.IGNORECASE
)
"""Those that are no class; a year alone may be one, as where images are dated by what is on them."""
OTHERS = {"other", "others", "misc", "miscellaneous", "extra", "extras", "more", "rest", "unknown", "various", "done"}
OTHERS |= {"old", "new", "raw", "original", "originals", "edited", "cropped", "augmented", "backup", "copy", "unsorted"}
"""Those that do so without a number."""
FLAT = "files directly, without a folder for each class"


@dataclass(frozen=True)
class ClassFolder:
    """A folder that holds the images of one class."""

    name: str
    split: str | None
    path: Path


@dataclass(frozen=True)
class Layout:
    """What a folder is made of."""

    folders: list[ClassFolder]
    strays: list[tuple[Path, str]] = field(default_factory=list)
    """What lies elsewhere, each with the reason."""
    parted: list[str] = field(default_factory=list)
    """Names of folders that are in several classes, and that auto takes as parts of these."""


def read(folder: Path, layout: str = "auto", hides: Hides = none_hidden) -> Layout:
    """The class folders of `folder`. `layout`: auto, classes or splits, as `prepare.layout` says.

    A folder that `hides` leaves out, such as one that DVC does not see, decides nothing.

    Raises InputError where auto finds two readings, or splits finds no folder for training.
    """
    inside = folders_in(folder, hides)
    if layout == "classes":
        return _by_class(folder, hides)
    parts = _parts(inside)
    if layout == "splits":
        return _as_splits(folder, parts, inside, hides)
    if not parts:
        return _auto_without_parts(folder, inside, hides)
    others = [path for path in inside if path not in parts]
    why = _doubt(parts, others, hides)
    if why == "classes":
        return _by_class(folder, hides)
    if why:
        raise _ambiguous(folder, parts, why, inside)
    return _by_split(folder, parts, hides)


def _parts(folders: Sequence[Path]) -> dict[Path, str]:
    """The folders that stand for a split, each with it.

    A name that says something else counts where all folders say the same, as in flowers_train and flowers_test.
    """
    named = {path: found for path in folders if (found := split_of(path.name))}
    plain = {path: split for path, (split, rest) in named.items() if not rest}
    same = {rest for _, rest in named.values()}
    if not plain and len(named) == len(folders) and len(same) == 1 and len({s for s, _ in named.values()}) > 1:
        plain = {path: split for path, (split, _) in named.items()}
    if "eval" in plain.values():
        left = [split for split in ("val", "test") if split not in plain.values()]
        if len(left) == 1:
            plain = {path: left[0] if split == "eval" else split for path, split in plain.items()}
    return plain


def _doubt(parts: dict[Path, str], others: Sequence[Path], hides: Hides) -> str:
    """Why `parts` may not be splits; empty: they are; classes: they are classes without a doubt."""

    def flat_one(path: Path) -> bool:
        return _holds_only_files(path, hides)

    flat = [path for path in parts if flat_one(path)]
    names = [path.name for path in parts]
    if {"train"} == {path.name.lower() for path in parts} and others and all(map(flat_one, [*parts, *others])):
        return "classes"  # a train is a vehicle, too
    if len(flat) == len(parts):
        hold = "holds its" if len(names) == 1 else "hold their"
        return f"{_list(names)} {hold} {FLAT}"
    if "eval" in parts.values():
        return "the folder for evaluation may be meant for validation or as the held-out test set: rename it to either"
    if double := [split for split, count in Counter(parts.values()).items() if count > 1]:
        same = [path.name for path, split in parts.items() if split == double[0]]
        return f"{_list(same)} all mean {double[0]}"
    if "train" not in parts.values():
        return "no folder is for training"
    if others:
        return f"{_list([path.name for path in others])} {'is' if len(others) == 1 else 'are'} no split"
    return ""


def _as_splits(folder: Path, parts: dict[Path, str], inside: Sequence[Path], hides: Hides) -> Layout:
    """What `layout: splits` asks for: folders of splits, or splits within the folders of classes."""
    if "train" in parts.values() and "eval" not in parts.values():
        return _by_split(folder, parts, hides)
    if not parts and (below := _splits_below(inside, hides)):
        return _below(folder, below, inside, hides)
    raise InputError(
        f"prepare.layout: splits needs a folder train/ and val/ or test/ in {shown(folder)}, or in each of its class"
        f" folders; got {_list([path.name for path in inside]) or 'no folder'}"
    )


def _auto_without_parts(folder: Path, inside: Sequence[Path], hides: Hides) -> Layout:
    """Class folders, unless there are splits in them or in their names."""
    below = _splits_below(inside, hides)
    if below and len({path.parent for path in below}) == len(inside):
        return _below(folder, below, inside, hides)
    if below:
        some = next(iter(below)).parent.name
        raise InputError(
            f"prepare.layout: {shown(folder)} can be read in two ways: {shown(some)!r} holds folders of splits"
            f" ({_list(sorted({path.name for path in below}))}), other class folders do not. Write `layout: splits`"
            " (their images get that split, others are drawn) or `layout: classes` (all of a class folder is the class,"
            " whatever the folders in it are called)"
        )
    names = [path.name for path in inside]
    if len(names) > 1 and all(FOLDS.fullmatch(name) for name in names):
        raise InputError(
            f"prepare.layout: {shown(folder)} can be read in two ways: {_list(names)} as classes, or as parts of one"
            " set that hold the classes. Write `layout: classes` for the first; for the second move the parts into"
            " train/, val/ and test/, or write a csv with the columns path, label and split"
        )
    parted = _check_levels(folder, inside, hides)
    if twins := split_twins(names):
        raise InputError(
            f"prepare.layout: {shown(folder)} can be read in two ways: {_list(names)} as {len(names)} classes, or"
            f" {_list(twins)} as splits of classes. Write `layout: classes` for the first; for the second make folders"
            " such as train/cat"
        )
    return replace(_by_class(folder, hides), parted=parted)


def _check_levels(folder: Path, inside: Sequence[Path], hides: Hides) -> list[str]:
    """Raise InputError where the classes may lie one level below the folders `inside`; else names that recur there.

    That is where these hold folders whose names recur (learn/cat, learn/dog, check/cat, check/bird), or where one is
    called like a container (images, data) and holds folders itself.
    """
    below = {path: _names_below(path, hides) for path in inside}
    recurring = _recurring(below)
    around = [path for path in inside if len(below[path]) > 1 and is_container(path.name)] if len(inside) > 1 else []
    if not recurring and not around:
        return _in_several(below)
    which = max(around or inside, key=lambda path: len(below[path]))
    several = len(recurring) > 1
    why = (
        f"{shown(which.name)!r} is called like a container"
        if around
        else f"{_list(recurring)} {'are folders' if several else 'is a folder'} in several of them: folders of the same"
        " names"
    )
    raise InputError(
        f"prepare.layout: {shown(folder)} can be read in two ways: {_list([path.name for path in inside])} as classes,"
        f" or the folders in them ({_list(sorted(set().union(*below.values())))}); {why}. Write `layout: classes` for"
        " the first; for the second call the folders of training, validation and test images train/, val/ and test/,"
        f" or write `source: folder:{shown(which)}` if it alone is meant"
    )


def _recurring(below: dict[Path, set[str]]) -> list[str]:
    """Names of folders that are in several of the folders `below`, sorted; none where these are classes all the same.

    One name that recurs (cat/other and dog/other, ok/batch1 and defect/batch1) parts the images of classes. The names
    are those of classes where at least two recur, and half of them; where half of the folders have one that recurs and
    says what is in it; and where the folders above are called as splits are in tables (tr, te); but not where all of
    them are dates or batches (cat/2023, dog/2023) and those above are not. They are classes where
    most hold no folder, and where images lie beside the folders in each that holds some.
    """
    counts = Counter(name.lower() for names in below.values() for name in names)
    recurring = _in_several(below)
    holding = [path for path, names in below.items() if names]
    is_rare = 2 * len(holding) < len(below)
    if len(counts) < 2 or not recurring or is_rare or all(map(_holds_images, holding)):
        return []
    named = [name for name in recurring if not (GENERIC.fullmatch(name) or name in OTHERS)]
    is_most = len(recurring) > 1 and len(recurring) * 2 >= len(counts)
    says = 2 * sum(counts[name] for name in named) >= counts.total()
    splits = {SHORT_SPLITS.get(path.name.lower(), "") for path in below}
    if len(splits) > 1 and "" not in splits:
        return recurring
    is_dated = all(map(DATED.fullmatch, recurring)) and not any(DATED.fullmatch(path.name) for path in below)
    return recurring if (is_most and not is_dated) or says else []


def _in_several(below: dict[Path, set[str]]) -> list[str]:
    """Names that are in several of the folders `below`, sorted."""
    counts = Counter(name.lower() for names in below.values() for name in names)
    return sorted(name for name, count in counts.items() if count > 1 and not is_container(name))


def _holds_images(folder: Path) -> bool:
    """Whether images lie in `folder` itself."""
    with os.scandir(folder) as found:
        return any(is_meant(one.name) and not is_litter(one.name) and not one.is_dir() for one in found)


def _names_below(path: Path, hides: Hides) -> set[str]:
    """Names of the folders in `path`; none where more files lie beside them than in them.

    None, too, where it can't be listed: the walk will say so.
    """
    try:
        with os.scandir(path) as found:
            kinds = {one.name: one.is_dir() for one in found if not is_litter(one.name)}
        names = {name for name, is_folder in kinds.items() if is_folder and not hides(path / name)}
        files = sum(not is_folder for is_folder in kinds.values())
        return names if not files or files < sum(_files_in(path / name) for name in names) else set()
    except OSError:
        return set()


def _files_in(folder: Path) -> int:
    """How many files and folders lie in `folder`."""
    with os.scandir(folder) as found:
        return sum(not is_litter(one.name) for one in found)


def _splits_below(inside: Sequence[Path], hides: Hides) -> dict[Path, str]:
    """Folders of splits within the class folders `inside`; empty unless one of these holds training and another."""
    found: dict[Path, str] = {}
    for path in inside:
        try:
            folders = folders_in(path, hides)
        except OSError:  # the walk will say so
            continue
        parts = {one: split[0] for one in folders if (split := split_of(one.name)) and not split[1]}
        if len(parts) == len(folders) and {"train"} < set(parts.values()) and "eval" not in parts.values():
            found |= parts
    return found


def _by_class(folder: Path, hides: Hides) -> Layout:
    folders = [ClassFolder(path.name, None, path) for path in entries(folder, hides) if path.is_dir()]
    strays = [(path, "it lies outside the class folders") for path in entries(folder, hides) if not path.is_dir()]
    return Layout(folders, strays)


def _by_split(folder: Path, parts: dict[Path, str], hides: Hides) -> Layout:
    _check_parts(folder, parts, hides)
    folders: list[ClassFolder] = []
    strays: list[tuple[Path, str]] = []
    for part, split in sorted(parts.items(), key=lambda pair: list(dict.fromkeys(SPLITS.values())).index(pair[1])):
        for path in entries(_unwrapped(part, split, hides), hides):
            if path.is_dir():
                folders.append(ClassFolder(path.name, split, path))
            else:
                strays.append((path, "it lies outside the class folders"))
    strays += [
        (path, "it lies outside the folders of the splits") for path in entries(folder, hides) if path not in parts
    ]
    return Layout(folders, strays)


def _check_parts(folder: Path, parts: dict[Path, str], hides: Hides) -> None:
    """Raise InputError where a folder of validation or test images holds none: these would be drawn from train."""
    trained = {path.name for part, split in parts.items() if split == "train"
               for path in folders_in(_unwrapped(part, split, hides), hides)}  # fmt: skip
    for part, split in parts.items():
        inside = _unwrapped(part, split, hides)
        held = folders_in(inside, hides) if split != "train" else []
        if held and all(is_container(path.name) and path.name not in trained for path in held):
            what = f"holds only {_list([path.name for path in held])}, which is no class of the training images"
            where = f"a folder for each class, as in {shown(folder / part.name)}/cat"
            raise _empty(part, split, what, where, _without_labels(part, hides))
        if split != "train" and not any(_holds_files(path) for path in folders_in(inside, hides)):
            others = [path for other, of in parts.items() if of == split and other != part
                      for path in folders_in(other, hides)]  # fmt: skip
            if any(map(_holds_files, others)):
                continue
            files = sum(not path.is_dir() for path in entries(inside, hides))
            what = f"holds {counted(files, 'file')} and no folder of a class" if files else "holds no file"
            where = f"a folder for each class, as in {shown(folder / part.name)}/cat"
            raise _empty(part, split, what, where, _without_labels(part, hides) if files else "")


def _without_labels(part: Path, hides: Hides) -> str:
    """How to leave out a folder of images whose classes nobody knows, such as the test images of a competition."""
    line = dvcignore.line_for(part, Path.cwd()) if hides is not none_hidden else ""
    how = f"write the line {line} into .dvcignore" if line else "move it out of that folder"
    return f"; or, if nobody knows the classes of its images, leave it out: {how}, and others are drawn from train"


def _empty(part: Path, split: str, what: str, where: str, more: str = "") -> InputError:
    held = "held-out test" if split == "test" else "validation"
    return InputError(
        f"prepare.layout: {shown(part)} is the folder of the {held} images, and {what}: these images would be drawn"
        f" from train. Put its images into {where}; or, if they are to be drawn, remove it{more}"
    )


def _holds_files(folder: Path) -> bool:
    """Whether there is a file somewhere below; what can't be listed may hold some."""
    try:
        with os.scandir(folder) as found:
            inside = [(one.is_dir(), one.name) for one in found if not is_litter(one.name)]
    except OSError:
        return True
    return any(not is_folder for is_folder, _ in inside) or any(_holds_files(folder / name) for _, name in inside)


def _below(folder: Path, below: dict[Path, str], inside: Sequence[Path], hides: Hides) -> Layout:
    """Splits within class folders; a class without any is drawn from.

    Raises InputError where all folders of the validation or of the test images are empty.
    """
    for split in ("val", "test"):
        of = [path for path, meant in below.items() if meant == split]
        if of and not any(map(_holds_files, of)):
            raise _empty(of[0], split, "holds no file, nor do those of the other classes", shown(of[0]))
    folders = [ClassFolder(path.parent.name, split, path) for path, split in below.items()]
    parents = {path.parent for path in below}
    folders += [ClassFolder(path.name, None, path) for path in inside if path not in parents]
    loose = [path for parent in sorted(parents) for path in entries(parent, hides) if path not in below]
    strays = [(path, "it lies outside the folders of the splits") for path in loose]
    strays += [(path, "it lies outside the class folders") for path in entries(folder, hides) if path not in inside]
    return Layout(folders, strays)


def _unwrapped(part: Path, split: str, hides: Hides) -> Path:
    """The folder within that holds the classes, where `train/train` repeats the split."""
    within = entries(part, hides)
    if len(within) == 1 and within[0].is_dir() and (split_of(within[0].name) or ("", ""))[0] == split:
        return within[0]
    return part


def _holds_only_files(folder: Path, hides: Hides) -> bool:
    try:
        return not folders_in(folder, hides) and bool(entries(folder, hides))
    except OSError:
        return False


def _ambiguous(folder: Path, parts: dict[Path, str], why: str, inside: Sequence[Path]) -> InputError:
    splits = ", ".join(f"{shown(path.name)!r} as {split}" for path, split in parts.items())
    everything = _list([path.name for path in inside])
    first = (
        "For the first, put the images of each class into a folder of its own in each of them, such as"
        f" {shown(next(iter(parts)))}/cat, or write a csv with the columns path, label and split; write"
        if why.endswith(FLAT) and "train" in parts.values()
        else "Write `layout: splits` for the first (other folders are then left out, folders of one split joined) or"
        if "train" in parts.values()
        else "For the first, the folder of the training images must be called train/, with a folder for each class in"
        " it; write"
    )
    return InputError(
        f"prepare.layout: {shown(folder)} can be read in two ways: with splits ({splits}), or with the classes"
        f" {everything}; {why}. {first} `layout: classes` for the second"
    )


def _list(names: Sequence[str]) -> str:
    some = [repr(shown(name)) for name in names[:5]]
    return ", ".join(some) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
