"""What a network in training is worth: its figures on images that it is not trained on."""

from contextlib import closing

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.metrics.scores import Metric
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.footprint import images_per_pass

EVALUATION_BATCH = 1024
"""Images a forward pass without gradients at most: large enough to keep a core busy, small enough for its cache."""


def validate(model: nn.Module, data: Batches, fast: bool, metric: Metric | None = None) -> Epoch:
    """val_loss (mean cross-entropy), val_accuracy and, where it is another one, val_<metric> of `model` on `data`."""
    size = batch_size(model, data, fast)
    while True:
        try:
            return _validated(model, data, fast, metric, size)
        except torch.OutOfMemoryError:  # the estimate does not see everything
            if size == 1:
                raise
        size //= 2
        torch.cuda.empty_cache()


def batch_size(model: nn.Module, data: Batches, fast: bool) -> int:
    """Images of a forward pass of `model` over `data` without gradients: EVALUATION_BATCH, or fewer that fit."""
    model.eval()
    first = data.images[torch.arange(min(1, len(data)), device=data.labels.device)]
    return images_per_pass(model, first, EVALUATION_BATCH, fast) if len(first) else EVALUATION_BATCH


def _validated(model: nn.Module, data: Batches, fast: bool, metric: Metric | None, size: int) -> Epoch:
    device = data.labels.device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    all_logits: list[Tensor] = []
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=fast),
        closing(data.feed(torch.arange(len(data)), size)) as batches,
    ):
        for images, labels in batches:
            logits = model(images).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
            all_logits += [logits] if metric is not None and not metric.EACH_EPOCH else []
    done: Epoch = {"val_loss": float(loss) / len(data), "val_accuracy": float(right) / len(data)}
    if all_logits and metric is not None:
        done[f"val_{metric.label}"] = metric.compute(torch.cat(all_logits), data.labels)
    return done
