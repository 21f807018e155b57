"""A set of many classes: characters drawn in the fonts of Debian's packages, a folder per character.

Fonts of fonts-dejavu-core, fonts-dejavu-extra and fonts-freefont-ttf are read where they are installed, and fetched by
apt into the cache of photo_sets.py otherwise. A class is a character that many of these fonts have and that looks like
none before it (Latin, Greek and Cyrillic share shapes); each image is another font, size, place, angle and shade.
"""

import unicodedata
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from photo_sets import unpacked

PACKAGES = {
    "fonts-dejavu-core": "usr/share/fonts/truetype/dejavu",
    "fonts-dejavu-extra": "usr/share/fonts/truetype/dejavu",
    "fonts-freefont-ttf": "usr/share/fonts/truetype/freefont",
}
SIDE = 40
"""Pixels of an image's sides."""
FONTS = 12
"""Fonts that must have a character, at least."""
LOOKS = 12
"""Pixels of the sides at which two characters are compared."""
APART = 0.12
"""Two characters are alike if their drawings differ by less, as a fraction of the ink of both."""


def glyphs(target: Path, classes: int = 1000, images: int = 20, seed: int = 0) -> None:
    """`images` PNGs of each of `classes` characters below `target`."""
    fonts = sorted({path for package, inside in PACKAGES.items() for path in unpacked(package, inside).glob("*.ttf")})
    having: dict[int, list[Path]] = {}
    for path in fonts:
        for code in TTFont(path, lazy=True).getBestCmap():
            having.setdefault(code, []).append(path)
    draw = np.random.default_rng(seed)
    for code in chosen(having, classes):
        folder = target / f"U+{code:04X} {unicodedata.name(chr(code)).lower()}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(images):
            font = having[code][int(draw.integers(len(having[code])))]
            picture(chr(code), font, draw).save(folder / f"{number:04}.png")


def chosen(having: dict[int, list[Path]], count: int) -> list[int]:
    """The first `count` characters that at least FONTS of the fonts have and that look like none before."""
    found: list[int] = []
    seen: list[NDArray[np.float32]] = []
    for code in sorted(having):
        if len(having[code]) < FONTS or unicodedata.category(chr(code))[0] not in "LNPS":
            continue
        look = _look(chr(code), having[code][0])
        if look.sum() < 1 or (seen and _nearest(look, np.stack(seen)) < APART):
            continue
        found.append(code)
        seen.append(look)
        if len(found) == count:
            return found
    raise SystemExit(f"glyph_set: the fonts have {len(found):,} characters that differ; {count:,} were asked for")


def picture(text: str, font: Path, draw: np.random.Generator) -> Image.Image:
    """One grey image of a character, dark on light."""
    paper, ink = int(draw.integers(200, 256)), int(draw.integers(0, 90))
    image = Image.new("L", (SIDE, SIDE), paper)
    shift = draw.uniform(-2, 2, 2)
    place = (SIDE / 2 + float(shift[0]), SIDE / 2 + float(shift[1]))
    face = ImageFont.truetype(str(font), int(draw.integers(22, 29)))
    ImageDraw.Draw(image).text(place, text, fill=ink, font=face, anchor="mm")
    return image.rotate(float(draw.uniform(-8, 8)), Image.Resampling.BICUBIC, fillcolor=paper)


def _look(text: str, font: Path) -> NDArray[np.float32]:
    image = Image.new("L", (SIDE, SIDE), 0)
    face = ImageFont.truetype(str(font), 26)
    ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), text, fill=255, font=face, anchor="mm")
    return np.asarray(image.resize((LOOKS, LOOKS), Image.Resampling.BOX), np.float32).ravel() / np.float32(255)


def _nearest(look: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    return float((np.abs(others - look).sum(1) / (others.sum(1) + look.sum())).min())


if __name__ == "__main__":
    import sys

    glyphs(Path(sys.argv[1]), *map(int, sys.argv[2:]))
