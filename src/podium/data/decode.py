"""Image bytes to the uint8 array that a model takes; the same code in training and in serving.

A copy of this file, of damage.py and of depth.py travels inside every registered model and is loaded from there. So
they import nothing of Podium but each other (by relative imports: there is no Podium around the copy), only Pillow,
NumPy, the standard library and, where it is installed, pillow-heif.
"""

import functools
import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, UnidentifiedImageError

from .damage import CUT_SHORT, FORMATS, HEIF, check_whole, ends_early, has_frames, unidentified, without_notes
from .damage import BadImage as BadImage  # what is raised here: importers need not know where it is from
from .depth import eight_bits, eight_bits_of_colours, low_bytes_of, sample_format

FILES = ("damage.py", "depth.py", "decode.py")
"""What a registered model holds of the three, in the order in which they are loaded."""

RESIZES = ("stretch", "crop", "pad")
ORIENTATION = 0x0112
"""EXIF's tag of how a camera was held."""
THUMB = 32
"""Side of the grey thumbs among which near-duplicates are looked for."""
LEAST = 2 * THUMB
"""Sides that are left of a JPEG which is decoded at a part of its size, whatever is wanted of it: enough for a thumb.
The same with a thumb (training) and without (serving), so that both have the same pixels."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts an image of each orientation upright."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
SUBFILE, PREVIEW = 254, 1
"""TIFF's tag of what an image in the file is, and the bit of it for a small copy of another one."""
Look = Callable[[Image.Image, int], None]
"""Is called with the loaded image as it is stored, and the orientation that it has to be turned by."""


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
    range: tuple[float, float] | None = None
    """Values of images deeper than 8 bits (grey or colours) that become 0 and 255; None: all that 16 bits hold, and for
    floats 0 to 1, or 0 to 255 where one is above 1."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"Preprocess.channels must be 1 (grey) or 3 (RGB); got {self.channels}")
        for name in ("height", "width", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"Preprocess.{name} must be at least 1; got {getattr(self, name)}")
        if self.resize not in RESIZES:
            raise ValueError(f"Preprocess.resize must be one of {', '.join(RESIZES)}; got {self.resize!r}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"Preprocess.range must be two rising numbers; got {self.range}")
        ImageColor.getrgb(self.background)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Preprocess":
        """The opposite of `to_dict`."""
        ends = fields.get("range")  # JSON has lists only
        return Preprocess(**fields | {"range": (float(ends[0]), float(ends[1])) if ends else None})


@dataclass(frozen=True)
class Decoded:
    """An image as the model takes it, and what it was."""

    pixels: NDArray[np.uint8]
    """(channels, height, width)"""
    width: int
    """Of the image itself, upright."""
    height: int
    mode: str
    """Pillow's name of how its pixels were stored, such as RGB, P or I;16; with ;16 for colours of 16 bits."""
    frames: int
    """1, or 2 where there are several, of which the first was taken."""
    thumb: NDArray[np.uint8] | None
    """(thumb, thumb) grey, of the whole image stretched; None unless asked for."""
    values: tuple[float, float] | None = None
    """The lowest and highest value of an image deeper than 8 bits."""
    transparent: bool = False
    """Whether no pixel can be seen."""


def decode(data: bytes, spec: Preprocess) -> NDArray[np.uint8]:
    """The first frame of an image file as (channels, height, width) uint8. Raises BadImage.

    Turned as its EXIF orientation says, alpha laid on the background, 16 bits scaled to 8, grey by ITU-R 601. Resized
    (bilinear, antialiased) only where the size differs: an image of the model's own size keeps its exact pixels.
    """
    return decode_file(data, spec).pixels


def decode_file(data: bytes, spec: Preprocess, thumb: int = 0, look: Look | None = None) -> Decoded:
    """What `decode` does, with what the image was and, where `thumb` is not 0, a grey thumb of that side.

    The pixels do not depend on `thumb`; one above THUMB may be blurred.
    """
    if not data:
        raise BadImage("it is empty (0 bytes)", "empty")
    if len(data) > spec.max_bytes:
        raise BadImage(f"it has {len(data):,} bytes; at most {spec.max_bytes:,} are taken", "huge")
    try:
        return _decoded(data, spec, thumb, look)
    except BadImage as error:
        plain = without_notes(data) if error.kind in ("truncated", "corrupt") else data
        if plain == data:
            raise
        return _decoded(plain, spec, thumb, look)


def _decoded(data: bytes, spec: Preprocess, thumb: int, look: Look | None) -> Decoded:
    try:
        with quiet, Image.open(io.BytesIO(data), formats=formats()) as image:
            _check_size(image, spec)
            _check_preview(image)
            found = decode_image(image, spec, thumb, look, low_bytes=low_bytes_of(data, image))
            check_whole(data)
            return found
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise unidentified(data) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        what = str(error) or type(error).__name__
        cut = CUT_SHORT.search(what) is not None or ends_early(data)
        raise BadImage(f"it can't be decoded: {what}", "truncated" if cut else "corrupt") from None


def decode_image(
    image: Image.Image,
    spec: Preprocess,
    thumb: int = 0,
    look: Look | None = None,
    *,
    whole: bool = False,
    low_bytes: Image.Image | None = None,
) -> Decoded:
    """The same for an opened image; `whole`: no JPEG is decoded at a part of its size.

    `low_bytes`: of colours of 16 bits, whose high bytes Pillow gives. Raises BadImage where it is too large, Pillow's
    own errors where it is damaged.
    """
    with quiet:  # and with it Pillow's own limit of pixels
        _check_size(image, spec)
        mode, size = image.mode, stored_size(image)
        frames = 2 if has_frames(image) else 1
        turn = orientation(image)
        tags = getattr(image, "tag_v2", {})
        white_is_zero, sample = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO, sample_format(tags)
        if not whole:
            _draft(image, spec, turned=turn >= 5)
        image.load()
    if look is not None:
        look(image, turn)
    if low_bytes is None:
        image, values = eight_bits(image, spec.range, white_is_zero=white_is_zero, sample=sample)
    else:
        mode = f"{mode};16"
        image, values = eight_bits_of_colours(image, low_bytes, spec.range)
    transparent = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[1] == 0
    image = _upright(image, spec, turn)
    width, height = size[::-1] if turn >= 5 else size
    return Decoded(_fitted(image, spec), width, height, mode, frames, _thumb(image, thumb), values, transparent)


def orientation(image: Image.Image) -> int:
    """How an image that was not loaded yet has to be turned: EXIF's number, 1 where it says nothing that can be read.

    Pillow turns a TIFF itself when it loads it, and its size is that of the turned one from the beginning.
    """
    if image.format == "PNG":
        image.load()  # as getexif does; what it raises is about the pixels
    try:
        number = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged; the pixels are none the worse for it
        return 1
    return number if number in TURNS and image.format != "TIFF" else 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image that was not loaded yet, to be turned as `orientation` says.

    A TIFF may have its orientation in its XMP only: Pillow then turns it, too, but gives the size of before.
    """
    width, height = image.size
    if image.format == "TIFF" and ORIENTATION not in getattr(image, "tag_v2", {}):
        try:
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception:  # damaged; the pixels are none the worse for it
            turned = False
        return (height, width) if turned else (width, height)
    return width, height


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


def formats() -> list[str]:
    """What is read: those of FORMATS that this Pillow was built with, and HEIC where pillow-heif is installed."""
    Image.init()
    _read_heic()
    return [name for name in (*FORMATS, HEIF) if name in Image.OPEN]


@functools.cache
def _read_heic() -> None:
    """Let Pillow read HEIC, if it can. The reader turns an image itself, as its container says and not as EXIF does."""
    try:
        import pillow_heif
    except ImportError:  # an extra: `unidentified` names it to whoever has such files
        return
    pillow_heif.register_heif_opener(thumbnails=False)


def _check_size(image: Image.Image, spec: Preprocess) -> None:
    """Looks at the header only: no pixel has been decoded yet."""
    if image.width * image.height > spec.max_pixels:
        raise BadImage(
            f"it is {image.width}x{image.height}, {image.width * image.height:,} pixels;"
            f" at most {spec.max_pixels:,} are taken",
            "huge",
        )


def _check_preview(image: Image.Image) -> None:
    """Cameras' raw files (DNG, NEF) are TIFFs that begin with a small copy: it would be taken for the image."""
    kind = getattr(image, "tag_v2", {}).get(SUBFILE, 0)
    if isinstance(kind, int) and kind & PREVIEW:
        raise BadImage(
            f"its first image, {image.width}x{image.height}, is a small copy of another one, as in cameras' raw files,"
            " which are not read: convert it, such as to PNG",
            "not_image",
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


def _upright(image: Image.Image, spec: Preprocess, turn: int = 1) -> Image.Image:
    """L or RGB of 8 bits, turned as it was meant, nothing transparent."""
    image = image.transpose(TURNS[turn]) if turn in TURNS else image
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


class _Quiet:
    """No warning leaves the block, and Pillow's own limit of pixels is off: `Preprocess.max_pixels` is what counts.

    Python's own context manager is not safe with threads, and a server has many. So the first thread in silences and
    the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catch = warnings.catch_warnings()
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.simplefilter("ignore")
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit
                self._catch.__exit__(None, None, None)


quiet = _Quiet()
