"""Charts of the search: what was found when, how trials went on, what mattered, and who worked when."""

from dataclasses import replace
from itertools import accumulate

from podium.report.chart import BEST, COMPLETE, Chart, lines, plain, points, rounded
from podium.report.frame import COLORS, NAMES, focused, metric, outside
from podium.report.interactions import Interactions
from podium.report.timing import Timing
from podium.report.trials import Search, Trial

FAINT = 0.05
"""A share below which two dimensions' colour stays pale."""
APART = 200
"""Up to so many trials a line keeps one bar from the next."""
SPECIAL_CURVES = 3
"""Best trials whose curves stand out."""


def history(search: Search) -> Chart:
    """Values by trial number, and the best so far."""
    data = []
    for state in ("PRUNED", "COMPLETE"):
        trials = [t for t in search.of(state) if t.last_value is not None]
        text = [f"trial {t.number}: {t.last_value:.4f} after {t.epochs} epochs, {NAMES[state]}" for t in trials]
        values = [rounded(t.last_value) for t in trials]
        data.append(points([t.number for t in trials], values, NAMES[state], COLORS[state], text, opacity=0.75))
    complete = [t for t in search.of("COMPLETE") if t.value is not None]
    better = max if search.sign > 0 else min
    best = list(accumulate((t.value for t in complete if t.value is not None), better))
    step = {"line": {"shape": "hv", "color": BEST, "width": 2.5}, "hoverinfo": "skip"}
    data.append(lines([t.number for t in complete], [rounded(v) for v in best], "best so far", BEST) | step)
    layout = {"xaxis": {"title": "trial"}, "yaxis": {"title": metric(search)}}
    note = "A pruned trial stands at the value it was stopped with: it counts nowhere else."
    chart = focused(search, Chart("history", "What was found when", note, data, layout))
    hidden = outside(chart, [t.last_value for t in search.of("PRUNED", "COMPLETE") if t.last_value is not None])
    more = f" {hidden} worse ones lie outside of this frame: drag the axis to see them." if hidden else ""
    return replace(chart, note=note + more)


def curves(search: Search) -> Chart:
    """Every trial's validation metric by epoch; the best few stand out."""
    best = search.ranked()[:SPECIAL_CURVES]
    special = {t.number for t in best}
    data = []
    for state in ("PRUNED", "COMPLETE", "FAIL"):
        trials = [t for t in search.of(state) if t.curve and t.number not in special]
        if trials:
            x, y, numbers = _pen(trials)
            hover = {"text": numbers, "hovertemplate": "trial %{text}, epoch %{x}: %{y:.4f}<extra></extra>"}
            data.append(lines(x, y, NAMES[state], COLORS[state], 1.0, opacity=0.5, **hover))
    for rank, trial in enumerate(best):
        x, y = [e for e, _ in trial.curve], [rounded(v) for _, v in trial.curve]
        name = f"trial {trial.number}"
        hover = {"hovertemplate": f"{name}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"}
        data.append(lines(x, y, name, BEST, 3 - 0.7 * rank, **hover))
    layout = {"xaxis": {"title": "epoch"}, "yaxis": {"title": metric(search)}}
    note = "Where the pruned ones end is where the pruner had seen enough."
    return focused(search, Chart("curves", "Learning curves", note, data, layout))


def importance(search: Search) -> Chart:
    """How much of the objective's variance each dimension decides."""
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
    room = 1.2 * max((value for _, value in found), default=1.0)  # for the figures beside the bars
    layout = {
        "xaxis": {"tickformat": ".0%", "range": [0, room]},
        "yaxis": {"automargin": True},
        "showlegend": False,
        "margin": {"t": 8, "b": 32},
    }
    note = f"Share of the differences between {len(search.ranked())} completed trials (PED-ANOVA)."
    height = 90 + 30 * max(len(found), 3)
    return Chart("importance", "What mattered", note, [bar], layout, height, wide=False)


def interaction(found: Interactions) -> Chart:
    """Which dimensions decide together."""
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
        "Share of the differences that two dimensions decide only together. A forest learned this from"
        f" {found.trials} trials and explains {max(found.explained, 0):.0%} of those that it did not see"
        f"{': take it as a hint' if found.explained < 0.5 else ''}."
    )
    height = 150 + 40 * len(names)
    return Chart("interaction", "What mattered together", note, [heat], layout, height, wide=False)


def timeline(search: Search, timing: Timing) -> Chart:
    """Which trial ran when, on which worker."""
    lanes = timing.lanes()
    gap = 1 if len(lanes) <= APART else 0
    data = []
    for state, name in NAMES.items():
        trials = [t for t in search.of(state) if t.number in timing.spans]
        spans = [timing.spans[t.number] for t in trials]
        text = [
            f"trial {t.number}, {t.epochs} epochs, {s.end - s.start:.1f} s" for t, s in zip(trials, spans, strict=True)
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
    note = "Gaps are time in which a worker had nothing to train."
    return Chart("timeline", "Who worked when", note, data, layout, height)


def _pen(trials: list[Trial]) -> tuple[list[int | None], list[float | None], list[int | None]]:
    """The curves of `trials` as one line that is lifted between them: x, y and whose it is."""
    x: list[int | None] = []
    y: list[float | None] = []
    whose: list[int | None] = []
    for trial in trials:
        x += [*(epoch for epoch, _ in trial.curve), None]
        y += [*(rounded(value, 5) for _, value in trial.curve), None]
        whose += [*([trial.number] * len(trial.curve)), None]
    return x, y, whose
