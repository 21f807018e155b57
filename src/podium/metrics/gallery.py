"""The sealed images on which a model did worst, as small pictures beside its answers."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.dataset import Split
from podium.data.decode import encode_png

SHOWN = 12
"""Images of each kind."""
LARGEST = 96
"""Pixels of a thumbnail's longer side: two dozen of them stay below half a megabyte."""
LEAST = np.finfo(np.float64).eps
"""Probability below which none is told apart."""


def gallery(split: Split, probabilities: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The wrong answers (kind `worst`), then the right ones (kind `surprising`), each by surprise, highest first.

    The surprise of an image is the negative logarithm of the probability (N, K) that its own class was given, in nats.
    """
    of_label = probabilities[np.arange(len(split.labels)), split.labels]
    surprise = -np.log(np.clip(of_label, LEAST, 1))
    order = np.argsort(-surprise, kind="stable")
    right = probabilities.argmax(1) == split.labels
    kinds = {"worst": order[~right[order]], "surprising": order[right[order]]}
    return [
        {"kind": kind} | _about(split, probabilities, int(row)) | {"surprise": round(float(surprise[row]), 4)}
        for kind, rows in kinds.items()
        for row in rows[:SHOWN]
    ]


def _about(split: Split, probabilities: NDArray[np.float64], row: int) -> dict[str, Any]:
    answer = int(probabilities[row].argmax())
    return {
        "index": row,
        "label": split.classes[split.labels[row]],
        "predicted": split.classes[answer],
        "probability": round(float(probabilities[row, answer]), 6),
        "probability_of_label": round(float(probabilities[row, split.labels[row]]), 6),
        "image": base64.b64encode(_thumbnail(np.asarray(split.images[row]))).decode(),
    }


def _thumbnail(image: NDArray[np.uint8]) -> bytes:
    """`image` (C, H, W) as PNG, made smaller where it is larger than LARGEST."""
    whole = encode_png(image)
    if max(image.shape[1:]) <= LARGEST:
        return whole
    with Image.open(io.BytesIO(whole)) as picture:
        picture.thumbnail((LARGEST, LARGEST))
        out = io.BytesIO()
        picture.save(out, "PNG")
    return out.getvalue()
