"""The section `prepare`."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from podium import components
from podium.components import FROZEN
from podium.config.fields import Fraction, Text

MAX_SIDE = 4096


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


class PrepareParams(BaseModel):
    """Which images, made what of, and how they are divided."""

    model_config = FROZEN

    source: Annotated[str, AfterValidator(_source)] = "digits"
    """digits (inside scikit-learn), torchvision:<class>, folder:<path>, csv:<path>, or your own function as
    module:function (docs/extend.md)."""
    root: Text = "data/raw"
    """Folder that DVC watches: the source's files lie in it or below it."""
    arguments: dict[str, str | int | float | bool] = {}
    """Keyword arguments of a torchvision class, such as {split: balanced} of EMNIST, or of your own function."""
    download: bool = False
    """Let torchvision fetch the files where they are missing."""
    size: Annotated[int | tuple[int, int] | None, BeforeValidator(_size)] = None
    """Side, or height and width, of the images in pixels; null: the source's own, where all have one size."""
    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (RGB); null: the source's own."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """Where the ratio of the sides differs: stretch, crop to the middle, or pad with the background."""
    background: Annotated[str, AfterValidator(_colour)] = "white"
    """Colour below transparent pixels and beside padded images: a name or #rrggbb."""
    val_fraction: Fraction = 0.15
    """Share of the images for validation: what the search maximises on; where the source has no such split."""
    test_fraction: Fraction = 0.15
    """Share sealed until evaluation, where the source has no test split of its own."""
    salt: str = "podium"
    """Another salt gives another split; the same salt keeps every image where it is when images are added."""
    min_per_class: Annotated[int, Field(ge=1)] = 5
    """A class with fewer images than this in the training split, or none in another split, is refused."""

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
