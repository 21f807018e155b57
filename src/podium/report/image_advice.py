"""What the images and the reference lines suggest to try next; `summary.advice` has what the trials suggest."""

import math
from typing import Any

from podium.report.report_data import ReportData
from podium.report.summary import Advice
from podium.text import counted
from podium.tuning.folds import FEW, SMALL_SET, advised
from podium.tuning.reference_lines import LABELS, remedies

PHOTOGRAPH = 64
"""Pixels a side from which pretrained weights are worth a try; below, their features say little."""
FEW_TO_START_AFRESH = 20_000
"""Training images below which a network of photographs seldom learns from random weights what pretrained ones know."""
SHRUNK = 4
"""Times that the images are made smaller, from which details may be lost."""
IMBALANCE = 5
"""Ratio of the largest to the smallest class from which their weights matter."""
GAP = 2.0
"""Times the training loss that the validation loss is, from which the network knows its training images by heart."""
HIGH = 0.5
"""Fraction of the loss of guessing (log of the number of classes), above which a training loss is high."""
SHOWN = 4
"""Classes that a line names."""


def image_advice(data: ReportData) -> list[Advice]:
    """What to change about images, start and training, the most promising first."""
    found = _reference(data)
    if not found:  # else it says so already
        found += _pretrained(data)
    return [*found, *_gap(data), *_size(data), *_validation(data), *_balance(data)]


def _settings(data: ReportData) -> dict[str, Any]:
    recipe: dict[str, Any] = data.search.best["recipe"]
    return recipe


def _reference(data: ReportData) -> list[Advice]:
    if data.lines is None or data.lines.beaten_by(data.achieved):
        return []
    line = data.lines.strongest
    why = f"{LABELS[line.name]} has {line.value:.4f} on the validation images, this search {data.achieved:.4f}"
    return [Advice(_capital("; ".join(remedies(line.name, _settings(data)))), why)]


def _pretrained(data: ReportData) -> list[Advice]:
    if data.dataset is None or _settings(data).get("model.weights") or _settings(data).get("train.program"):
        return []
    count, side = sum(data.dataset["counts"].get("train", {}).values()), min(data.dataset["shape"][1:])
    if side < PHOTOGRAPH or count >= FEW_TO_START_AFRESH:
        return []
    why = f"{counted(count, 'training image')} of {side} pixels are few for a network that starts from random weights"
    return [Advice("Start from pretrained weights, if these are photographs: `podium preset photos`", why)]


def _gap(data: ReportData) -> list[Advice]:
    """Whether the best trial learnt its training images by heart, or hardly learnt them."""
    losses = [data.search.last_epoch.get(name) for name in ("train_loss", "val_loss")]
    if data.dataset is None or losses[0] is None or losses[1] is None:
        return []
    train, val = losses[0], losses[1]
    why = f"the best trial ended with a training loss of {train:.3f} and a validation loss of {val:.3f}"
    guessing = math.log(len(data.dataset["classes"]))
    if val > GAP * train and val - train > 0.1 * guessing:
        what = (
            "Narrow the gap to the validation images: more images, augmentation (train.augment, train.flip), a larger"
        )
        return [Advice(f"{what} train.weight_decay, or pretrained weights", why)]
    if train > HIGH * guessing and val > HIGH * guessing:
        return [Advice("Let it learn more: more epochs, another train.learning_rate, a larger network", why)]
    return []


def _size(data: ReportData) -> list[Advice]:
    """Whether the images are made so small that details may be lost."""
    if data.dataset is None or data.audit is None:
        return []
    sizes = [name for name in data.audit.get("sizes", {}) if name != "others"]
    if not sizes:
        return []
    side, original = min(data.dataset["shape"][1:]), min(map(int, sizes[0].split("x")))
    if original < SHRUNK * side:
        return []
    why = f"the most frequent size is {sizes[0]}, and the images are prepared with {side} pixels a side"
    return [Advice(f"Prepare larger images (prepare.size: {min(2 * side, original)})", why)]


def _validation(data: ReportData) -> list[Advice]:
    """Whether a few validation images decide."""
    counts = (data.dataset or {"counts": {}})["counts"]
    few = [f"{name} ({n})" for name, n in counts.get("val", {}).items() if n < FEW]
    if not few:
        return []
    more = f" and {counted(len(few) - SHOWN, 'more class')}" if len(few) > SHOWN else ""
    why = f"fewer than {FEW} validation images of {', '.join(few[:SHOWN])}{more}: one of them decides much"
    both = [sum(counts.get(part, {}).get(name, 0) for part in ("train", "val")) for name in counts["val"]]
    some = advised(min(both)) if sum(both) <= SMALL_SET and not (data.selected or {}).get("folds") else 0
    by_folds = f"Choose by folds (select.folds: {some}), or add images"
    return [Advice(by_folds if some else "Add images of these classes", why)]


def _balance(data: ReportData) -> list[Advice]:
    counts = (data.dataset or {"counts": {}})["counts"].get("train", {})
    if len(counts) < 2 or max(counts.values()) < IMBALANCE * min(counts.values()):
        return []
    if _settings(data).get("train.balance", "none") != "none":
        return []
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    why = f"{counts[most]:,} training images of {most} and {counts[least]:,} of {least}"
    return [Advice("Give all classes the same weight (train.balance: loss, search.metric: balanced_accuracy)", why)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
