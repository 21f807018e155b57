"""Image bytes to the uint8 array that a model takes; the same code in training and in serving.

A copy of this file travels inside every registered model and is loaded from there, so it imports nothing of Podium:
only Pillow, NumPy and the standard library.
"""

import io
import threading
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read. Pillow knows more, but some of those start other programs (EPS) or are hardly ever pictures."""


class BadImage(ValueError):  # noqa: N818 (what it is, in the words of whoever sent it)
    """The bytes are not an image that can be used; the message is a sentence that says why."""


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

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"Preprocess.channels must be 1 (grey) or 3 (RGB); got {self.channels}")
        for name in ("height", "width", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"Preprocess.{name} must be at least 1; got {getattr(self, name)}")

    def to_dict(self) -> dict[str, int]:
        """The fields, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Preprocess":
        """The opposite of `to_dict`."""
        return Preprocess(**fields)


def decode(data: bytes, spec: Preprocess) -> NDArray[np.uint8]:
    """The first frame of an image file as (channels, height, width) uint8. Raises BadImage.

    Turned as its EXIF orientation says, alpha laid on white, 16 bits scaled to 8, grey by ITU-R 601. Resized
    (bilinear, antialiased) only where the size differs: an image of the model's own size keeps its exact pixels.
    """
    if not data:
        raise BadImage("it is empty (0 bytes)")
    if len(data) > spec.max_bytes:
        raise BadImage(f"it has {len(data):,} bytes; at most {spec.max_bytes:,} are taken")
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_size(image, spec)
            return _pixels(image, spec)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"it is no image that can be read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise BadImage(f"it has far more than the {spec.max_pixels:,} pixels that are taken") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise BadImage(f"it can't be decoded: {str(error) or type(error).__name__}") from None


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
    return _pixels(image, spec)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """The opposite of `decode` for an image of the model's own shape (1 or 3, H, W): a PNG, which loses nothing."""
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(image: Image.Image, spec: Preprocess) -> None:
    """Looks at the header only: no pixel has been decoded yet."""
    if image.width * image.height > spec.max_pixels:
        raise BadImage(
            f"it is {image.width}x{image.height}, {image.width * image.height:,} pixels;"
            f" at most {spec.max_pixels:,} are taken"
        )


def _pixels(image: Image.Image, spec: Preprocess) -> NDArray[np.uint8]:
    image.load()
    image = _eight_bits(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")  # the only way from some modes to grey
    image = image.convert("L" if spec.channels == 1 else "RGB")
    if image.size != (spec.width, spec.height):
        image = image.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


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
