"""Reference lines are measured, in seconds.

The majority class; logistic regression on simple features (a small picture and histograms of its channels); and
logistic regression on the ImageNet features of the packaged weights, the linear evaluation of Kornblith, Shlens and
Le (Do Better ImageNet Models Transfer Better?, CVPR 2019). A search that does not beat these has found nothing yet.

They are judged by the search's own metric, on the same images as its trials. Importing this imports torch, which the
search's driver does without: see `reference_process`.
"""

import math
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from podium.config.params import Params
from podium.config.recipe import PACKAGED, ModelParams
from podium.data.dataset import DatasetInfo, Rows, Split, chunks, open_split
from podium.errors import InputError, of_parameter
from podium.metrics.scored import SMALLEST as LEAST_PROBABILITY
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.models.build import initial_model
from podium.models.networks import ImageSpec
from podium.models.weight_files import PACKAGES
from podium.training import features
from podium.training.batches import Batches
from podium.training.device import own_kind, pick, set_kernels
from podium.tuning.reference_lines import Line, Lines

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse regularisation (C); the best on the validation images counts, as the best trial does."""
MOST_WORK = 3e11
"""Images x features x classes x iterations of one line, over all strengths: 10 to 30 s of a core. Many classes have
fewer iterations, then fewer strengths, those of the weakest regularisation: stopped early it is the best of them (0.078
against 0.067 and 0.054 after 23 iterations on 1,000 classes of glyphs)."""
LEAST_ITERATIONS = 30
"""Of a strength: with fewer, the line would say more about the budget than about the images."""
MOST_IMAGES = 2000
"""Training images of a regression, and at least PER_CLASS of each class: it is to take seconds."""
PER_CLASS = 10
MOST_PIXELS = 1000 * 224 * 224
"""Pixels of the images whose ImageNet features are computed for this alone: 10 to 20 s of a core."""
SMALLEST = 32
"""Pixels a side below which features of photographs are not computed: the network halves its input five times."""
SIDE, BINS = 16, 16
"""Of the small picture, and of a channel's histogram."""
ITERATIONS = 200

Matrix = NDArray[np.float32]


def measure(params: Params, prepared: Path) -> Lines:
    """The reference lines of the training and validation images in `prepared`, by `search.metric`."""
    info = DatasetInfo.read(prepared)
    train, val = open_split(prepared / "train"), open_split(prepared / "val")
    metric: Metric = params.search.component("metric")
    some = spread(train.labels, max(MOST_IMAGES, PER_CLASS * len(train.classes)))
    few = train if len(some) == len(train.labels) else subset(train, some)
    labels = torch.from_numpy(val.labels)
    found = {"majority": ([_priors(train, len(val.labels))], len(train.labels))}
    with threadpool_limits(1, "blas"):
        missing: dict[str, str] = {}
        for name, given in (("simple", (_simple(few.images), _simple(val.images), few)),
                            ("pretrained", _pretrained(params, info, few, val))):  # fmt: skip
            if isinstance(given, str) or (why := _not_learnable(given[0], given[2])):
                missing[name] = given if isinstance(given, str) else why
                continue
            learnt, judged, used = given
            found[name] = (_regressions(learnt, judged, used), len(used.labels))
    lines = {name: _line(name, answers, labels, val.classes, metric, n) for name, (answers, n) in found.items()}
    missing |= {name: line for name, line in lines.items() if isinstance(line, str)}
    measured = tuple(line for line in lines.values() if isinstance(line, Line))
    return Lines(metric.label, metric.direction, len(labels), measured, missing)


def _line(
    name: str, answers: list[Tensor], labels: Tensor, classes: tuple[str, ...], metric: Metric, count: int
) -> Line | str:
    """The line of the best of `answers` (N, K) each; a text: why it has no value, such as an own metric that fails."""
    found, why = [], ""
    for scored in (Scored(logits, labels, classes) for logits in answers):
        try:
            value = metric.value(scored)
        except InputError as error:
            why = why or of_parameter("search.metric", str(error))
            continue
        if math.isnan(value):
            why = why or f"search.metric: {metric.label} gives NaN or an infinite number for it"
            continue
        accuracy = float((scored.predicted == scored.labels).float().mean())
        found.append(Line(name, value, accuracy, count))
    return max(found, key=lambda line: metric.sign * line.value) if found else why


def spread(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most about `most` rows of `labels` (N,), every class by its share and at least one; all where there are few.

    The same for the same labels: evenly spread over the rows of each class.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(1, round(most * len(rows) / len(labels)))
        parts.append(rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)])
    return np.sort(np.concatenate(parts))


def subset(split: Split, rows: NDArray[np.int64]) -> Split:
    """Some rows of `split`, in memory."""
    images, labels = np.asarray(split.images[rows]), split.labels[rows]
    return Split(split.name, images, labels, split.classes, f"{split.digest} {len(rows)}")


def _priors(train: Split, count: int) -> Tensor:
    """The logarithm of each class's share of the training images, for each of `count` images."""
    shares = np.bincount(train.labels, minlength=len(train.classes)) + 1.0
    return torch.from_numpy(np.log(shares / shares.sum())).float().expand(count, -1)


def _simple(images: Rows) -> Matrix:
    """A small picture of each of `images` (N, C, H, W), by area, and the histogram of each channel: (N, D)."""
    parts = []
    for chunk in chunks(images):
        pixels = torch.from_numpy(chunk).float() / 255
        height, width = (min(SIDE, side) for side in chunk.shape[2:])
        small = F.adaptive_avg_pool2d(pixels, (height, width)).flatten(1)
        flat = torch.from_numpy(chunk).flatten(2).long() * BINS // 256
        counts = torch.zeros((*flat.shape[:2], BINS)).scatter_add_(2, flat, torch.ones(flat.shape))
        parts.append(torch.cat([small, (counts / flat.shape[2]).flatten(1)], 1).numpy())
    return np.concatenate(parts).astype(np.float32)


def _pretrained(params: Params, info: DatasetInfo, few: Split, val: Split) -> tuple[Matrix, Matrix, Split] | str:
    """ImageNet features of training and validation images (N, D), and the training images that they are of.

    Where the search has trained heads on the same ones they are in the cache and cost nothing. A text: why there are
    none.
    """
    if (side := min(info.shape[1:])) < SMALLEST:
        return f"images of {side} pixels are too small (at least {SMALLEST})"
    (name,) = PACKAGES
    torch.set_num_threads(params.runtime.threads)  # as the workers have it: other numbers of threads round otherwise
    device = pick(own_kind(params.runtime.device, params.runtime.devices))
    set_kernels(device, deterministic=params.train.deterministic)  # float32 itself, as its worker has it: no TF32
    mirrored = params.model.flip_average
    network = ModelParams(name=name, weights=PACKAGED, flip_average=mirrored)  # as trials have it: the same cache
    torch.manual_seed(0)
    model = initial_model(network, ImageSpec.of(info), frozen=True).to(device)
    model = model.to(memory_format=torch.channels_last)
    batches, judged = Batches.of([few], device), Batches.of([val], device)
    free = MOST_PIXELS // (info.shape[1] * info.shape[2])
    if not features.known(model, judged, fast=None, mirrored=mirrored):
        free -= len(judged) * (2 if mirrored else 1)
    if free < len(few.classes) * PER_CLASS:
        return f"{len(judged):,} validation images of {side} pixels would take minutes; `podium preset photos` does it"
    if not features.known(model, batches, fast=None, mirrored=False) and len(rows := spread(few.labels, free)) < len(
        few.labels
    ):
        few = subset(few, rows)
        batches = Batches.of([few], device)
    found = [
        features.of_images(model, batches, fast=None, mirrored=False),
        features.of_images(model, judged, fast=None, mirrored=mirrored),
    ]
    both = [_mean_of_views(one) for one in found if one is not None]
    return (both[0], both[1], few) if len(both) == len(found) else "the features do not fit into memory"


def _mean_of_views(data: Batches) -> Matrix:
    """(N, D) of features (N, V, ...): what is linear in them answers with the mean over the views."""
    views: Tensor = data.images[torch.arange(len(data), device=data.labels.device)]
    return views.float().mean(1).flatten(1).cpu().numpy()


def _iterations(inputs: Matrix, split: Split) -> list[int]:
    """At most so many iterations for each of the last STRENGTHS, within MOST_WORK; empty: not one strength fits."""
    whole = int(MOST_WORK / (inputs.size * len(split.classes)))
    count = min(len(STRENGTHS), whole // LEAST_ITERATIONS)
    return [min(ITERATIONS, whole // count)] * count if count else []


def _not_learnable(inputs: Matrix, split: Split) -> str:
    """Why there is no regression on `inputs` (N, D); empty: there is one."""
    if len(np.unique(split.labels)) < 2:
        return "all training images are of one class"
    if _iterations(inputs, split):
        return ""
    count, size = inputs.shape
    return f"{count:,} images of {len(split.classes):,} classes with {size:,} features each would take minutes"


def _regressions(train: Matrix, val: Matrix, split: Split) -> list[Tensor]:
    """Log-probabilities (M, K) of the rows of `val` (M, D) by logistic regression on `train` (N, D), standardised.

    `split`: the images that `train` is of. One for each strength that there is time for.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    inputs, judged = scaler.transform(train), scaler.transform(val)
    answers: list[Tensor] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a last digit decides nothing here
        limits = _iterations(train, split)
        for strength, most in zip(STRENGTHS[-len(limits) :], limits, strict=True):
            model = LogisticRegression(C=strength, max_iter=most, tol=1e-3).fit(inputs, split.labels)
            # Bounded as log loss is: of a thousand classes some are rounded to 0, and some may have no training image.
            found = np.full((len(judged), len(split.classes)), LEAST_PROBABILITY)
            found[:, model.classes_] = model.predict_proba(judged).clip(LEAST_PROBABILITY)
            answers.append(torch.from_numpy(np.log(found)).float())
    return answers
