"""Which preset suits the images: photographs, or icons, digits and drawings, told by their size and their colours.

An image counts as a photograph if its colours have much entropy, or some and hardly an even area. Fraction of such
images among 48 to 80 of a set: 467 pictures (photographs and drawings) 0.56, tiles of two photographs 0.54, shaded
icons 0.44; flat icons, glyphs and digits 0. So the sets between are said to be mixed.
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
from podium.data.sources.listing import is_litter
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
RICH, SOME = 6.0, 4.5
"""Bits of entropy of an image's colours: much, and some."""
EVEN = 0.08
"""Fraction of neighbours of exactly one colour up to which an image has hardly an even area."""
MOST, MIXED = 0.5, 0.2
"""Fractions of images like photographs from which a set is one of photographs, and mixed."""
FEW_PIXELS = 16
"""Pixels that differ from the background below which nothing is told."""


@dataclass(frozen=True)
class Look:
    """What a sample of the images looks like."""

    images: int
    side: float
    """Pixels of the shorter side, the median."""
    bits: float
    """Entropy of the colours (32 levels a channel), the most frequent one, the background, left out; the median."""
    saturation: float
    """Mean difference of the highest and the lowest channel, 0 to 1; 0: grey; the median."""
    photographs: float
    """Fraction of the images that look like photographs."""

    @property
    def kind(self) -> str:
        """What they are taken for."""
        if self.photographs < MIXED:
            return "icons, digits or drawings"
        if self.side < SMALL:
            return "small pictures"
        return "photographs" if self.photographs >= MOST else "mixed pictures, or shaded drawings"

    @property
    def suit_pretrained(self) -> bool:
        """Whether a network that has seen photographs may know what these images show."""
        return self.side >= SMALL and self.photographs >= MIXED

    def sentence(self) -> str:
        """What they are taken for, and why."""
        return (
            f"{counted(self.images, 'image')} looked at: {self.kind} (like photographs {self.photographs:.0%}, shorter"
            f" side {self.side:.0f} pixels, {self.bits:.1f} bits of colour, saturation {self.saturation:.2f})"
        )


def preset(params: Params, presets: Path, root: Path | None = None) -> Finding:
    """Which preset of the folder `presets` suits the images that `params` names, or those in `root`; why."""
    where = root or _folder(params)
    found = look(where, params) if os.path.isdir(where) else None  # noqa: PTH112 (Path raises below a closed folder)
    if found is None:
        return ok("preset", f"no image file in {where}: nothing to recommend one by")
    scratch = "scratch" if (presets / "scratch.yaml").is_file() else "folder"
    if found.suit_pretrained == bool(params.model.weights) and params.prepare.path:
        return ok("preset", f"{found.sentence()}; params.yaml suits them")
    remedy = (
        f"`podium preset {'photos' if found.suit_pretrained else scratch}` suits them better than params.yaml as it is"
    )
    if found.suit_pretrained and found.photographs < MOST:
        remedy += (
            f"; compare it with `podium preset {scratch}`: the search's baselines show what the weights contribute"
        )
    return note("preset", found.sentence(), remedy)


def look(folder: Path, params: Params) -> Look | None:
    """What the images below `folder` look like; None where none can be opened."""
    files = sorted(_files(folder))
    step = max(1, -(-len(files) // SAMPLE))
    rows = [one for path in files[::step] if (one := _measured(path, params)) is not None]
    if not rows:
        return None
    table = np.array(rows)
    _, bits, _, even = table.T
    like = (bits >= RICH) | ((bits >= SOME) & (even <= EVEN))
    side, bits, saturation, _ = np.median(table, axis=0).tolist()
    return Look(len(rows), side, bits, saturation, float(like.mean()))


def _folder(params: Params) -> Path:
    """Where the images are: what the source names, or prepare.root."""
    path = Path(params.prepare.path) if params.prepare.path else Path(params.prepare.root)
    return path if os.path.isdir(path) or not params.prepare.path else path.parent  # noqa: PTH112 (as above)


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(names):
            if is_meant(name) and not is_litter(name):
                yield Path(place, name)
                count += 1
        if count >= MOST_FILES:
            return


def _measured(path: Path, params: Params) -> tuple[float, float, float, float] | None:
    """Shorter side, entropy, saturation, fraction of even neighbours; None: it can't be opened, or shows nothing."""
    if not os.path.isfile(path):  # noqa: PTH113 (opening a pipe may never end; Path raises where a folder is closed)
        return None
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
    whole = np.asarray(shown.convert("RGB"), np.int64)
    pixels = whole.reshape(-1, 3)
    codes = (pixels >> 3) @ np.array([1024, 32, 1])
    values, counts = np.unique(codes, return_counts=True)
    background = values[counts.argmax()]
    if counts.sum() - counts.max() < FEW_PIXELS:
        return None
    shares = counts[values != background] / (counts.sum() - counts.max())
    colours = pixels[codes != background]
    saturation = float((colours.max(1) - colours.min(1)).mean()) / 255
    inside = (codes != background).reshape(whole.shape[:2])
    pairs = inside[:, 1:] & inside[:, :-1]
    even = float((np.diff(whole, axis=1) == 0).all(2)[pairs].mean()) if pairs.any() else 1.0
    return float(side), float(-(shares * np.log2(shares)).sum()), saturation, even
