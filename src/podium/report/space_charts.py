"""Charts of the space: where in it the good trials lie, and what good ones cost to use."""

from podium.report.chart import BEST, COMPLETE, MUTED, Chart, lines, plain, points, rounded
from podium.report.cost import Cost
from podium.report.frame import focused, metric, setting, value_of
from podium.report.scale import Scale
from podium.report.trials import Search, Trial

BANDS = (
    ("best tenth", 0.1, BEST, 2.2, 1.0),
    ("better half", 0.5, COMPLETE, 1.2, 0.65),
    ("others", 1.0, MUTED, 0.8, 0.4),
)
"""Completed trials by rank: name, up to which share, colour, width, opacity."""


def parallel(search: Search) -> Chart:
    """Completed trials as lines through their dimensions."""
    scales = _by_importance(search)
    ranked = search.ranked()
    data, first = [], 0
    groups = []
    for name, share, color, width, opacity in BANDS:
        last = max(round(share * len(ranked)), first + (first == 0))
        groups.append((name, ranked[first:last], color, width, opacity))
        first = last
    for name, trials, color, width, opacity in reversed(groups):
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for trial in trials:
            at = [(k, s) for k, s in enumerate(scales) if s.name in trial.params]
            x += [*(k for k, _ in at), None]
            y += [*(rounded(s.place(trial.params[s.name]), 4) for _, s in at), None]
            text += [*(f"trial {trial.number}: {value_of(trial)}<br>{setting(trial, s)}" for _, s in at), ""]
        hover = {"text": text, "hovertemplate": "%{text}<extra></extra>", "opacity": opacity}
        data.append(lines(x, y, name, color, width, **hover))
    ticks = [_axis_label(k, place, text) for k, s in enumerate(scales) for place, text in s.ticks()]
    axis = {"tickvals": list(range(len(scales))), "ticktext": [plain(s.short) for s in scales], "showgrid": True}
    layout = {
        "xaxis": axis | {"range": [-0.3, len(scales) - 0.4], "zeroline": False, "side": "top"},
        "yaxis": {"visible": False, "range": [-0.06, 1.06]},
        "annotations": ticks,
        "legend": {"y": -0.02, "yanchor": "top"},
        "margin": {"t": 56, "b": 40, "l": 8, "r": 8},
    }
    note = "Each line is a completed trial, the most important dimension first. Click a group in the legend to hide it."
    scroll = 110 * len(scales)
    return Chart("parallel", "Where the good ones lie", note, data, layout, 420, scroll=scroll)


def slices(search: Search) -> list[Chart]:
    """The value over each dimension by itself."""
    return [_slice(search, scale) for scale in _by_importance(search)]


def cost_charts(search: Search, costs: list[Cost]) -> list[Chart]:
    """Accuracy against size and against latency, where the space has more than one network."""
    if len({cost.parameters for cost in costs}) < 2:
        return []
    by_network = {_key(cost.network): cost for cost in costs}
    pairs = [(t, cost) for t in search.ranked() if (cost := by_network.get(_key(search.network(t))))]
    size = [(t, float(cost.parameters)) for t, cost in pairs]
    latency = [(t, cost.milliseconds) for t, cost in pairs]
    return [
        _tradeoff(search, "size", "Value against size", "parameters", size),
        _tradeoff(search, "latency", "Value against latency", "ms an image on one CPU thread, here and now", latency),
    ]


def _tradeoff(search: Search, key: str, title: str, axis: str, pairs: list[tuple[Trial, float]]) -> Chart:
    front, best = [], float("-inf")
    for trial, cost in sorted(pairs, key=lambda pair: (pair[1], -search.sign * (pair[0].value or 0))):
        if search.sign * (trial.value or 0) > best:
            best = search.sign * (trial.value or 0)
            front.append((trial, cost))
    text = [f"trial {t.number}: {value_of(t)}, {cost:,.4g} {axis.split()[0]}" for t, cost in pairs]
    values = [rounded(t.value) for t, _ in pairs]
    x, y = [rounded(cost, 4) for _, cost in front], [rounded(t.value) for t, _ in front]
    data = [
        points([rounded(cost, 4) for _, cost in pairs], values, "complete", COMPLETE, text, opacity=0.75),
        lines(x, y, "best for the cost", BEST, 2, hoverinfo="skip"),
    ]
    layout = {"xaxis": {"title": axis, "type": "log"}, "yaxis": {"title": metric(search)}}
    note = "The trials of the best two dozen networks. Left of the line nothing is as good."
    return focused(search, Chart(key, title, note, data, layout, wide=False))


def _slice(search: Search, scale: Scale) -> Chart:
    trials = [t for t in search.ranked() if scale.name in t.params]
    count = max(len(trials), 1)
    jitter = [((t.number * 37) % 101 / 101 - 0.5) * 0.5 / len(scale.choices) if scale.choices else 0.0 for t in trials]
    x = [rounded(scale.place(t.params[scale.name]) + j, 4) for t, j in zip(trials, jitter, strict=True)]
    text = [f"trial {t.number}: {value_of(t)}<br>{setting(t, scale)}" for t in trials]
    data = [points(x, [rounded(t.value) for t in trials], "complete", COMPLETE, text, size=6, opacity=0.6)]
    top = trials[: max(1, count // 10)]
    y = [rounded(t.value) for t in top]
    data.append(points(x[: len(top)], y, "best tenth", BEST, text[: len(top)], size=8))
    ticks = scale.ticks()
    axis = {"tickvals": [place for place, _ in ticks], "ticktext": [plain(label) for _, label in ticks]}
    layout = {
        "xaxis": axis | {"range": [-0.05, 1.05], "zeroline": False},
        "showlegend": False,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 34},
    }
    share = search.importances.get(scale.name)
    title = scale.short + (f" \N{MIDDLE DOT} {share:.0%}" if share is not None else "")
    return focused(search, Chart(f"slice-{scale.name}", title, "", data, layout, 210, wide=False))


def _by_importance(search: Search) -> list[Scale]:
    names = sorted(search.space, key=lambda name: -search.importances.get(name, 0.0))
    return [Scale.of(name, search.space[name]) for name in names]


def _axis_label(column: int, place: float, text: str) -> dict[str, object]:
    style = {"size": 10, "color": MUTED}
    where = {"x": column, "y": place, "xanchor": "left", "xshift": 4, "showarrow": False}
    return where | {"text": plain(text), "font": style, "bgcolor": "@veil", "borderpad": 1}


def _key(network: dict[str, object]) -> str:
    return repr(sorted(network.items()))
