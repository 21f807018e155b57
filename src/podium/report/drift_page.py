"""The page of `podium drift`: what changed against the training set, when, and how far; made as the report is."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.drift.image_features import Feature
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import CLASSES, Change, Verdict
from podium.drift.windows import Windows
from podium.report.chart import COMPLETE, FAILED, MUTED, Chart, plain, rounded
from podium.report.render import Page, render
from podium.report.sections import ROWS, Section, Table, cut
from podium.report.summary import Advice, Card, Summary
from podium.text import capitalized, counted

NAME = "index.html"
BINS = 30
NAMED = 4
"""Changes that a row of the table of windows names."""
TOP_CLASSES = 25
"""Classes of the chart, those whose share changed most."""


def build(title: str, windows: Windows, verdicts: Sequence[Verdict], path: Path) -> Path:
    """Write the page of all kept windows, with the newest one in detail, to `path`; returns it.

    Raises InputError for a damaged window, OSError where the page can't be written.
    """
    text = render(page_of(title, windows, verdicts))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def page_of(title: str, windows: Windows, verdicts: Sequence[Verdict]) -> Page:
    """The content of the page."""
    newest = verdicts[-1] if verdicts else None
    waiting = windows.opened().count
    until = f" of {windows.rules.images:,}" if windows.rules.images else ""
    reference = windows.reference
    subtitle = [
        f"{counted(len(verdicts), 'complete window')}, {counted(waiting, 'image')}{until} in the open one",
        f"compared with {counted(len(reference.inputs), 'training image')} and"
        f" {counted(len(reference.answers), 'held-out prediction')}",
    ]
    found = [_windows_section(verdicts)]
    if newest is not None:
        found.insert(0, _newest_section(windows, newest, windows.sketch(newest.window)))
    facts = {"drifted": newest.drifted if newest else None, "window": newest.window if newest else None}
    return Page(title, subtitle, _summary(newest, waiting), _advice(newest), found, facts, kind="drift")


def _summary(newest: Verdict | None, waiting: int) -> Summary:
    if newest is None:
        return Summary(
            "No window", f"{counted(waiting, 'image')} so far: none is complete yet", None, None, None, None, []
        )
    headline = "Drift" if newest.drifted else "No drift"
    caption = f"window {newest.window}, {counted(newest.count, 'image')}, {_times(newest)}"
    cards = [
        Card(
            "What changed?",
            newest.words or "Nothing beyond the limits",
            [f"{counted(sum(one.drifted for one in newest.changes), 'feature')} of {len(newest.changes)} drifted"],
            alarm=newest.drifted,
        ),
        Card(
            "How is it decided?",
            f"Effect {newest.min_effect:g} or more, and p {newest.level:.2g} or less",
            [
                "p is corrected for the number of features (Holm), and its limit falls with each window, so that all"
                " windows of the version together have at most the chance drift.false_alarm"
            ],
        ),
    ]
    largest = newest.changes[0] if newest.changes else None
    if largest is not None:
        line = f"of {largest.feature}: {largest.words}" if largest.drifted else f"of {largest.feature}"
        cards.append(Card("How large is the largest change?", f"{largest.effect:.2f} on a scale of 0 to 1", [line]))
    return Summary(headline, caption, None, None, None, None, cards)


def _advice(newest: Verdict | None) -> list[Advice]:
    if newest is None or not newest.drifted:
        return []
    inputs = any(one.drifted and one.kind == "input" for one in newest.changes)
    return [
        Advice(
            "Look at images of this time",
            "a camera, a scanner, a light or a program that sends them may have changed"
            if inputs
            else "the images look alike, but the predictions differ: other subjects, or another mix of them",
        ),
        Advice(
            "Label some of them and compare with the predictions",
            "drift means that images are unlike the training set, not that predictions are wrong",
        ),
        Advice(
            "Add labelled ones to the training set and run dvc repro",
            "served images are then compared with the new version's training set",
        ),
    ]


def _newest_section(windows: Windows, verdict: Verdict, sketch: Sketch) -> Section:
    reference = windows.reference
    features = {feature.name: feature for feature in reference.features}
    small = [
        _histogram(features[one.feature], one, reference.column(one.feature), _known(sketch, one.feature))
        for one in verdict.changes
        if one.feature in features
    ]
    wide = [_class_shares(reference.classes, reference.class_counts, sketch.class_counts)]
    rows = [
        [
            *(one.feature, one.words if one.drifted else "", f"{one.effect:.3f}", f"{one.adjusted:.2g}"),
            *("" if value is None else f"{value:.4g}" for value in (one.before, one.now)),
        ]
        for one in verdict.changes
    ]
    table = Table(["feature", "drift", "effect", "p (Holm)", "training", "window"], rows, numbers=4)
    title = "Each feature: training set in grey, window in colour"
    return Section("window", f"Window {verdict.window}", wide, [("Tests", table)], small=small, small_title=title)


def _windows_section(verdicts: Sequence[Verdict]) -> Section:
    if not verdicts:
        return Section("windows", "Windows", [], [], missing="No window is complete yet: there is nothing to compare.")
    rows = [[str(one.window), _ended(one), f"{one.count:,}", _short(one)] for one in reversed(verdicts)]
    table = cut(Table(["window", "ended", "images", "drift"], rows), ROWS, "windows", end="last")
    return Section("windows", "Windows", [_effects(verdicts)], [("", table)])


def _short(verdict: Verdict) -> str:
    """The largest changes, without the names of classes: a row of many."""
    words = [one.partition(":")[0] for one in verdict.each]
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return (", ".join(words[:NAMED]) + more) or "no drift"


def _effects(verdicts: Sequence[Verdict]) -> Chart:
    """The effect of every feature in every window."""
    names = sorted(
        {change.feature for one in verdicts for change in one.changes},
        key=lambda name: max(change.effect for one in verdicts for change in one.changes if change.feature == name),
    )
    by_window = [{change.feature: change for change in one.changes} for one in verdicts]
    values = [[rounded(row[name].effect, 3) if name in row else None for row in by_window] for name in names]
    marks = [["\N{BULLET}" if name in row and row[name].drifted else "" for row in by_window] for name in names]
    hover = [[_hover(one, row.get(name)) for one, row in zip(verdicts, by_window, strict=True)] for name in names]
    trace = {
        "type": "heatmap",
        "x": [str(one.window) for one in verdicts],
        "y": names,
        "z": values,
        "zmin": 0,
        "zmax": 0.5,
        "colorscale": "@sequential",
        "text": marks,
        "texttemplate": "%{text}",
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "effect"}, "thickness": 10},
    }
    layout = {
        "xaxis": {"title": "window", "type": "category", "nticks": 20},
        "yaxis": {"automargin": True, "type": "category"},
        "margin": {"l": 90},
    }
    note = "The darker, the further from the training set; a dot marks drift."
    return Chart("effects", "Effect of each feature, window by window", note, [trace], layout, 120 + 22 * len(names))


def _hover(verdict: Verdict, change: Change | None) -> str:
    what = f"window {verdict.window}, {_times(verdict)}"
    if change is None:
        return f"{what}<br>not compared"
    return f"{what}<br>{plain(change.feature)}: effect {change.effect:.3f}, p {change.adjusted:.2g}"


def _histogram(feature: Feature, change: Change, before: NDArray[np.float32], now: NDArray[np.float32]) -> Chart:
    """Shares of both in common bins; the outermost thousandth at both ends is in the last bins."""
    both = np.concatenate([before, now])
    low, high = (float(end) for end in np.percentile(both, [0.1, 99.9]))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    middles = [rounded(float(x), 4) for x in (edges[:-1] + edges[1:]) / 2]
    data = [
        _bars(middles, np.histogram(np.clip(values, low, high), edges)[0] / len(values), name, color)
        for values, name, color in (
            (before, "training", MUTED),
            (now, "window", FAILED if change.drifted else COMPLETE),
        )
    ]
    words = f": {change.words}" if change.drifted else ""
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": feature.unit},
        "yaxis": {"tickformat": ".0%", "nticks": 4},
    }
    key = f"feature-{feature.name.replace(' ', '-')}"
    note = f"effect {change.effect:.2f}, p {change.adjusted:.2g}"
    return Chart(key, f"{capitalized(feature.name)}{words}", note, data, layout, 240, wide=False)


def _bars(x: list[Any], y: NDArray[np.float64], name: str, color: str) -> dict[str, Any]:
    shares = [rounded(float(one), 4) for one in y]
    hover = f"{name}: %{{y:.1%}}<extra></extra>"
    return {
        "type": "bar",
        "x": x,
        "y": shares,
        "name": name,
        "hovertemplate": hover,
        "opacity": 0.65,
        "marker": {"color": color, "line": {"width": 0}},
    }


def _class_shares(classes: tuple[str, ...], before: NDArray[np.int64], now: NDArray[np.int64]) -> Chart:
    """Shares of the answers by class: held-out images and the window."""
    shares = [counts / max(1, counts.sum()) for counts in (before, now)]
    most = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:TOP_CLASSES]
    shown = sorted(int(k) for k in most)
    names = [plain(classes[k]) for k in shown]
    data = [
        _bars(names, values[shown], name, color)
        for values, name, color in ((shares[0], "held-out", MUTED), (shares[1], "window", COMPLETE))
    ]
    more = f" The {TOP_CLASSES} that changed most, of {len(classes):,}." if len(classes) > TOP_CLASSES else ""
    note = f"Fraction of the images that were predicted to be of each class.{more}"
    layout = {"barmode": "group", "xaxis": {"type": "category"}, "yaxis": {"tickformat": ".0%"}}
    return Chart(CLASSES, "Classes", note, data, layout, 300)


def _known(sketch: Sketch, name: str) -> NDArray[np.float32]:
    values = sketch.rows[:, sketch.features.index(name)]
    return np.asarray(values[~np.isnan(values)])


def _ended(verdict: Verdict) -> str:
    """The time of its last image, which a narrow table does not break."""
    text = f"{datetime.fromtimestamp(verdict.ended):%Y-%m-%d %H:%M}"
    return text.replace("-", "\N{NON-BREAKING HYPHEN}").replace(" ", "\N{NO-BREAK SPACE}")


def _times(verdict: Verdict) -> str:
    began, ended = (datetime.fromtimestamp(at) for at in (verdict.began, verdict.ended))
    return (
        f"{began:%Y-%m-%d %H:%M} to {ended:%H:%M}"
        if began.date() == ended.date()
        else f"{began:%Y-%m-%d %H:%M} to {ended:%Y-%m-%d %H:%M}"
    )
