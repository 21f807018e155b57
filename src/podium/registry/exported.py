"""The trained network as files that need no code of ours: exported, digested, proved equal to what was evaluated.

Some images are stored with their predictions: a server, a rollback and a check compare theirs with them.
"""

import base64
import copy
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from podium import strict_json
from podium.data.dataset import write_json
from podium.data.decode import LEAST, THUMB, Preprocess, decode_file, encode_png
from podium.errors import InputError, RefusedError
from podium.training.prediction import predict_probabilities

GRAPH = "model.pt2"
"""The name by which MLflow's own PyTorch flavour finds it too."""
MANIFEST = "manifest.json"

PARITY_LIMIT = 1e-5
"""Largest difference of a probability that rounding explains. float32 sums taken in another order (another batch,
kernel or machine) move a logit by about 1e-6, and its probability by less; another mean, resize or file of weights
moves it by 1e-3 and more."""


class Probabilities(nn.Module):
    """A network of logits with its softmax: uint8 (N, C, H, W) in, float32 (N, classes) out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each class for each image."""
        probabilities: Tensor = self.model(images).float().softmax(dim=1)
        return probabilities


def export_graph(model: nn.Module, example: Tensor, path: Path) -> None:
    """Write `model` with its softmax to `path` (.pt2): on the CPU, in eval mode, for batches of any size.

    `example` is uint8 (N, C, H, W) with N >= 2: torch.export takes a batch of one for a constant.
    The caller's model stays as it is. Raises InputError for another example.
    """
    if example.dtype != torch.uint8 or example.dim() != 4 or len(example) < 2:
        raise InputError(f"example must be uint8 (N >= 2, C, H, W); got {example.dtype} {tuple(example.shape)}")
    whole = Probabilities(copy.deepcopy(model)).cpu().eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(whole, (example.cpu(),), dynamic_shapes={"images": {0: batch}})
    # Zeros, which torch's restricted unpickler takes: MLflow refuses an empty record where pickle is not allowed.
    program.example_inputs = ((torch.zeros_like(example[:2], device="cpu"),), {})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path)


def load_graph(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The graph of `path` as a function from uint8 (N, C, H, W) to float32 (N, classes)."""
    module = torch.export.load(path).module()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = module(torch.from_numpy(np.array(images))).numpy()
        return probabilities

    return run


@dataclass(frozen=True)
class Parity:
    """The largest differences of a probability, over the same images, from what evaluation recorded."""

    model: float
    """Of the network, loaded again from its weights."""
    graph: float
    """Of the exported graph, all images in one batch."""
    single: float
    """Of the exported graph, one image at a time, as most requests are."""

    @property
    def largest(self) -> float:
        """The worst of them; NaN where one is."""
        return float(np.max([self.model, self.graph, self.single]))


def parity(model: nn.Module, graph: Path, images: NDArray[np.uint8], reference: NDArray[np.float32]) -> Parity:
    """Compare `model` and the file `graph` with evaluation's probabilities `reference` (N, classes) for `images`.

    Raises RefusedError above PARITY_LIMIT or where a probability is not a number.
    """
    run = load_graph(graph)
    loaded = predict_probabilities(model, images)
    single = np.concatenate([run(images[i : i + 1]) for i in range(len(images))])
    found = Parity(*(largest_difference(p, reference) for p in (loaded, run(images), single)))
    if not found.largest <= PARITY_LIMIT:  # not `>`: a NaN must not pass
        raise RefusedError(
            "the model does not give the probabilities that evaluation recorded: they differ by up to"
            f" {found.model:.2g} (model), {found.graph:.2g} (exported graph), {found.single:.2g} (graph, one image at"
            f" a time); rounding explains {PARITY_LIMIT:g}. Nothing was registered: run `dvc repro -f evaluate` and see"
            " what changed between evaluation and now"
        )
    return found


def largest_difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The largest absolute difference of two arrays; infinite where their shapes differ, NaN where one holds a NaN."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0))


def write_manifest(folder: Path) -> dict[str, str]:
    """Write manifest.json over the files of `folder`: {file: SHA-256}. Returns it."""
    digests = file_digests(folder)
    write_json(folder / MANIFEST, digests)
    return digests


def check_manifest(folder: Path) -> dict[str, str]:
    """The manifest of `folder`, every file of which is as it says.

    Raises InputError where there is none, RefusedError naming the files that are changed, missing or not listed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is no model of ours: it has no {MANIFEST}")
    try:
        listed = strict_json.read_object(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} can't be read: {error}. Register or export the model again") from None
    problems = compare_digests(listed, file_digests(folder))
    if problems:
        raise RefusedError(f"the files of the model in {folder} differ from its manifest: {problems}")
    return listed


def compare_digests(listed: dict[str, str], found: dict[str, str]) -> str:
    """What differs between two digest tables, as `a is changed, b is missing, c is not listed`; empty: nothing."""
    words = [f"{f} is missing" if f not in found else f"{f} is changed" for f in listed if found.get(f) != listed[f]]
    return ", ".join(words + [f"{f} is not listed" for f in found if f not in listed])


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but its manifest, by relative name, sorted."""
    return {name: digest for name, digest in all_digests(folder).items() if name != MANIFEST}


def all_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` by relative name, sorted."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): _digest(p) for p in files}


def _digest(path: Path) -> str:
    """SHA-256 of a file, which may be larger than memory: somebody else may have put it there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(content: object) -> str:
    """SHA-256 of `content` as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


EXAMPLES = 8
"""Images stored with their predictions: enough to see that it works, few enough to stay small."""
MODES = ("RGB", "L", "RGBA", "I;16")
"""Of further PNG files, each of another size than the model's: what resizing and conversion do is checked too."""
LARGEST = 2048
"""Side of the further JPEG file at most: beyond it the file would be large, and nothing more would be checked."""


def evaluated_predictions(
    images: NDArray[np.uint8], probabilities: NDArray[np.float32], classes: list[str]
) -> list[dict[str, Any]]:
    """What evaluation predicted, `probabilities` (N, classes), for the first of `images` (N, C, H, W) as PNG files."""
    return _rows([encode_png(image) for image in images[:EXAMPLES]], probabilities[:EXAMPLES], classes)


def converted_predictions(
    model: nn.Module, images: NDArray[np.uint8], spec: Preprocess, classes: list[str]
) -> list[dict[str, Any]]:
    """What `model`, the evaluated network, predicts for files of other sizes and modes, made of `images`.

    They are decoded as they would be for training, so serving is held to that.
    """
    files = [_converted(images[n % len(images)], mode) for n, mode in enumerate(MODES)]
    files.append(_photograph(images[len(MODES) % len(images)], spec))
    decoded = np.stack([decode_file(file, spec, THUMB).pixels for file in files])
    rows = _rows(files, predict_probabilities(model, decoded).astype(np.float32), classes)
    return [row | {"decoded": pixel_digest(pixels)} for row, pixels in zip(rows, decoded, strict=True)]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of an image as the network gets it. A very confident model's prediction hides a change of the pixels."""
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
