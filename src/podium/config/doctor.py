"""The section `doctor`: what happens to each thing that is wrong with a set of images."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from podium.components import FROZEN

Unusable = Literal["refuse", "skip"]
"""What can't be decoded can't be kept."""
Usable = Literal["refuse", "skip", "keep"]
Whole = Literal["refuse", "keep"]
"""Of the set as a whole: nothing that could be left out."""


class DoctorParams(BaseModel):
    """refuse: nothing is prepared; skip: these images are left out; keep: they are reported and used."""

    model_config = FROZEN

    unreadable: Unusable = "skip"
    """Files that may not be read, links to nowhere, and what is no file."""
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
    """Files that change or go while they are read: somebody is still copying."""
    outside: Usable = "skip"
    """Links and paths that leave the source's folder."""
    stray: Unusable = "skip"
    """Files that lie beside the class folders."""
    tiny: Usable = "skip"
    """Images with a side below min_side."""
    odd_size: Usable = "keep"
    """Images whose longer side is more than max_aspect times the shorter, or whose area is far from the median."""
    odd_mode: Usable = "keep"
    """Images stored otherwise than nearly all others (palette, CMYK, 16 bits, transparent), and animations."""
    duplicates: Usable = "keep"
    """Equal images of one class; skip leaves one. They always share a split."""
    conflicts: Usable = "keep"
    """Equal images with different labels; skip leaves none."""
    leaks: Usable = "keep"
    """Equal images in several of the source's own splits; skip keeps those of test, then of val."""
    near_duplicates: Usable = "keep"
    """The same for images that were re-encoded, resized or cropped a little."""
    near_conflicts: Usable = "keep"
    """The same; a near-duplicate may rightly have another label, so look before you skip."""
    near_leaks: Usable = "keep"
    """The same."""
    similar_classes: Whole = "refuse"
    """Class names that differ by case or by the way accents are written."""
    imbalance: Whole = "keep"
    """The largest class has more than max_ratio times the images of the smallest."""
    near: Literal["auto", "crops", "copies", "off"] = "auto"
    """Near-duplicates: crops too (slow for many images), copies only, none; auto: crops up to 20,000 images, and a set
    that was divided with crops before is refused beyond that."""
    min_side: Annotated[int, Field(ge=1)] = 8
    """Pixels; below it an image is tiny."""
    max_megapixels: Annotated[float, Field(gt=0)] = 64.0
    """Above it an image is huge: a decompression bomb until shown otherwise."""
    max_megabytes: Annotated[float, Field(gt=0)] = 32.0
    """Above it a file is huge."""
    max_aspect: Annotated[float, Field(gt=1)] = 4.0
    """Above it a size is odd."""
    max_ratio: Annotated[float, Field(gt=1)] = 10.0
    """Above it the classes are out of balance."""
