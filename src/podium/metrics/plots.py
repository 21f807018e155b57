"""Pictures of an evaluation: confusion matrix, reliability diagram, and images with the most surprising predictions.

The files are small, and the same for the same numbers.
"""

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from podium.data.dataset import Split
from podium.data.decode import encode_png
from podium.data.image_files import ImageFile, anonymous
from podium.metrics.abstaining import Counts, Curve
from podium.metrics.classification import CalibrationBin, Metrics

COUNTED = 25
"""Up to this many classes a cell has room for its count."""
CELLS = 250
"""Rows and columns of the confusion matrix that a pixel or two each is left for; more classes share one."""
NAMED = 40
"""Up to this many classes each has room for its name; above, every second, third, ... is named."""
LONGEST = 16
"""Characters of a class name that are shown."""
BLUE, RED, GREY = "#90bde4", "#c53030", "#a0aec0"
SHOWN = 12
"""Images of each kind in the gallery."""
LARGEST = 96
"""Pixels of a thumbnail's longer side: two dozen of them stay below half a megabyte."""
LEAST = np.finfo(np.float64).eps
"""Lower bound of a probability, so that a surprise is finite."""


def draw_confusion(path: Path, metrics: Metrics) -> None:
    """Write the confusion matrix to `path`: colour is the share of the actual class, a number is a count of images."""
    classes = [c.name for c in metrics.per_class]
    side = float(np.clip(1.4 + 0.42 * len(classes), 2.6, 7.6))
    names = 0.3 + 0.075 * min(LONGEST, max(len(name) for name in classes))
    figure = Figure(figsize=(side + names + 1.4, side + names + 0.8), layout="compressed")
    axes = figure.add_subplot()
    step = -(-len(classes) // CELLS)
    counts = _pooled(metrics.confusion, step)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # The square root shows one error in a hundred, which a linear scale leaves white.
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, format=PercentFormatter(1), ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    together = f" (a cell: {step} classes in order)" if step > 1 else ""
    bar.set_label(f"fraction of the actual class{together}")
    axes.set_title(f"Accuracy {metrics.accuracy:.2%} of {metrics.count:,} images", fontsize=11)
    axes.set(xlabel="predicted", ylabel="actual")
    _name_classes(axes, classes[::step])
    if len(classes) <= COUNTED:
        _write_counts(axes, metrics.confusion, shares)
    save_figure(figure, path)


def _pooled(confusion: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Sums of `confusion` (K, K) over blocks of `step` classes each way."""
    starts = np.arange(0, len(confusion), step)
    rows: NDArray[np.int64] = np.add.reduceat(confusion, starts, axis=0)
    return np.asarray(np.add.reduceat(rows, starts, axis=1), np.int64)


def draw_calibration(path: Path, metrics: Metrics) -> None:
    """Write the reliability diagram to `path`: accuracy over confidence, and below it the number of predictions."""
    filled = [b for b in metrics.calibration if b.count]
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_reliability(above, filled)
    above.set_title(f"Expected calibration error {metrics.ece:.4f}", fontsize=11)
    below.bar(_middles(filled), [b.count for b in filled], _widths(filled), color=GREY, edgecolor="white")
    below.set(xlabel="confidence", ylabel="images", yscale="log", xlim=(0, 1), ylim=(0.5, None))
    below.yaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)  # inside it would hide a bin
    save_figure(figure, path)


def draw_coverage(path: Path, curve: Curve, chosen: Counts, error: float) -> None:
    """Write error against coverage to `path`, with the promised `error` and what the chosen threshold does."""
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(curve.coverage, curve.error, curve.high, color=BLUE, alpha=0.4, linewidth=0, label="upper bound")
    axes.plot(curve.coverage, curve.error, color="#2b6cb0", label="error")
    axes.axhline(error, color=RED, linestyle="--", linewidth=1, label="promised at most")
    if chosen.answered:
        axes.plot([chosen.coverage], [chosen.error], "o", color="black", label="chosen threshold")
    most = max(2 * error, float(curve.error.max()), 1e-3)
    axes.set(xlabel="coverage", ylabel="error of answered images", xlim=(0, 1), ylim=(0, min(1.2 * most, 1.0)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.set_title(f"Area below the curve {curve.area:.4f}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path)


def gallery(
    split: Split, probabilities: NDArray[Any], files: Sequence[ImageFile] | None = None
) -> list[dict[str, Any]]:
    """The wrong predictions (kind `worst`), then the right ones (kind `surprising`), each by surprise, highest first.

    The surprise of an image is the negative logarithm of the probability (N, K) that its own class was given, in nats.
    Of images that show the same by `files` the most surprising of a kind stands for all; `copies` counts them.
    """
    files = files or anonymous(len(split.labels))
    of_label = probabilities[np.arange(len(split.labels)), split.labels].astype(np.float64)
    surprise = -np.log(np.clip(of_label, LEAST, 1))
    order = np.argsort(-surprise, kind="stable")
    right = probabilities.argmax(1) == split.labels
    kinds = {"worst": order[~right[order]], "surprising": order[right[order]]}
    return [
        {"kind": kind}
        | _about(split, probabilities, row)
        | {"surprise": round(float(surprise[row]), 4)}
        | {"file": files[row].origin, "path": files[row].path, "copies": copies}
        for kind, rows in kinds.items()
        for row, copies in list(_distinct(rows, split.pictures).items())[:SHOWN]
    ]


def _distinct(rows: NDArray[np.int64], pictures: NDArray[np.int64]) -> dict[int, int]:
    """The first of `rows` that shows each picture, with how many of them do."""
    first: dict[int, int] = {}
    counts: dict[int, int] = {}
    for row in rows.tolist():
        shown = first.setdefault(int(pictures[row]), row)
        counts[shown] = counts.get(shown, 0) + 1
    return counts


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """`image` (C, H, W) in grey with `heat` (H, W), 0 to 1, in colour over it: a PNG in base64."""
    grey = np.repeat(image.mean(0, keepdims=True), 3, 0).transpose(1, 2, 0)
    colours = np.asarray(colormaps["inferno"](heat))[..., :3] * 255
    weight = 0.25 + 0.5 * heat[..., None]
    mixed = ((1 - weight) * grey + weight * colours).round().clip(0, 255).astype(np.uint8)
    return base64.b64encode(_thumbnail(np.ascontiguousarray(mixed.transpose(2, 0, 1)))).decode()


def _draw_reliability(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    middles, widths = _middles(bins), _widths(bins)
    accuracy, gaps = [b.accuracy for b in bins], [b.confidence - b.accuracy for b in bins]
    axes.bar(middles, accuracy, widths, color=BLUE, edgecolor="white", label="accuracy")
    gap = axes.bar(middles, gaps, widths, bottom=accuracy, color="none", hatch="///", label="gap to confidence")
    for bar in gap:
        bar.set(edgecolor=RED, linewidth=0.6)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfect")
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))


def _middles(bins: Sequence[CalibrationBin]) -> list[float]:
    return [(b.lower + b.upper) / 2 for b in bins]


def _widths(bins: Sequence[CalibrationBin]) -> list[float]:
    return [b.upper - b.lower for b in bins]


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    step = -(-len(classes) // NAMED)
    ticks = range(0, len(classes), step)
    names = [short(classes[t]) for t in ticks]
    size = 9 if len(ticks) <= 20 else 7
    upright = max(len(name) for name in names) <= 3 and len(ticks) <= 20
    axes.set_xticks(ticks, names, rotation=0 if upright else 90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)


def short(name: str) -> str:
    """A class name as pictures have room for it."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _write_counts(axes: Axes, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 9 if len(confusion) <= 12 else 6
    for row, column in np.argwhere(confusion):
        color = "white" if shares[row, column] > 0.4 else "black"
        text = f"{confusion[row, column]}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG file that is the same for the same picture."""
    with warnings.catch_warnings():
        # A class name in a script that matplotlib's font lacks is drawn as boxes; the CSV files have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        # Without the version of matplotlib in it the file is the same for the same picture.
        figure.savefig(path, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})


def _about(split: Split, probabilities: NDArray[Any], row: int) -> dict[str, Any]:
    predicted = int(probabilities[row].argmax())
    return {
        "index": row,
        "label": split.classes[split.labels[row]],
        "predicted": split.classes[predicted],
        "probability": round(float(probabilities[row, predicted]), 6),
        "probability_of_label": round(float(probabilities[row, split.labels[row]]), 6),
        "image": base64.b64encode(_thumbnail(np.asarray(split.images[row]))).decode(),
    }


def _thumbnail(image: NDArray[np.uint8]) -> bytes:
    """`image` (C, H, W) as PNG, made smaller if it is larger than LARGEST."""
    whole = encode_png(image)
    if max(image.shape[1:]) <= LARGEST:
        return whole
    with Image.open(io.BytesIO(whole)) as picture:
        picture.thumbnail((LARGEST, LARGEST))
        out = io.BytesIO()
        picture.save(out, "PNG")
    return out.getvalue()
