"""Colour profiles (ICC) of image files: how many have one whose colours are others than those of sRGB.

They are not applied, as torchvision, timm and Keras do not apply them either: values are taken as they are in the file,
in training and in serving. So a set in which some files have another profile has colours of two kinds, which only a
look at the profiles shows.
"""

import hashlib
import io
import threading
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from podium.data.damage import JPEG
from podium.text import one_line

MARKS = {JPEG: b"ICC_PROFILE\0", b"\x89PNG": b"iCCP", b"RIFF": b"ICCP", b"\0\0\0": b"colrprof"}
"""What a profile begins with, by the beginning of the file; the last is HEIC, AVIF and JPEG XL in boxes."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Their profile may be anywhere."""
WINDOW = 192 * 1024
"""Bytes in which a profile begins: EXIF and previews of 64 kB each may lie before it."""
DIFFERENCE = 12
"""Of 255: what some colour differs by at least from sRGB. What lies below are sRGB's many versions, and a
gamma of 2.2 in its place."""
STEPS = (0, 85, 170, 255)
GREYS = 16
SHOWN = 60
"""Characters of a profile's name."""


class ColourProfiles:
    """Counts images whose profile is another than sRGB; any thread may add to it."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        """Images by the name of their profile."""
        self.first: dict[str, str] = {}
        """The name of an image for each, the lowest."""
        self._names: dict[bytes, str] = {}
        self._lock = threading.Lock()

    def add(self, origin: str, profile: bytes) -> None:
        """Take in the profile of the image called `origin`; empty: it has none."""
        if not profile:
            return
        key = hashlib.sha256(profile).digest()
        if (name := self._names.get(key)) is None:
            name = self._names[key] = other_than_srgb(profile)
        if name:
            with self._lock:
                self.counts[name] += 1
                self.first[name] = min(origin, self.first.get(name, origin))


def embedded(data: bytes) -> bytes:
    """The profile in the bytes of an image file; empty: there is none, or it can't be read."""
    mark = next((mark for start, mark in MARKS.items() if data.startswith(start)), None)
    if not data.startswith(TIFF) and (mark is None or data.find(mark, 0, WINDOW) < 0):
        return b""
    try:
        with Image.open(io.BytesIO(data)) as image:
            found = image.info.get("icc_profile")
    except Exception:  # Pillow raises whatever its readers do; what is wrong with the file is said elsewhere
        return b""
    return found if isinstance(found, bytes) else b""


def other_than_srgb(profile: bytes) -> str:
    """The name of a profile whose colours differ from those of sRGB; empty: they do not, or it can't be read."""
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = one_line(ImageCms.getProfileDescription(known).strip())[:SHOWN] or "without a name"
        values = _colours(known.profile.xcolor_space.strip())
        if values is None:
            return name
        srgb, mode = ImageCms.createProfile("sRGB"), "RGB" if values.ndim == 3 else "L"
        change = ImageCms.buildTransform(known, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        seen = ImageCms.applyTransform(Image.fromarray(values), change)
    except (ImageCms.PyCMSError, OSError, ValueError):  # nobody can apply it
        return ""
    if seen is None:
        return ""
    taken = values if values.ndim == 3 else np.repeat(values[..., None], 3, 2)
    return name if np.abs(np.asarray(seen, np.int64) - taken).max() >= DIFFERENCE else ""


def _colours(space: str) -> NDArray[np.uint8] | None:
    """Some colours (1, n, 3), or greys (1, n); None for a space that is neither, such as CMYK."""
    if space == "RGB":
        return np.stack(np.meshgrid(STEPS, STEPS, STEPS), -1).reshape(1, -1, 3).astype(np.uint8)
    return np.linspace(0, 255, GREYS).astype(np.uint8)[None] if space == "GRAY" else None
