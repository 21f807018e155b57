"""Charts of the result: the confirmation, the test set, the retraining."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from podium.metrics.class_rows import by_recall, has_images
from podium.report.chart import BEST, COMPLETE, FAILED, INK, MUTED, Chart, lines, plain, points, rounded
from podium.report.report_data import Evaluated, Table
from podium.text import counted

MATRIX = 30
"""Up to this many classes the confusion matrix is legible."""
COUNTED = 15
"""Up to this many classes a cell of half the page's width has room for its count."""
RECALL_BINS = 20
"""Bars of the recalls of more classes than that."""


def confirmation(selected: dict[str, Any]) -> Chart:
    """Each candidate's value in the search and on fresh seeds."""
    x, y, text = [], [], []
    means: tuple[list[float], list[str]] = ([], [])
    found: tuple[list[float], list[str]] = ([], [])
    for candidate in selected["candidates"]:
        name = f"trial {candidate['trial']}" + (" (chosen)" if candidate["trial"] == selected["trial"] else "")
        found[0].append(candidate["value"])
        found[1].append(name)
        if candidate["mean"] is not None:
            means[0].append(candidate["mean"])
            means[1].append(name)
        for value, seed in zip(candidate["values"], candidate["seeds"], strict=True):
            x.append(value)
            y.append(name)
            text.append(f"{name}, seed {seed}: {value:.4f}")
    in_search = [f"{name}, in the search: {value:.4f}" for value, name in zip(*found, strict=True)]
    mean_text = [f"{name}, mean: {value:.4f}" for value, name in zip(*means, strict=True)]
    one, mean = (
        ("on a fold", "mean of the folds") if selected.get("folds") else ("on a fresh seed", "mean of fresh seeds")
    )
    bar = {"symbol": "line-ns", "size": 22, "line": {"width": 3, "color": BEST}}
    data = [
        points(found[0], found[1], "in the search", MUTED, in_search, symbol="diamond-open", size=11),
        points(x, y, one, COMPLETE, text, size=10, opacity=0.8),
        points(means[0], means[1], mean, BEST, mean_text, **bar),
    ]
    layout = {
        "xaxis": {"title": f"validation {selected['metric']}"},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
    }
    note = f"The best of many single runs is the best partly by chance: {mean.replace(' of ', ' over ')} decides."
    height = 150 + 44 * len(selected["candidates"])
    return Chart("confirmation", "Search value and confirmation", note, data, layout, height)


def confusion(evaluated: Evaluated) -> Chart:
    """The matrix; of more than MATRIX classes those with the most errors among each other."""
    every = [row["class"] for row in evaluated.per_class]
    counts = Counter(evaluated.confusion)
    classes = every if len(every) <= MATRIX else _most_confused(counts, every)
    support = Counter(actual for actual, _ in evaluated.confusion)
    table = [[counts[actual, predicted] for predicted in classes] for actual in classes]
    shares = [[n / max(support[actual], 1) for n in row] for actual, row in zip(classes, table, strict=True)]
    names = [plain(name) for name in classes]
    heat = {
        "type": "heatmap",
        "x": list(range(len(names))),
        "y": list(range(len(names))),
        "z": [[round(share**0.5, 4) for share in row] for row in shares],  # one error in a hundred is visible
        "customdata": [
            [[plain(a), plain(p), n] for p, n in zip(classes, row, strict=True)]
            for a, row in zip(classes, table, strict=True)
        ],
        "zmin": 0,
        "zmax": 1,
        "colorscale": "@sequential",
        "showscale": False,
        "text": [[str(n) if n else "" for n in row] for row in table],
        "texttemplate": "%{text}" if len(classes) <= COUNTED else "",
        "hovertemplate": "actual %{customdata[0]}, predicted %{customdata[1]}: %{customdata[2]}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "automargin": True, "showgrid": False}
    layout = {
        "xaxis": ticks | {"title": "predicted", "constrain": "domain"},
        "yaxis": ticks | {"title": "actual", "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"},
    }
    crowded = len(classes) > COUNTED  # its names need a line each
    images = "point at a cell for its images." if crowded else "number: images."
    note = f"Rows are actual classes. Colour: fraction of the row; {images}"
    if len(classes) < len(every):
        note = (
            f"The {len(classes)} of {len(every):,} classes with the most errors among each other; confusion.csv in"
            f" data/evaluated has all. Rows are actual classes. Colour: fraction of the class's images; {images}"
        )
    height = 220 + 20 * len(classes) if crowded else 460
    return Chart("confusion", "Confusion matrix", note, [heat], layout, height, wide=crowded)


def _most_confused(counts: Counter[tuple[str, str]], classes: list[str]) -> list[str]:
    """MATRIX of `classes`, in their order: those of the most frequent errors."""
    chosen: dict[str, None] = {}
    wrong = [pair for pair, _ in counts.most_common() if pair[0] != pair[1]]
    for name in [*(name for pair in wrong for name in pair), *classes]:
        if len(chosen) < MATRIX:
            chosen[name] = None
    return [name for name in classes if name in chosen]


def calibration(evaluated: Evaluated) -> Chart:
    """Accuracy over confidence."""
    rows = evaluated.calibration
    counts = [int(row["count"]) for row in rows]
    most = max(counts, default=1)
    x, y = [float(row["confidence"]) for row in rows], [float(row["accuracy"]) for row in rows]
    bins = zip(counts, x, y, strict=True)
    text = [f"{counted(n, 'image')}: confidence {c:.3f}, accuracy {a:.3f}" for n, c, a in bins]
    sizes = [7 + 23 * (n / most) ** 0.5 for n in counts]
    data = [
        lines([0, 1], [0, 1], "perfect", MUTED, 1, hoverinfo="skip"),
        points(x, y, "predictions by confidence", COMPLETE, text, size=[rounded(s, 3) for s in sizes], opacity=0.8),
    ]
    axis = {"range": [-0.04, 1.06], "tickformat": ".0%"}
    layout = {"xaxis": axis | {"title": "confidence"}, "yaxis": axis | {"title": "accuracy"}}
    note = f"Below the line the model is overconfident. Expected calibration error {evaluated.metrics['ece']:.4f}."
    return Chart("calibration", "Calibration", note, data, layout, 460, wide=False)


def coverage(evaluated: Evaluated) -> Chart | None:
    """Error against coverage; None where the model answers every image."""
    promise = evaluated.abstain
    if promise is None:
        return None
    columns = ("coverage", "error", "error_high", "threshold")
    x, y, high, threshold = ([float(row[name]) for row in evaluated.coverage] for name in columns)
    points_of = zip(x, y, high, threshold, strict=True)
    text = [f"from {t!r}: {c:.1%} answered, error {e:.4f} (at most {h:.4f})" for c, e, h, t in points_of]
    test, most = promise["test"], promise["error"]
    chosen = test["answered"] / test["images"], test["wrong"] / test["answered"] if test["answered"] else 0.0
    said = f"chosen: {chosen[0]:.1%} answered, error {chosen[1]:.4f}"
    data = [
        lines(x, high, "upper bound", MUTED, 1, hoverinfo="skip"),
        lines(x, y, "error", COMPLETE, 2.5, text=text, hovertemplate="%{text}<extra></extra>"),
        lines([0, 1], [most, most], "promised at most", FAILED, 1, hoverinfo="skip"),
        points([chosen[0]], [chosen[1]], "chosen threshold", BEST, [said], size=12),
    ]
    axis = {"tickformat": ".0%"}
    # With fewer images than are answered the bound goes up to 1, and would make all the rest small.
    shown = [bound for answered, bound in zip(x, high, strict=True) if answered >= chosen[0]]
    layout = {
        "xaxis": axis | {"title": "answered images", "range": [0, 1.02]},
        "yaxis": axis | {"title": "error of answered images", "range": [0, 1.2 * max(2 * most, *y, *shown)]},
    }
    unsure = f"Unsure below a probability of {promise['threshold']!r}" if promise["threshold"] else "Never unsure"
    note = (
        f"{unsure}, chosen on validation images for an error of {most:g} at most. The test images:"
        f" {promise['finding']}."
    )
    return Chart("coverage", "Error against coverage", note, data, layout, 360)


def recalls(evaluated: Evaluated) -> Chart:
    """Recall of each class with its interval, lowest first; of more than MATRIX how many classes have which recall."""
    rows = by_recall(r for r in evaluated.per_class if has_images(r))
    if len(rows) > MATRIX:
        return _recall_counts([float(row["recall"]) for row in rows])
    x = [float(r["recall"]) for r in rows]
    text = [
        f"{plain(r['class'])}: {float(r['recall']):.4f} ({float(r['recall_low']):.4f} to {float(r['recall_high']):.4f})"
        f" of {counted(int(r['support']), 'image')}"
        for r in rows
    ]
    trace = points(x, [plain(r["class"]) for r in rows], "recall", COMPLETE, text, size=10)
    trace["error_x"] = {
        "type": "data",
        "array": [max(float(r["recall_high"]) - v, 0) for r, v in zip(rows, x, strict=True)],
        "arrayminus": [max(v - float(r["recall_low"]), 0) for r, v in zip(rows, x, strict=True)],
        "color": MUTED,
        "thickness": 1.5,
    }
    layout = {
        "xaxis": {"tickformat": ".0%", "title": "recall"},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        "showlegend": False,
        "margin": {"t": 8},
    }
    note = "With its interval; the class of lowest recall on top."
    return Chart("recalls", "Recall per class", note, [trace], layout, 110 + 26 * len(rows))


def _recall_counts(values: list[float]) -> Chart:
    """How many classes have a recall in each of RECALL_BINS ranges."""
    counts = Counter(min(int(value * RECALL_BINS + 1e-9), RECALL_BINS - 1) for value in values)
    ends = [(k / RECALL_BINS, (k + 1) / RECALL_BINS) for k in range(RECALL_BINS)]
    bars = {
        "type": "bar",
        "x": [rounded((low + high) / 2) for low, high in ends],
        "y": [counts[k] for k in range(RECALL_BINS)],
        "width": 0.9 / RECALL_BINS,
        "marker": {"color": COMPLETE},
        "text": [
            f"recall {low:.0%} to {high:.0%}: {counted(counts[k], 'class')}" for k, (low, high) in enumerate(ends)
        ],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }
    layout = {"xaxis": {"tickformat": ".0%", "title": "recall", "range": [0, 1]}, "yaxis": {"title": "classes"}}
    note = f"Each of {len(values):,} classes counts once; the table below has the weakest, per_class.csv all."
    return Chart("recalls", "Recall of the classes", note, [bars], layout | {"showlegend": False}, 300)


def retraining(history: Table, splits: Sequence[str] = ("train", "val")) -> Chart:
    """Loss and learning rate by epoch; `splits`: what was trained on."""
    epochs = [int(row["epoch"]) for row in history]
    loss = [_number(row, "train_loss") for row in history]
    rate = [_number(row, "learning_rate") for row in history]
    data = [
        lines(epochs, loss, "training loss", INK, 2.5, hovertemplate="epoch %{x}: loss %{y:.4f}<extra></extra>"),
        lines(
            epochs, rate, "learning rate", FAILED, 1.5, yaxis="y2", hovertemplate="epoch %{x}: %{y:.3g}<extra></extra>"
        ),
    ]
    second = {"overlaying": "y", "side": "right", "showgrid": False, "title": "learning rate", "rangemode": "tozero"}
    layout = {
        "xaxis": {"title": "epoch"},
        "yaxis": {"title": "training loss", "rangemode": "tozero"},
        "yaxis2": second,
        "margin": {"r": 64},
    }
    both = "the training and validation images together"
    note = f"Trained on {both if 'val' in splits else 'the training images alone'}."
    return Chart("retraining", "Loss and learning rate", note, data, layout, 300)


def _number(row: dict[str, str], name: str) -> float | None:
    """A figure of the history; an own training loop need not have it."""
    return rounded(float(row[name])) if row.get(name) else None
