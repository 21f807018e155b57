"""Answers stored inside a registered model: a server, a rollback and a check compare theirs with them."""

import base64
import hashlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from podium.data.decode import LEAST, THUMB, Preprocess, decode_file, encode_png
from podium.training.predict import predict_probabilities

ANSWERS = 8
"""Images stored with their right answers: enough to see that it works, few enough to stay small."""
MODES = ("RGB", "L", "RGBA", "I;16")
"""Of further PNG files, each of another size than the model's: what resizing and conversion do is checked too."""
LARGEST = 2048
"""Side of the further JPEG file at most: beyond it the file would be large, and nothing more would be checked."""


def right_answers(
    images: NDArray[np.uint8], probabilities: NDArray[np.float32], classes: list[str]
) -> list[dict[str, Any]]:
    """What evaluation answered, `probabilities` (N, classes), for the first of `images` (N, C, H, W) as PNG files."""
    return _rows([encode_png(image) for image in images[:ANSWERS]], probabilities[:ANSWERS], classes)


def converted_answers(
    model: nn.Module, images: NDArray[np.uint8], spec: Preprocess, classes: list[str]
) -> list[dict[str, Any]]:
    """What `model`, the evaluated network, answers for files of other sizes and modes, made of `images`.

    They are decoded as they would be for training, so serving is held to that.
    """
    files = [_converted(images[n % len(images)], mode) for n, mode in enumerate(MODES)]
    files.append(_photograph(images[len(MODES) % len(images)], spec))
    decoded = np.stack([decode_file(file, spec, THUMB).pixels for file in files])
    rows = _rows(files, predict_probabilities(model, decoded).astype(np.float32), classes)
    return [row | {"decoded": pixel_digest(pixels)} for row, pixels in zip(rows, decoded, strict=True)]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of an image as the network gets it. A model that is very sure hides in its answer what was changed."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _converted(image: NDArray[np.uint8], mode: str) -> bytes:
    """A larger PNG file of `image` in `mode`; RGBA fades from left to right."""
    own = _picture(image)
    grey = own.convert("L")
    size = 2 * grey.width + 3, 3 * grey.height + 1
    if mode == "I;16":
        whole = Image.fromarray(np.asarray(grey.resize(size), dtype=np.uint16) * np.uint16(257))
    else:
        whole = own.convert(mode).resize(size, Image.Resampling.NEAREST)
    if mode == "RGBA":
        whole.putalpha(Image.fromarray(np.tile(np.linspace(40, 255, size[0], dtype=np.uint8), (size[1], 1))))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _photograph(image: NDArray[np.uint8], spec: Preprocess) -> bytes:
    """A JPEG file of `image`, as large as one can be that is decoded at a half of its size."""
    most = min(LARGEST, int(spec.max_pixels**0.5))
    width, height = (min(4 * max(2 * side, LEAST) - 1, most) for side in (spec.width, spec.height))
    buffer = io.BytesIO()
    _picture(image).resize((width, height), Image.Resampling.BILINEAR).save(buffer, "JPEG")
    return buffer.getvalue()


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _rows(files: list[bytes], probabilities: NDArray[np.float32], classes: list[str]) -> list[dict[str, Any]]:
    best = probabilities.argmax(axis=1)
    return [
        {"image": base64.b64encode(file).decode(), "label": classes[k], "probability": float(row[k])}
        for file, row, k in zip(files, probabilities, best, strict=True)
    ]
