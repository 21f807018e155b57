"""Image bytes to the uint8 array that a model takes; the same code in training and in serving.

A copy of this file travels inside every registered model and is loaded from there, so it imports nothing of Podium:
only Pillow, NumPy and the standard library.
"""

import io
import re
import threading
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read. Pillow knows more, but some of those start other programs (EPS) or are hardly ever pictures."""
BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
"""Of files that are meant to be images, whatever Pillow makes of them."""
RESIZES = ("stretch", "crop", "pad")
ORIENTATION = 0x0112
"""EXIF's tag of how a camera was held."""
THUMB = 32
"""Side of the grey thumbs among which near-duplicates are looked for."""
LEAST = 2 * THUMB
"""Sides that are left of a JPEG which is decoded at a part of its size, whatever is wanted of it: enough for a thumb.
The same with a thumb (training) and without (serving), so that both have the same pixels."""
CUT_SHORT = re.compile("truncat|unexpected end|not enough|incomplete|buffer overrun|EOF", re.IGNORECASE)
"""What the messages of Pillow's readers contain for a file that ends too early."""


class BadImage(ValueError):  # noqa: N818 (what it is, in the words of whoever sent it)
    """The bytes are not an image that can be used; the message is a sentence that says why."""

    def __init__(self, message: str, kind: str = "corrupt") -> None:
        super().__init__(message)
        self.kind = kind
        """empty, not_image, truncated, corrupt or huge."""


@dataclass(frozen=True)
class Preprocess:
    """What image bytes become before the network: fixed at training, stored in the model."""

    channels: int
    """1 (grey) or 3 (RGB)."""
    height: int
    width: int
    max_bytes: int = 32 * 1024**2
    """Longer files are refused unread."""
    max_pixels: int = 64_000_000
    """Larger images are refused before their pixels are decoded; 64 million take 256 MB as RGBA."""
    resize: str = "stretch"
    """stretch (the ratio of the sides changes), crop (to the middle) or pad (with the background)."""
    background: str = "white"
    """What lies below transparent pixels and around padded images: a colour's name or #rrggbb."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"Preprocess.channels must be 1 (grey) or 3 (RGB); got {self.channels}")
        for name in ("height", "width", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"Preprocess.{name} must be at least 1; got {getattr(self, name)}")
        if self.resize not in RESIZES:
            raise ValueError(f"Preprocess.resize must be one of {', '.join(RESIZES)}; got {self.resize!r}")
        ImageColor.getrgb(self.background)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Preprocess":
        """The opposite of `to_dict`."""
        return Preprocess(**fields)


@dataclass(frozen=True)
class Decoded:
    """An image as the model takes it, and what it was."""

    pixels: NDArray[np.uint8]
    """(channels, height, width)"""
    width: int
    """Of the image itself, upright."""
    height: int
    mode: str
    """Pillow's name of how its pixels were stored, such as RGB, P or I;16."""
    frames: int
    """1, or 2 where there are several, of which the first was taken."""
    thumb: NDArray[np.uint8] | None
    """(thumb, thumb) grey, of the whole image stretched; None unless asked for."""


def decode(data: bytes, spec: Preprocess) -> NDArray[np.uint8]:
    """The first frame of an image file as (channels, height, width) uint8. Raises BadImage.

    Turned as its EXIF orientation says, alpha laid on the background, 16 bits scaled to 8, grey by ITU-R 601. Resized
    (bilinear, antialiased) only where the size differs: an image of the model's own size keeps its exact pixels.
    """
    return decode_file(data, spec).pixels


def decode_file(data: bytes, spec: Preprocess, thumb: int = 0) -> Decoded:
    """What `decode` does, with what the image was and, where `thumb` is not 0, a grey thumb of that side.

    The pixels do not depend on `thumb`; one above THUMB may be blurred.
    """
    if not data:
        raise BadImage("it is empty (0 bytes)", "empty")
    if len(data) > spec.max_bytes:
        raise BadImage(f"it has {len(data):,} bytes; at most {spec.max_bytes:,} are taken", "huge")
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=_formats()) as image:
            return decode_image(image, spec, thumb)
    except BadImage:
        raise
    except UnidentifiedImageError:
        if data.startswith(BEGINNINGS):
            raise BadImage("it can't be decoded: it begins like an image, but what follows is damaged") from None
        raise BadImage(f"it is no image that can be read ({', '.join(FORMATS)})", "not_image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"it has far more than the {spec.max_pixels:,} pixels that are taken", "huge") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        what = str(error) or type(error).__name__
        kind = "truncated" if CUT_SHORT.search(what) else "corrupt"
        raise BadImage(f"it can't be decoded: {what}", kind) from None


def decode_image(image: Image.Image, spec: Preprocess, thumb: int = 0) -> Decoded:
    """The same for an opened image. Raises BadImage where it is too large, Pillow's own errors where it is damaged."""
    _check_size(image, spec)
    mode, size = image.mode, image.size
    frames = 2 if getattr(image, "is_animated", False) else 1
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    _draft(image, spec, turned=turned)
    image.load()
    image = _upright(image, spec)
    width, height = size[::-1] if turned else size
    return Decoded(_fitted(image, spec), width, height, mode, frames, _thumb(image, thumb))


def decode_pixels(array: NDArray[np.uint8], spec: Preprocess, thumb: int = 0) -> Decoded:
    """The same for pixels (1 or 3, H, W); those of the model's own shape stay as they are."""
    _, height, width = array.shape
    image = _image(array)
    if array.shape != (spec.channels, spec.height, spec.width):
        return decode_image(image, spec, thumb)
    return Decoded(array, width, height, image.mode, 1, _thumb(image, thumb))


def decode_array(pixels: Any, spec: Preprocess) -> NDArray[np.uint8]:
    """Raw pixels as `decode` makes them of a file: (height, width) or (height, width, 1, 3 or 4) of 0 to 255.

    Lists of whole numbers or a NumPy array; a fourth channel is alpha. Raises BadImage.
    """
    try:
        array = np.asarray(pixels)
    except ValueError:
        raise BadImage("its rows are not all of one length") from None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise BadImage(f"it must be (height, width) or (height, width, 1, 3 or 4); got {array.shape}")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise BadImage("its pixels must be whole numbers from 0 to 255")
    image = Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8))
    _check_size(image, spec)
    return _fitted(_upright(image, spec), spec)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """The opposite of `decode` for an image of the model's own shape (1 or 3, H, W): a PNG, which loses nothing."""
    buffer = io.BytesIO()
    _image(image).save(buffer, "PNG")
    return buffer.getvalue()


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(image: Image.Image, spec: Preprocess) -> None:
    """Looks at the header only: no pixel has been decoded yet."""
    if image.width * image.height > spec.max_pixels:
        raise BadImage(
            f"it is {image.width}x{image.height}, {image.width * image.height:,} pixels;"
            f" at most {spec.max_pixels:,} are taken",
            "huge",
        )


def _draft(image: Image.Image, spec: Preprocess, *, turned: bool) -> None:
    """Let a JPEG be decoded at a half, quarter or eighth of its size where that is still twice what is needed.

    A photograph of 12 megapixels for 64x64 then takes a quarter of the time. Pillow's `thumbnail` does the same.
    """
    wanted = (spec.height, spec.width) if turned else (spec.width, spec.height)
    ratios = [side / own for side, own in zip(wanted, image.size, strict=True)]
    ratio = max(ratios) if spec.resize == "crop" else min(ratios)
    sides = wanted if spec.resize == "stretch" else tuple(int(own * ratio) + 1 for own in image.size)
    image.draft(None, (max(2 * sides[0], LEAST), max(2 * sides[1], LEAST)))


def _upright(image: Image.Image, spec: Preprocess) -> Image.Image:
    """L or RGB of 8 bits, turned as it was meant, nothing transparent."""
    image = _eight_bits(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, ImageColor.getrgb(spec.background))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")  # the only way from some modes to grey
    return image.convert("L" if spec.channels == 1 else "RGB")


def _fitted(image: Image.Image, spec: Preprocess) -> NDArray[np.uint8]:
    """An upright image in the model's own shape."""
    size = (spec.width, spec.height)
    if image.size != size and spec.resize == "stretch":
        image = image.resize(size, Image.Resampling.BILINEAR)
    elif image.size != size:
        image = _crop(image, spec) if spec.resize == "crop" else _pad(image, spec)
    array = np.asarray(image, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _thumb(image: Image.Image, side: int) -> NDArray[np.uint8] | None:
    return np.array(image.convert("L").resize((side, side), Image.Resampling.BILINEAR)) if side else None


def _crop(image: Image.Image, spec: Preprocess) -> Image.Image:
    """The largest middle part with the ratio of the sides that is wanted."""
    ratio = max(spec.width / image.width, spec.height / image.height)
    width, height = spec.width / ratio, spec.height / ratio
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    return image.resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box)


def _pad(image: Image.Image, spec: Preprocess) -> Image.Image:
    """All of it in the middle of the background."""
    ratio = min(spec.width / image.width, spec.height / image.height)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    colour = ImageColor.getcolor(spec.background, image.mode)
    whole = Image.new(image.mode, (spec.width, spec.height), colour)
    corner = ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2)
    whole.paste(image.resize(size, Image.Resampling.BILINEAR), corner)
    return whole


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes deeper than 8 bits as L. Pillow's own conversion would clip them at 255: a white image."""
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise BadImage("it holds pixels that are not numbers")
        # Both scales are in use; no visible image on the scale to 255 stays below 1.
        scale = 255.0 if values.max() <= 1 else 1.0
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        scale = 255 / 65535
    else:
        return image
    return Image.fromarray(np.rint(np.clip(values * scale, 0, 255)).astype(np.uint8))


class _Quiet:
    """No warning leaves the block. Python's own context manager is not safe with threads, and a server has many.

    So the first thread in silences and the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catch = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._catch.__exit__(None, None, None)


_quiet = _Quiet()
