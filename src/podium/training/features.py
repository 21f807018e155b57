"""Features before the head of a frozen backbone, computed once: every training of a head on the same images has them.

They are held in memory, and in a file of mlruns/features that other workers and later trainings read.
"""

import hashlib
import os
import uuid
from collections import OrderedDict
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from podium import paths
from podium.locks import LockFileError, locked
from podium.models.backbone import Backbone
from podium.models.build import backbone_of
from podium.models.layers import FlipAverage
from podium.training.batches import Batches, fits
from podium.training.device import describe, is_tf32
from podium.training.precision import autocast
from podium.training.trained import digest_of

BATCH = 32
"""Images a forward pass; on a GPU always so many."""
LEAST = 16
"""Images a forward pass on a CPU has at least: fewer take other kernels, which round otherwise (features differ by up
to 2e-5 of 6), from 16 on all have the same numbers. So a head is bit for bit the one through the backbone where every
batch of that training has 16 images or more, and the same but for such rounding where the last one has fewer.
"""
ON_DISK = 2 * 1024**3
"""Bytes that mlruns/features may take; the oldest files go first, and nothing larger is written."""
IMAGES = "images"
"""In a file's metadata, the digest of its images: `podium gc` asks."""
KEY = "key"
"""There, what the file was called: under another name its features are those of something else."""
LIBRARIES = ("torch", "torchvision", "timm")
"""Whose code the features come from."""
IN_MEMORY = 1024**3
"""Bytes of features that a process holds."""

_held: "OrderedDict[str, Tensor]" = OrderedDict()


class HeadOnFeatures(nn.Module):
    """A network's head alone: the features (N, V, ...) of V views of each image in, the views' mean logits out.

    Of a network with H heads they are (N, V, H, ...), and its answer the mean of the heads'.
    """

    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, classes); of two views as FlipAverage gives them."""
        logits: list[Tensor] = [self._of_view(view) for view in features.unbind(1)]
        return logits[0] if len(logits) == 1 else (logits[0].float() + logits[1].float()) / 2

    def _of_view(self, view: Tensor) -> Tensor:
        given = (view,) if len(self.heads) == 1 else view.unbind(1)
        # Some networks end in a convolution over one place: (N, classes, 1, 1).
        logits = [head(one.contiguous()).flatten(1) for head, one in zip(self.heads, given, strict=True)]
        answer: Tensor = logits[0] if len(logits) == 1 else torch.stack(logits).sum(0) / len(logits)
        return answer

    def train(self, mode: bool = True) -> "HeadOnFeatures":
        """A frozen network does not enter training mode, nor does its head."""
        return self


def head_of(model: nn.Module) -> HeadOnFeatures:
    """The head of the library's network inside `model`, on features."""
    backbone = backbone_of(model)
    if backbone is None:
        raise TypeError("the model has no backbone")
    return HeadOnFeatures(backbone.heads)


def of_images(model: nn.Module, data: Batches, fast: torch.dtype | None, *, mirrored: bool) -> Batches | None:
    """The features (N, V, ...) of `data` before the head of `model`, on the same device: V is 2 where `mirrored`.

    `fast`: under autocast in that type, as trained. They are computed once for the same images, weights,
    normalisation and views. None: they would not fit into memory, or the network has no frozen backbone, or more
    follows its head, such as a pooling; then the head is trained through the whole network.
    """
    if (backbone := backbone_of(model)) is None or not backbone.frozen:
        return None
    if data.whole is not None and data.rows is not None:  # a fold: all folds have those of all images
        found = of_images(model, data.whole, fast, mirrored=mirrored)
        return None if found is None else found.taken(data.rows)
    key = _key(model, backbone, data, fast, mirrored)
    if key not in _held:
        each = _bytes_each(model, backbone, data)
        if not each or len(data) * each > IN_MEMORY or not fits(len(data) * each, data.labels.device, 1):
            return None
        _hold(key, _stored(model, backbone, data, fast, mirrored, paths.mlruns() / "features" / f"{key}.safetensors"))
    _held.move_to_end(key)
    return Batches(_held[key], data.labels, key)


def known(model: nn.Module, data: Batches, fast: torch.dtype | None, *, mirrored: bool) -> bool:
    """Whether `of_images` would find these features here or in mlruns/features, so that they cost nothing."""
    if (backbone := backbone_of(model)) is None or not backbone.frozen:
        return False
    key = _key(model, backbone, data, fast, mirrored)
    return key in _held or (paths.mlruns() / "features" / f"{key}.safetensors").is_file()


def held() -> int:
    """Of how many sets of images this process holds the features."""
    return len(_held)


def forget() -> None:
    """Free the features that this process holds; the files stay."""
    _held.clear()


def _bytes_each(model: nn.Module, backbone: Backbone, data: Batches) -> int:
    """Bytes of an image's features; 0 where the head's answer to them is not exactly that of the whole network."""
    model.eval()
    images = data.images[torch.arange(min(2, len(data)), device=data.labels.device)]
    with torch.no_grad():
        given, whole = _given_to_head(model, backbone, images)
        if len(given) != (2 if isinstance(model, FlipAverage) else 1):  # in eval mode it answers to both views
            return 0
        features = torch.stack(given, 1)
        return features[0].nbytes if torch.equal(head_of(model)(features), whole) else 0


def _stored(
    model: nn.Module, backbone: Backbone, data: Batches, fast: torch.dtype | None, mirrored: bool, path: Path
) -> Tensor:
    """The features in the file `path`, or what is then written there; of several workers one computes them."""
    device = data.labels.device
    if not data.digest:
        return _computed(model, backbone, data, fast, mirrored)
    try:
        with locked(path.with_suffix(".lock"), wait=True):
            found = _read(path)  # the file's name is the key
            if found is None:
                found = _computed(model, backbone, data, fast, mirrored)
                _write(path, found, data.digest)
    except LockFileError:  # a disk that takes nothing costs time, not the trial
        found = _computed(model, backbone, data, fast, mirrored)
    return found.to(device)


def _computed(model: nn.Module, backbone: Backbone, data: Batches, fast: torch.dtype | None, mirrored: bool) -> Tensor:
    model.eval()
    parts: list[Tensor] = []
    device = data.labels.device
    layers = nn.Sequential(*model) if isinstance(model, nn.Sequential) else model  # of FlipAverage one view
    with torch.no_grad(), autocast(device, fast):
        for rows, size in _passes(len(data), device):
            with closing(data.feed(rows, size)) as batches:
                for images, _ in batches:
                    views = (images, images.flip(3)) if mirrored else (images,)
                    given = [_given_to_head(layers, backbone, view)[0] for view in views]
                    if any(len(one) != 1 for one in given):
                        raise TypeError("the network does not call its head once with one tensor")
                    parts.append(torch.stack([one for (one,) in given], 1))
    return torch.cat(parts)[: len(data)]


def _passes(count: int, device: torch.device) -> list[tuple[Tensor, int]]:
    """The rows (M,) of `count` images in forward passes of so many each; of those beyond `count` nothing is kept."""
    if device.type != "cpu":
        return [(torch.arange(-(-count // BATCH) * BATCH, device=device) % count, BATCH)]
    if count < LEAST:
        return [(torch.arange(LEAST) % count, LEAST)]
    alone = count % BATCH >= LEAST or count % BATCH == 0 or count < BATCH
    first = count if alone else count // BATCH * BATCH - BATCH  # a small rest joins the batch before
    rows = torch.arange(count)
    return [(part, size) for part, size in ((rows[:first], BATCH), (rows[first:], 2 * BATCH)) if len(part)]


def _given_to_head(model: nn.Module, backbone: Backbone, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """What `model` calls its head with, once for each call, and its answer; nothing where that is not one tensor.

    Of several heads, which are called one after the other with the same shape, all inputs in one tensor (N, H, ...).
    """
    heads = list(backbone.heads)
    calls: list[tuple[nn.Module, tuple[object, ...]]] = []
    hooks = [head.register_forward_pre_hook(lambda *call: calls.append(call)) for head in heads]
    try:
        answer: Tensor = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    tensors = [given[0] for _, given in calls if len(given) == 1 and isinstance(given[0], Tensor)]
    if len(tensors) != len(calls):
        return [], answer
    if len(heads) == 1:
        return tensors, answer
    turns = [tensors[start : start + len(heads)] for start in range(0, len(tensors), len(heads))]
    in_turn = [head for head, _ in calls] == heads * len(turns) and len({one.shape for one in tensors}) == 1
    return [torch.stack(turn, 1) for turn in turns] if in_turn else [], answer


def _key(model: nn.Module, backbone: Backbone, data: Batches, fast: torch.dtype | None, mirrored: bool) -> str:
    """SHA-256 over all that decides the features: images, network, weights and normalisation, precision, views."""
    head = {id(value) for value in backbone.heads.state_dict(keep_vars=True).values()}
    state = {name: value for name, value in model.state_dict(keep_vars=True).items() if id(value) not in head}
    modules = [f"{name} {type(one).__name__} {one.extra_repr()}" for name, one in model.named_modules()]
    device = data.labels.device
    place = ("cpu", torch.get_num_threads()) if device.type == "cpu" else (describe(device), is_tf32(device))
    facts = [
        data.digest or uuid.uuid4().hex,
        digest_of(state),
        *modules,
        fast or False,
        mirrored,
        *place,
        backbone.made,
        *(version(one) for one in LIBRARIES),
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _hold(key: str, features: Tensor) -> None:
    _held[key] = features
    while len(_held) > 1 and sum(one.nbytes for one in _held.values()) > IN_MEMORY:
        _held.popitem(last=False)


def _read(path: Path) -> Tensor | None:
    """What `path` holds; None: nothing, or not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            features: Tensor = file.get_tensor("features")
            about = file.metadata() or {}
    except Exception:  # the reader raises its own kinds for whatever is wrong
        return None
    if about.get("sha256") != digest_of({"features": features}) or about.get(KEY) != path.stem:
        return None
    with suppress(OSError):
        os.utime(path)  # used last, deleted last
    return features


def _write(path: Path, features: Tensor, images: str) -> None:
    """Write them whole or not at all, with the digest of their `images`, and delete the oldest beyond the bound.

    A full disk is no reason to fail.
    """
    if features.nbytes > ON_DISK:
        return
    here = features.cpu().contiguous()
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")  # other machines may have processes of this number
    try:
        for left in path.parent.glob(f"{path.stem}.*.tmp"):  # of a killed writer: the caller holds the lock
            left.unlink(missing_ok=True)
        about = {"sha256": digest_of({"features": here}), KEY: path.stem, IMAGES: images}
        save_file({"features": here}, temporary, about)
        temporary.replace(path)
        total = 0
        for one in sorted(path.parent.glob("*.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True):
            total += one.stat().st_size
            if total > ON_DISK and one != path:
                one.unlink(missing_ok=True)
                one.with_suffix(".lock").unlink(missing_ok=True)
    except Exception:  # OSError, and the writer's own kind
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
