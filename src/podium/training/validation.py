"""What a network in training is worth: its figures on images that it is not trained on."""

import math
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.errors import InputError, of_parameter
from podium.metrics import several
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
    others = [metric for metric in metrics if not metric.EACH_EPOCH]
    done, scored = judged(model, data, fast, classes, keep=bool(others))
    return done | measured(scored, others) if scored else done


def judged(
    model: nn.Module, data: Batches, fast: torch.dtype | None, classes: tuple[str, ...], *, keep: bool
) -> tuple[Epoch, Scored | None]:
    """val_loss and val_accuracy as `validate` has them and, to `keep`, the predictions that other metrics follow from;
    None else."""
    size = batch_size(model, data, fast)
    return halved(partial(_judged, model, data, fast, classes, keep), size, data.labels.device)


def measured(scored: Scored, metrics: Sequence[Metric]) -> Epoch:
    """val_<metric> of those of `metrics` that no epoch has anyway. Raises InputError naming the parameters."""
    return measured_of_each([scored], metrics)[0]


def measured_of_each(each: Sequence[Scored], metrics: Sequence[Metric]) -> list[Epoch]:
    """`measured` of the predictions of several epochs: those for the same images are computed together."""
    others = [metric for metric in metrics if not metric.EACH_EPOCH]
    names = [f"val_{metric.label}" for metric in others]
    try:
        return [dict(zip(names, values, strict=True)) for values in several.measured(each, others)]
    except InputError as error:
        raise InputError(of_parameter("search.metric or evaluate.metrics", str(error))) from None


def batch_size(model: nn.Module, data: Batches, fast: torch.dtype | None) -> int:
    """Images of a forward pass of `model` over `data` without gradients: EVALUATION_BATCH, or fewer that fit."""
    model.eval()
    first = data.images[torch.arange(min(1, len(data)), device=data.labels.device)]
    return images_per_pass(model, first, EVALUATION_BATCH, fast) if len(first) else EVALUATION_BATCH


def _judged(
    model: nn.Module, data: Batches, fast: torch.dtype | None, classes: tuple[str, ...], keep: bool, size: int
) -> tuple[Epoch, Scored | None]:
    device = data.labels.device
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
            all_logits += [logits.cpu()] if keep else []  # all of them may not fit beside the network
    done: Epoch = {"val_loss": float(loss) / len(data), "val_accuracy": float(right) / len(data)}
    return done, Scored(torch.cat(all_logits), data.labels.cpu(), classes) if keep else None


def defined(
    figures: Epoch, objective: Metric | None, others: Sequence[Metric], labels: Tensor, classes: tuple[str, ...]
) -> tuple[Epoch, list[str]]:
    """`figures` of images of `labels` without what is undefined, and a sentence for each of `others` that is.

    Raises InputError where the `objective` is: nothing can be searched for by it.
    """
    notes = []
    for metric in [*([objective] if objective else []), *others]:
        key = f"val_{metric.label}"
        if not math.isnan(figures.get(key, 0.0)):
            continue
        count = torch.bincount(labels.cpu(), minlength=len(classes)).tolist()
        names = classes if len(classes) == len(count) else tuple(map(str, range(len(count))))
        why = metric.undefined(dict(zip(names, count, strict=True))) or "it gives NaN or an infinite number for them"
        if metric is objective:
            raise InputError(
                f"search.metric: {metric.label} is undefined on the validation images: {why}. Choose another metric,"
                " or other validation images (prepare.val_fraction)"
            )
        notes.append(f"{key} is undefined on the validation images and left out: {why}")
    return {key: value for key, value in figures.items() if not math.isnan(value)}, notes
