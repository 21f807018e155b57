"""Letters rendered from the fonts of Debian's packages, for curves.py: a folder per class, nothing that is not free."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

from PIL import Image, ImageDraw, ImageFont

from photo_sets import unpacked

FONTS = {
    "fonts-dejavu-core": "usr/share/fonts/truetype/dejavu",
    "fonts-freefont-ttf": "usr/share/fonts/truetype/freefont",
    "fonts-liberation": "usr/share/fonts/truetype/liberation",
    "fonts-urw-base35": "usr/share/fonts/opentype/urw-base35",
}
"""Packages and where their fonts lie; those of fonts-dejavu-extra are in the folder of the first, where installed."""
NO_LETTERS = ("D050000L", "StandardSymbolsPS")
"""Fonts of symbols."""
SIDE = 16
"""Pixels of an image."""


def letters(target: Path) -> None:
    """Some 2,000 images of the 26 capital letters, each from another face; a file's name begins with its family."""
    _render(target, ascii_uppercase)


def _render(target: Path, characters: Sequence[str]) -> None:
    for character in characters:
        (target / character).mkdir(parents=True, exist_ok=True)
    for path in _faces():
        font = ImageFont.truetype(str(path), SIDE - 2)
        for character in characters:
            image = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), character, fill=0, font=font, anchor="mm")
            image.save(target / character / f"{'-'.join(str(part).replace(' ', '') for part in font.getname())}.png")


def _faces() -> Iterator[Path]:
    for package, inside in FONTS.items():
        for path in sorted(unpacked(package, inside).rglob("*")):
            if path.suffix in (".ttf", ".otf") and not path.stem.startswith(NO_LETTERS):
                yield path
