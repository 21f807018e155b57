"""What a network in training is worth: its figures on images that it is not trained on."""

import math
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.errors import InputError, of_parameter
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.training.batches import Batches
from podium.training.device import widest
from podium.training.epochs import Epoch
from podium.training.footprint import halved, images_per_pass
from podium.training.precision import autocast

EVALUATION_BATCH = 1024
"""Images a forward pass without gradients at most: large enough to keep a core busy, small enough for its cache."""


def validate(
    model: nn.Module,
    data: Batches,
    fast: torch.dtype | None,
    metrics: Sequence[Metric] = (),
    classes: tuple[str, ...] = (),
) -> Epoch:
    """val_loss (mean cross-entropy), val_accuracy and val_<metric> of `metrics` of `model` on `data`, in one pass.

    `fast`: the type of autocast, None: float32. `classes`: their names, which some metrics need. An undefined
    metric is nan.
    """
    size = batch_size(model, data, fast)
    return halved(partial(_validated, model, data, fast, metrics, classes), size, data.labels.device)


def batch_size(model: nn.Module, data: Batches, fast: torch.dtype | None) -> int:
    """Images of a forward pass of `model` over `data` without gradients: EVALUATION_BATCH, or fewer that fit."""
    model.eval()
    first = data.images[torch.arange(min(1, len(data)), device=data.labels.device)]
    return images_per_pass(model, first, EVALUATION_BATCH, fast) if len(first) else EVALUATION_BATCH


def _validated(
    model: nn.Module,
    data: Batches,
    fast: torch.dtype | None,
    metrics: Sequence[Metric],
    classes: tuple[str, ...],
    size: int,
) -> Epoch:
    device = data.labels.device
    others = [metric for metric in metrics if not metric.EACH_EPOCH]
    loss = torch.zeros((), dtype=widest(device), device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    all_logits: list[Tensor] = []
    with (
        torch.inference_mode(),
        autocast(device, fast),
        closing(data.feed(torch.arange(len(data)), size)) as batches,
    ):
        for images, labels in batches:
            logits = model(images).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
            all_logits += [logits.cpu()] if others else []  # all of them may not fit beside the network
    done: Epoch = {"val_loss": float(loss) / len(data), "val_accuracy": float(right) / len(data)}
    if others:
        scored = Scored(torch.cat(all_logits), data.labels.cpu(), classes)
        try:
            done |= {f"val_{metric.label}": metric.measured(scored) for metric in others}
        except InputError as error:
            raise InputError(of_parameter("search.metric or evaluate.metrics", str(error))) from None
    return done


def defined(
    measured: Epoch, objective: Metric | None, others: Sequence[Metric], data: Batches, classes: tuple[str, ...]
) -> tuple[Epoch, list[str]]:
    """`measured` without what is undefined, and a sentence for each of `others` that is.

    Raises InputError where the `objective` is: nothing can be searched for by it.
    """
    notes = []
    for metric in [*([objective] if objective else []), *others]:
        key = f"val_{metric.label}"
        if not math.isnan(measured.get(key, 0.0)):
            continue
        count = torch.bincount(data.labels.cpu(), minlength=len(classes)).tolist()
        names = classes if len(classes) == len(count) else tuple(map(str, range(len(count))))
        why = metric.undefined(dict(zip(names, count, strict=True))) or "it gives NaN or an infinite number for them"
        if metric is objective:
            raise InputError(
                f"search.metric: {metric.label} is undefined on the validation images: {why}. Choose another metric,"
                " or other validation images (prepare.val_fraction)"
            )
        notes.append(f"{key} is undefined on the validation images and left out: {why}")
    return {key: value for key, value in measured.items() if not math.isnan(value)}, notes
