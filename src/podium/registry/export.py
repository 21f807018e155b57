"""The trained network as files that need no code of ours: exported, digested, proved equal to what was evaluated."""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from podium.data.dataset import write_json
from podium.errors import InputError, RefusedError
from podium.training.predict import predict_probabilities

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
            answer: NDArray[np.float32] = module(torch.from_numpy(np.array(images))).numpy()
        return answer

    return run


@dataclass(frozen=True)
class Parity:
    """The largest differences of a probability, over the same images, from what evaluation recorded."""

    model: float
    """Of the network, loaded anew from its weights."""
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
    listed: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    problems = compare_digests(listed, file_digests(folder))
    if problems:
        raise RefusedError(f"the model in {folder} is not as it was made: {problems}")
    return listed


def compare_digests(listed: dict[str, str], found: dict[str, str]) -> str:
    """What differs between two digest tables, as `a is changed, b is missing, c is not listed`; empty: nothing."""
    words = [f"{f} is missing" if f not in found else f"{f} is changed" for f in listed if found.get(f) != listed[f]]
    return ", ".join(words + [f"{f} is not listed" for f in found if f not in listed])


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but its manifest, by relative name, sorted."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def content_digest(content: object) -> str:
    """SHA-256 of `content` as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
