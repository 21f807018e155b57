"""Which preset suits the images: photographs, or icons, digits and drawings, told by their size and their colours.

Measured on a sample of each set, the medians: 467 pictures (photographs and a few drawings) 7.0 bits of colour,
two photographs 8.7, shaded icons 5.5, digits 3.5, glyphs 2.3, flat icons 2.0.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from podium.config.params import Params
from podium.data.decode import quiet
from podium.data.sources.item import is_meant
from podium.doctor.machine import Finding, note, ok
from podium.text import counted

SAMPLE = 48
"""Images that are looked at, spread over all."""
MOST_FILES = 50_000
"""Files that are listed."""
THUMB = 128
"""Pixels that an image is reduced to, without new colours between the old ones."""
SMALL = 64
"""Median of the shorter sides below which details of photographs are gone."""
PHOTOGRAPH_BITS = 6.0
"""Median of the colours' entropy from which most images are photographs."""
FEW_PIXELS = 16
"""Pixels that differ from the background below which nothing is told."""


@dataclass(frozen=True)
class Look:
    """What a sample of the images looks like, as medians."""

    images: int
    side: float
    """Pixels of the shorter side."""
    bits: float
    """Entropy of the colours (32 levels a channel), the most frequent one, the background, left out."""
    saturation: float
    """Mean difference of the highest and the lowest channel, 0 to 1; 0: grey."""

    @property
    def are_photographs(self) -> bool:
        """Whether a network that has seen photographs is likely to know what these images show."""
        return self.side >= SMALL and self.bits >= PHOTOGRAPH_BITS

    def sentence(self) -> str:
        """What they are taken for, and why."""
        what = "photographs" if self.are_photographs else "icons, digits or drawings"
        if self.side < SMALL and self.bits >= PHOTOGRAPH_BITS:
            what = "small pictures"
        return (
            f"{counted(self.images, 'image')} looked at: {what} (shorter side {self.side:.0f} pixels,"
            f" {self.bits:.1f} bits of colour, saturation {self.saturation:.2f}; photographs: from {SMALL} pixels and"
            f" {PHOTOGRAPH_BITS:g} bits)"
        )


def preset(params: Params, presets: Path, root: Path | None = None) -> Finding:
    """Which preset of the folder `presets` suits the images that `params` names, or those in `root`; why."""
    where = root or _folder(params)
    found = look(where, params) if where.is_dir() else None
    if found is None:
        return ok("preset", f"no image file in {where}: nothing to recommend one by")
    name = "photos" if found.are_photographs else "scratch" if (presets / "scratch.yaml").is_file() else "folder"
    if found.are_photographs == bool(params.model.weights) and params.prepare.path:
        return ok("preset", f"{found.sentence()}; params.yaml suits them")
    return note("preset", found.sentence(), f"`podium preset {name}` suits them better than params.yaml as it is")


def look(folder: Path, params: Params) -> Look | None:
    """What the images below `folder` look like; None where none can be opened."""
    files = sorted(_files(folder))
    step = max(1, -(-len(files) // SAMPLE))
    rows = [one for path in files[::step] if (one := _measured(path, params)) is not None]
    if not rows:
        return None
    side, bits, saturation = np.median(np.array(rows), axis=0).tolist()
    return Look(len(rows), side, bits, saturation)


def _folder(params: Params) -> Path:
    """Where the images are: what the source names, or prepare.root."""
    path = Path(params.prepare.path) if params.prepare.path else Path(params.prepare.root)
    return path if path.is_dir() or not params.prepare.path else path.parent


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if is_meant(name):
                yield Path(place, name)
                count += 1
        if count >= MOST_FILES:
            return


def _measured(path: Path, params: Params) -> tuple[float, float, float] | None:
    """Shorter side, entropy of the colours, and saturation; None: it can't be opened, or shows nothing."""
    try:
        with quiet, Image.open(path) as image:
            if image.width * image.height > params.doctor.max_megapixels * 1e6:
                return None
            side = min(image.size)
            image.draft("RGB", (2 * THUMB, 2 * THUMB))  # a JPEG is decoded smaller, in a fraction of the time
            shown = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    except Exception:  # whatever Pillow's readers raise: `podium doctor data` names the file
        return None
    shown.thumbnail((THUMB, THUMB), Image.Resampling.NEAREST)
    pixels = np.asarray(shown.convert("RGB"), np.int64).reshape(-1, 3)
    codes = (pixels >> 3) @ np.array([1024, 32, 1])
    values, counts = np.unique(codes, return_counts=True)
    background = values[counts.argmax()]
    if counts.sum() - counts.max() < FEW_PIXELS:
        return None
    shares = counts[values != background] / (counts.sum() - counts.max())
    colours = pixels[codes != background]
    saturation = float((colours.max(1) - colours.min(1)).mean()) / 255
    return float(side), float(-(shares * np.log2(shares)).sum()), saturation
