"""The sections of the images: `prepare`, and `doctor`, what to do with what is wrong with them."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from podium import components
from podium.components import FROZEN
from podium.config.problems import Fraction, Text

Unusable = Literal["refuse", "skip"]
"""What can't be decoded can't be used."""
Usable = Literal["refuse", "skip", "keep"]
Whole = Literal["refuse", "keep"]
"""Of the set as a whole: nothing that could be left out."""


class DoctorParams(BaseModel):
    """refuse: nothing is prepared; skip: these images are left out; keep: they are reported and used."""

    model_config = FROZEN

    unreadable: Unusable = "skip"
    """Files that may not be read, broken links, and what is no file."""
    empty: Unusable = "skip"
    """Files of 0 bytes."""
    not_image: Unusable = "skip"
    """Files of another kind, whatever their name says."""
    truncated: Unusable = "skip"
    """Image files that end too early."""
    corrupt: Unusable = "skip"
    """Image files that can't be decoded for another reason."""
    huge: Unusable = "skip"
    """Files above max_megabytes or max_megapixels; they are never decoded."""
    changed: Unusable = "refuse"
    """Files that change or disappear while they are read: somebody is still copying."""
    outside: Usable = "skip"
    """Links and paths that leave the source's folder, and files that .dvcignore hides from DVC."""
    stray: Unusable = "skip"
    """Files next to the class folders."""
    tiny: Usable = "skip"
    """Images with a side below min_side."""
    odd_size: Usable = "keep"
    """Images whose longer side is above max_aspect times the shorter, or with an unusual area. The area is compared
    with the median."""
    odd_mode: Usable = "keep"
    """Animations, files of several pages (the first is taken), and images stored unlike nearly all others: palette,
    CMYK, 16 bits, transparent."""
    blank: Usable = "keep"
    """Images that are black, white, of one shade or fully transparent."""
    mixed_channels: Whole = "keep"
    """Grey images among coloured ones. All get the channels of prepare.channels, or RGB."""
    duplicates: Usable = "keep"
    """Equal images of one class; skip leaves one. They always share a split."""
    conflicts: Usable = "keep"
    """Equal images with different labels; skip leaves none."""
    leaks: Usable = "keep"
    """Equal images in several splits that the source gives or data/split remembers; skip keeps those of test, then of
    val."""
    near_duplicates: Usable = "keep"
    """As duplicates, for images that were re-encoded, resized or cropped a little."""
    near_conflicts: Usable = "keep"
    """As conflicts, for near-duplicates. A near-duplicate may rightly have another label, so look before you skip."""
    near_leaks: Usable = "keep"
    """As leaks, for near-duplicates."""
    large_groups: Whole = "keep"
    """Groups of images that hold more than max_group of a class: a group is in one split."""
    left_out: Whole = "refuse"
    """More than max_left_out of the files can't be used."""
    similar_classes: Whole = "refuse"
    """Class names that differ by case, spaces, accents, quotes, a full stop behind or a number's form (1, 01, 1.0)."""
    similar_groups: Whole = "refuse"
    """Group names that differ by a number's form (7, 07, 7.0), or by spaces or quotes around them. By case, too, if
    half of the names do."""
    imbalance: Whole = "keep"
    """The largest class has more than max_ratio times as many images as the smallest."""
    near: Literal["auto", "crops", "copies", "off"] = "auto"
    """Near-duplicates: crops too (slow), copies only, off; auto: crops up to 20,000 images. A set that was split
    with crops before is refused beyond that."""
    min_side: Annotated[int, Field(ge=1)] = 8
    """Pixels; below it an image is tiny."""
    max_megapixels: Annotated[float, Field(gt=0)] = 64.0
    """An image above it is huge: it may be a decompression bomb."""
    max_megabytes: Annotated[float, Field(gt=0)] = 32.0
    """A file above it is huge."""
    max_aspect: Annotated[float, Field(gt=1)] = 4.0
    """A size above this ratio of the longer to the shorter side is odd."""
    max_group: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A group above this fraction of a class is large."""
    max_left_out: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest fraction of files left out. Files next to the class folders count if their names are those of images;
    what .dvcignore leaves out of a folder does not, since somebody asked for it."""
    max_ratio: Annotated[float, Field(gt=1)] = 10.0
    """Classes above this ratio of the largest to the smallest are imbalanced."""


MAX_SIDE = 4096


def corrections_name(name: str) -> str:
    """`name`, if it is that of a CSV file without a folder. Raises ValueError for another."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.csv", name):
        return name
    raise ValueError(f"must be the name of a .csv file in data/labels, without a folder; got {name!r}")


def _corrections(name: str) -> str:
    return corrections_name(name) if name else name


def _source(text: str) -> str:
    if text.endswith(":"):
        raise ValueError(f"must have a name behind the colon, such as folder:data/raw/photos; got {text!r}")
    return components.check_name("source", text)


def _colour(text: str) -> str:
    try:
        known = len(ImageColor.getrgb(text)) == 3
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"must be the name of a colour or #rrggbb; got {text!r}")
    return text


def _size(value: Any) -> Any:
    sides = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if value is not None and not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"must be a side of 1 to {MAX_SIDE} pixels, [height, width] or null; got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _range(value: Any) -> Any:
    if isinstance(value, str) and value in ("auto", "container"):
        return value
    ends = value if isinstance(value, list | tuple) and len(value) == 2 else []
    if not ends or not all(type(end) in (int, float) for end in ends) or not ends[0] < ends[1]:
        raise ValueError(f"must be auto, container or [low, high], two rising numbers; got {value!r}")
    return float(ends[0]), float(ends[1])


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression; got {text!r}: {error}") from None
    if groups != 1:
        raise ValueError(
            "must have one group in round brackets, around what images have in common, such as '^[^/]+/(p[0-9]+)_';"
            f" got {groups} in {text!r} (brackets that only hold together are written (?:...))"
        )
    return text


class PrepareParams(BaseModel):
    """Which images, how they are decoded, and how they are split."""

    model_config = FROZEN

    source: Annotated[str, AfterValidator(_source)] = "digits"
    """digits, torchvision:<class>, folder:<path>, csv:<path> or your own module:function. The digits are inside
    scikit-learn; docs/extend.md shows an own function."""
    root: Text = "data/raw"
    """Folder that DVC watches: the source's files are in it or below it."""
    layout: Literal["auto", "classes", "splits"] = "auto"
    """folder: what the folders in it are: classes, splits, or auto, as their names say. classes: one per class;
    splits: train/, val/ and test/ with these below, or these within each class; auto refuses what is ambiguous."""
    group: Annotated[str | None, AfterValidator(_pattern)] = None
    """Regular expression with one group: what an image's path belongs to, such as a patient. Images of a group
    share a split. A burst: `([^/]+)_\\d+\\.jpg$`."""
    arguments: dict[str, str | int | float | bool] = {}
    """Arguments of a torchvision class, such as {split: balanced} of EMNIST, or of your function."""
    download: bool = False
    """Let torchvision download missing files."""
    size: Annotated[int | tuple[int, int] | None, BeforeValidator(_size)] = None
    """Side, or [height, width], in pixels; null: that of the source, if all images have one size."""
    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (RGB); null: the source's own."""
    range: Annotated[Literal["auto", "container"] | tuple[float, float], BeforeValidator(_range)] = "auto"
    """Range of values of images deeper than 8 bits: auto, container or [low, high]. These become black and white;
    container: all that 16 bits hold (floats: 0 to 1, or to 255); auto: what the set needs, as 0 to 4095 for 12
    bits. It is stored with the model."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """What to do if the ratio of the sides differs: stretch, crop to the middle, or pad. The background colour pads."""
    background: Annotated[str, AfterValidator(_colour)] = "white"
    """Colour below transparent pixels and around padded images: a name or #rrggbb."""
    val_fraction: Fraction = 0.15
    """Fraction of each class's images for validation, if the source has no such split. The search is judged on them."""
    test_fraction: Fraction = 0.15
    """Fraction of each class's images in the held-out test set, if the source has none."""
    salt: str = "podium"
    """Another salt gives another split of a new set. Of a set that is split it can't be changed: data/split/split.csv
    remembers it."""
    corrections: Annotated[str, AfterValidator(_corrections)] = ""
    """CSV in data/labels with labels that a person corrected; empty: none. `podium relabel` writes one to be edited:
    the columns path, label, new_label and leave_out."""
    min_per_class: Annotated[int, Field(ge=1)] = 5
    """A class with fewer training images, or none in another split, is refused."""

    @property
    def path(self) -> str:
        """Of folder: and csv: sources; else empty."""
        own = components.find("source", self.source)
        return self.source.partition(":")[2] if own is not None and own.HAS_PATH else ""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "PrepareParams":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction must be below 1, so that images are left to train on;"
                f" got {self.val_fraction} + {self.test_fraction}"
            )
        return self

    @model_validator(mode="after")
    def _is_watched(self) -> "PrepareParams":
        """DVC sees new images only below `root`; its templates can't take the path out of `source`."""
        if self.path and not _below(Path(self.path), Path(self.root)):
            folder = self.path if self.source.startswith("folder:") else str(Path(self.path).parent)
            raise ValueError(
                f"root must be the folder of {self.source!r} or one above it, so that DVC sees images that are added;"
                f" got {self.root!r}. Write `root: {folder}`"
            )
        return self


def _below(path: Path, root: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))  # noqa: PTH100 (links stay as they are)
