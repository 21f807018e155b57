"""Charts of the search: its trials over time, what mattered, and where in the space the good ones are."""

from dataclasses import replace
from itertools import accumulate

from podium.report.chart import (
    BEST,
    COLORS,
    COMPLETE,
    MUTED,
    NAMES,
    Chart,
    Scale,
    lines,
    outside,
    plain,
    points,
    rounded,
    setting,
    value_of,
    value_title,
    zoomed,
)
from podium.report.cost import MEASURED, NetworkCost
from podium.report.interactions import Interactions
from podium.report.trials import Search, Timing, Trial
from podium.text import capitalized, counted

FAINT = 0.05
"""The colour scale of interactions ends here at least, so that weak ones stay pale."""
APART = 200
"""Up to this many trials a line separates one bar from the next."""
SPECIAL_CURVES = 3
"""Number of best trials owner curves are highlighted."""
BANDS = (
    ("best tenth", 0.1, BEST, 2.2, 1.0),
    ("better half", 0.5, COMPLETE, 1.2, 0.65),
    ("others", 1.0, MUTED, 0.8, 0.4),
)
"""Completed trials by rank: name, up to which fraction, colour, width, opacity."""


def history(search: Search) -> Chart:
    """Values by trial number, and the best so far."""
    data = []
    for state in ("PRUNED", "COMPLETE"):
        trials = [t for t in search.of(state) if t.last_value is not None]
        name = NAMES[state]
        text = [f"trial {t.number}: {t.last_value:.4f} after {counted(t.epochs, 'epoch')}, {name}" for t in trials]
        values = [rounded(t.last_value) for t in trials]
        data.append(points([t.number for t in trials], values, NAMES[state], COLORS[state], text, opacity=0.75))
    complete = [t for t in search.of("COMPLETE") if t.value is not None]
    better = max if search.metric.sign > 0 else min
    best = list(accumulate((t.value for t in complete if t.value is not None), better))
    step = {"line": {"shape": "hv", "color": BEST, "width": 2.5}, "hoverinfo": "skip"}
    data.append(lines([t.number for t in complete], [rounded(v) for v in best], "best so far", BEST) | step)
    layout = {"xaxis": {"title": "trial"}, "yaxis": {"title": value_title(search)}}
    note = "A pruned trial is shown at its last value; only completed trials count for the best."
    chart = zoomed(search, Chart("history", "Optimization history", note, data, layout))
    hidden = outside(chart, [t.last_value for t in search.of("PRUNED", "COMPLETE") if t.last_value is not None])
    more = f" {counted(hidden, 'trial')} outside this range: drag the axis to see more." if hidden else ""
    return replace(chart, note=note + more)


def curves(search: Search) -> Chart:
    """Every trial's validation metric by epoch; the best few are highlighted."""
    best = search.ranked()[:SPECIAL_CURVES]
    special = {t.number for t in best}
    data = []
    for state in ("PRUNED", "COMPLETE", "FAIL"):
        trials = [t for t in search.of(state) if t.curve and t.number not in special]
        if trials:
            x, y, numbers = _joined(trials)
            hover = {"text": numbers, "hovertemplate": "trial %{text}, epoch %{x}: %{y:.4f}<extra></extra>"}
            data.append(lines(x, y, NAMES[state], COLORS[state], 1.0, opacity=0.5, **hover))
    for rank, trial in enumerate(best):
        x, y = [e for e, _ in trial.curve], [rounded(v) for _, v in trial.curve]
        name = f"trial {trial.number}"
        hover = {"hovertemplate": f"{name}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"}
        data.append(lines(x, y, name, BEST, 3 - 0.7 * rank, **hover))
    layout = {"xaxis": {"title": "epoch"}, "yaxis": {"title": value_title(search)}}
    note = "The curve of a pruned trial ends where the pruner stopped it."
    if search.decisions:
        note = "The curve of a pruned trial ends where it rested when the search ended."
    peaks = [value for trial in search.trials for _, value in trial.curve]
    return zoomed(search, Chart("curves", "Learning curves", note, data, layout), peaks)


def importance(search: Search, *, wide: bool) -> Chart:
    """How much of the objective's variance each dimension explains; `wide` if no other chart stands next to it."""
    found = sorted(search.importances.items(), key=lambda item: item[1])
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [plain(name.split(".", 1)[1]) for name, _ in found],
        "x": [value for _, value in found],
        "text": [f"{value:.1%}" for _, value in found],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "marker": {"color": COMPLETE},
    }
    room = 1.2 * max((value for _, value in found), default=1.0)  # for the figures next to the bars
    layout = {
        "xaxis": {"tickformat": ".0%", "range": [0, room]},
        "yaxis": {"automargin": True},
        "showlegend": False,
        "margin": {"t": 8, "b": 32},
    }
    trials = counted(len(search.ranked()), "completed trial")
    note = f"Fraction of the variance between {trials} (PED-ANOVA)."
    if search.others:
        note = f"How much it decides which of {trials} come near the Pareto front (PED-ANOVA)."
    height = 90 + 30 * max(len(found), 3)
    return Chart("importance", "Hyperparameter importance", note, [bar], layout, height, wide=wide)


def interaction(found: Interactions) -> Chart:
    """How strongly each two dimensions interact."""
    names = [plain(name.split(".", 1)[1]) for name in found.names]
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": [[None if a == b else share for b, share in enumerate(row)] for a, row in enumerate(found.shares)],
        "zmin": 0,
        "zmax": max(found.strongest, FAINT),
        "colorscale": "@sequential",
        "showscale": False,
        "text": [[f"{share:.1%}" if share >= 0.0005 else "" for share in row] for row in found.shares],
        "texttemplate": "%{text}",
        "hovertemplate": "%{y} and %{x}: %{z:.1%}<extra></extra>",
        "xgap": 2,
        "ygap": 2,
    }
    grid = {"automargin": True, "showgrid": False}
    layout = {
        "yaxis": grid | {"autorange": "reversed"},
        "xaxis": grid | {"tickangle": -35},
        "margin": {"t": 8, "b": 20},
    }
    note = (
        "Fraction of the variance that two dimensions explain only together. A random forest estimated it from"
        f" {counted(found.trials, 'trial')}; R² on trials that it did not see: {found.explained:.2f}"
        f"{', so take it as a hint' if found.explained < 0.5 else ''}."
    )
    height = 150 + 40 * len(names)
    return Chart("interaction", "Interactions", note, [heat], layout, height, wide=False)


def timeline(search: Search, timing: Timing) -> Chart:
    """When each trial ran, on which worker."""
    lanes = timing.lanes()
    gap = 1 if len(lanes) <= APART else 0
    data = []
    for state, name in NAMES.items():
        trials = [t for t in search.of(state) if t.number in timing.spans]
        spans = [timing.spans[t.number] for t in trials]
        text = [
            f"trial {t.number}, {counted(t.epochs, 'epoch')}, {s.end - s.start:.1f} s"
            for t, s in zip(trials, spans, strict=True)
        ]
        bar = {
            "type": "bar",
            "orientation": "h",
            "y": [f"worker {lanes[t.number] + 1}" for t in trials],
            "base": [round(s.start, 2) for s in spans],
            "x": [round(s.end - s.start, 2) for s in spans],
            "name": name,
            "text": text,
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": COLORS[state], "line": {"width": gap, "color": "@paper"}},
        }
        if trials:
            data.append(bar)
    layout = {
        "barmode": "overlay",
        "bargap": 0.3,
        "xaxis": {"title": "seconds since the first trial"},
        "yaxis": {"automargin": True, "autorange": "reversed"},
    }
    height = 140 + 34 * min(len(set(lanes.values())), 24)
    note = "Gaps are idle time of a worker."
    return Chart("timeline", "Timeline", note, data, layout, height)


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
            y += [*(rounded(s.position(trial.params[s.name]), 4) for _, s in at), None]
            text += [*(f"trial {trial.number}: {value_of(trial)}<br>{setting(trial, s)}" for _, s in at), ""]
        hover = {"text": text, "hovertemplate": "%{text}<extra></extra>", "opacity": opacity}
        data.append(lines(x, y, name, color, width, **hover))
    ticks = [_axis_label(k, position, text) for k, s in enumerate(scales) for position, text in s.ticks()]
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
    return Chart("parallel", "Settings of the best trials", note, data, layout, 420, scroll=scroll)


def slices(search: Search) -> list[Chart]:
    """The value over each dimension by itself."""
    return [_slice(search, scale) for scale in _by_importance(search)]


def cost_charts(search: Search, costs: list[NetworkCost]) -> list[Chart]:
    """The value against size and against latency, if the space has more than one network."""
    if len({cost.parameters for cost in costs}) < 2:
        return []
    by_network = {_key(cost.network): cost for cost in costs}
    pairs = [(t, cost) for t in search.ranked() if (cost := by_network.get(_key(search.network(t))))]
    size = [(t, float(cost.parameters)) for t, cost in pairs]
    latency = [(t, cost.milliseconds) for t, cost in pairs]
    name, per_image = capitalized(search.metric.name), "ms per image (one CPU thread of this machine)"
    shown = {aim.name for aim in search.others}  # each has a chart of its own
    size_chart = _tradeoff(search, "size", f"{name} against size", "parameters", size)
    latency_chart = _tradeoff(search, "latency", f"{name} against latency", per_image, latency)
    return [
        *([] if shown & {"parameters", "size_mb"} else [size_chart]),
        *([] if "latency_ms" in shown else [latency_chart]),
    ]


def _joined(trials: list[Trial]) -> tuple[list[int | None], list[float | None], list[int | None]]:
    """The curves of `trials` as one interrupted line: x, y and the trial of each point."""
    x: list[int | None] = []
    y: list[float | None] = []
    owner: list[int | None] = []
    for trial in trials:
        x += [*(epoch for epoch, _ in trial.curve), None]
        y += [*(rounded(value, 5) for _, value in trial.curve), None]
        owner += [*([trial.number] * len(trial.curve)), None]
    return x, y, owner


def _tradeoff(search: Search, key: str, title: str, axis: str, pairs: list[tuple[Trial, float]]) -> Chart:
    front, best = [], float("-inf")
    for trial, cost in sorted(pairs, key=lambda pair: (pair[1], -search.metric.sign * (pair[0].value or 0))):
        if search.metric.sign * (trial.value or 0) > best:
            best = search.metric.sign * (trial.value or 0)
            front.append((trial, cost))
    text = [f"trial {t.number}: {value_of(t)}, {cost:,.4g} {axis.split()[0]}" for t, cost in pairs]
    values = [rounded(t.value) for t, _ in pairs]
    x, y = [rounded(cost, 4) for _, cost in front], [rounded(t.value) for t, _ in front]
    data = [
        points([rounded(cost, 4) for _, cost in pairs], values, "complete", COMPLETE, text, opacity=0.75),
        lines(x, y, "Pareto front", BEST, 2, hoverinfo="skip"),
    ]
    layout = {"xaxis": {"title": axis, "type": "log"}, "yaxis": {"title": value_title(search)}}
    note = f"The trials of the best {MEASURED} networks at most. No trial is both cheaper and better than the line."
    return zoomed(search, Chart(key, title, note, data, layout, wide=False))


def _slice(search: Search, scale: Scale) -> Chart:
    trials = [t for t in search.ranked() if scale.name in t.params]
    count = max(len(trials), 1)
    jitter = [((t.number * 37) % 101 / 101 - 0.5) * 0.5 / len(scale.choices) if scale.choices else 0.0 for t in trials]
    x = [rounded(scale.position(t.params[scale.name]) + j, 4) for t, j in zip(trials, jitter, strict=True)]
    text = [f"trial {t.number}: {value_of(t)}<br>{setting(t, scale)}" for t in trials]
    data = [points(x, [rounded(t.value) for t in trials], "complete", COMPLETE, text, size=6, opacity=0.6)]
    top = trials[: max(1, count // 10)]
    y = [rounded(t.value) for t in top]
    data.append(points(x[: len(top)], y, "best tenth", BEST, text[: len(top)], size=8))
    ticks = scale.ticks()
    axis = {"tickvals": [position for position, _ in ticks], "ticktext": [plain(label) for _, label in ticks]}
    layout = {
        "xaxis": axis | {"range": [-0.05, 1.05], "zeroline": False},
        "showlegend": False,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 34},
    }
    share = search.importances.get(scale.name)
    title = scale.short + (f" \N{MIDDLE DOT} {share:.0%}" if share is not None else "")
    return zoomed(search, Chart(f"slice-{scale.name}", title, "", data, layout, 210, wide=False))


def _by_importance(search: Search) -> list[Scale]:
    names = sorted(search.space, key=lambda name: -search.importances.get(name, 0.0))
    return [Scale.of(name, search.space[name]) for name in names]


def _axis_label(column: int, position: float, text: str) -> dict[str, object]:
    style = {"size": 10, "color": MUTED}
    where = {"x": column, "y": position, "xanchor": "left", "xshift": 4, "showarrow": False}
    return where | {"text": plain(text), "font": style, "bgcolor": "@veil", "borderpad": 1}


def _key(network: dict[str, object]) -> str:
    return repr(sorted(network.items()))
