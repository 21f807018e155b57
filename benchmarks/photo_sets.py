"""Sets of pictures from Debian's packages, for photo_accuracy.py: a folder per class, nothing that is not free.

Installed packages are read where they lie; others are fetched by apt and unpacked into the cache, without root.
"""

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

CACHE = Path.home() / ".cache" / "podium-photo-sets"
STAMPS = {
    "mammals": ["animals/mammals", "animals/marsupials"],
    "birds": ["animals/birds"],
    "bugs": ["animals/insects"],
    "food": ["food"],
    "vehicles": ["vehicles"],
    "plants": ["plants"],
    "buildings": ["town/houses", "town/monuments"],
    "clothes": ["clothes"],
}
ICONS = ("actions", "apps", "devices", "mimetypes", "places", "status")
SIZES = (256, 128, 64)
"""Of icons, in pixels; the largest that there is of each."""
HEIGHT = 320
"""Pixels that a drawing is rendered at."""


def photos(target: Path) -> None:
    """Some 480 pictures in 8 classes, photographs and drawings (tuxpaint-stamps-default, librsvg2-bin)."""
    if shutil.which("rsvg-convert") is None:
        raise SystemExit("photo_sets: rsvg-convert is missing: apt-get install librsvg2-bin")
    stamps = folder_of("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps")
    for name, folders in STAMPS.items():
        (target / name).mkdir(parents=True, exist_ok=True)
        found = [(stamps / one, path) for one in folders for path in sorted((stamps / one).rglob("*"))]
        kept = 0
        for folder, path in found:
            stem = "_".join(path.relative_to(folder).with_suffix("").parts)
            if path.suffix == ".png":
                shutil.copy(path, target / name / f"{stem}.png")
            elif path.suffix != ".svg" or not _drawn(path, target / name / stem, webp=bool(kept % 2)):
                continue
            kept += 1


def icons(target: Path) -> None:
    """Some 590 icons in 6 classes by what they stand for (oxygen-icon-theme): drawings, transparent, no photographs."""
    base = folder_of("oxygen-icon-theme", "usr/share/icons/oxygen/base")
    for name in ICONS:
        (target / name).mkdir(parents=True, exist_ok=True)
        for size in SIZES:
            for path in sorted((base / f"{size}x{size}" / name).glob("*.png")):
                if not path.is_symlink() and not (target / name / path.name).exists():
                    shutil.copy(path, target / name / path.name)


SETS: dict[str, Callable[[Path], None]] = {"photos": photos, "icons": icons}


def _drawn(path: Path, target: Path, *, webp: bool) -> bool:
    """Render an SVG beside `target`, as WebP or JPEG; False: it can't be."""
    command = ["rsvg-convert", "-h", str(HEIGHT), "-b", "white", str(path)]
    png = subprocess.run(command, capture_output=True, check=False).stdout
    if not png:
        return False
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.save(f"{target}_drawn.{'webp' if webp else 'jpg'}", quality=85 if webp else 88)
    return True


def folder_of(package: str, inside: str) -> Path:
    """The folder `inside` of a Debian package, which is fetched where it is not installed."""
    installed = Path("/") / inside
    if installed.is_dir():
        return installed
    unpacked = CACHE / package
    if not (unpacked / inside).is_dir():
        unpacked.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=unpacked, check=True)
        (archive,) = unpacked.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=unpacked, check=True)
    return unpacked / inside
