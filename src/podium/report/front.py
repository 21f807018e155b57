"""A search for several metrics on the page: the Pareto front, who was chosen of it, and what was given up."""

from typing import Any

from podium.metrics.scores import Objective
from podium.report.chart import BEST, COMPLETE, FAILED, INK, Chart, lines, points, rounded
from podium.report.trials import Search, Trial
from podium.text import capitalized, counted, number

COSTS = {"latency_ms": "latency_ms (one image, one CPU thread)", "parameters": "parameters", "size_mb": "size_mb"}
"""Titles of the axes of what is no metric of the validation images."""
WIDE_RANGE = 8
"""An axis whose largest value is so many times its smallest one is logarithmic."""
PAD = 0.15
"""Of the front's range, beyond its ends."""


def charts(search: Search, chosen: int | None) -> list[Chart]:
    """The first metric against each other one; trial `chosen` is marked. None where the search is for one metric."""
    first, *others = search.aims
    return [_against(search, first, place, other, chosen) for place, other in enumerate(others, 1)]


def rows(search: Search) -> list[list[str]]:
    """The table of the front: trial, metrics, searched fields; the best by the first metric first."""
    names = sorted(search.space, key=lambda name: -search.importances.get(name, 0.0))
    return [
        [str(t.number), *map(number, t.values), *(_shown(t.params.get(name)) for name in names)]
        for t in front_of(search)
    ]


def head(search: Search) -> list[str]:
    """The head of that table."""
    names = sorted(search.space, key=lambda name: -search.importances.get(name, 0.0))
    return ["trial", *(aim.name for aim in search.aims), *(name.split(".", 1)[1] for name in names)]


def front_of(search: Search) -> list[Trial]:
    """The trials on the Pareto front, the best by the first metric first."""
    return [trial for trial in search.ranked() if trial.front]


def choice(chosen: dict[str, Any]) -> tuple[str, list[str]]:
    """Which trial was chosen of the front and why: the answer, and what else a person should know."""
    rule = chosen["rule"] if isinstance(chosen["rule"], str) else "weights"
    count = len(chosen["candidates"])
    told = [f"{name} {number(chosen['means'][name])}" for name in chosen["aims"]]
    text = [f"On {counted(len(chosen['values']), 'fresh seed')}: {', '.join(told)}."]
    if chosen.get("folds"):
        text = [f"Over {chosen['folds']} folds: {', '.join(told)}."]
    for lost in chosen["given_up"]:
        others = ", ".join(f"{name} {number(lost['means'][name])}" for name in chosen["aims"] if name in lost["means"])
        how = "" if lost["confirmed"] else ", in the search, not confirmed"
        text.append(f"Given up: {lost['metric']} {number(lost['by'])} (trial {lost['trial']}: {others}{how}).")
    if count < chosen["front"]:
        text.append(f"{count} of {chosen['front']} on the Pareto front were confirmed (select.top_k).")
    text.append(f"Retraining, evaluation and the promotion gate use {chosen['metric']}.")
    return f"Trial {chosen['trial']}: by select.rule {rule} on the Pareto front", text


def _against(search: Search, first: Objective, place: int, other: Objective, chosen: int | None) -> Chart:
    complete = [t for t in search.of("COMPLETE") if len(t.values) == len(search.aims)]
    best = sorted((t for t in complete if t.front), key=lambda t: t.values[place])
    groups: list[tuple[str, str, list[Trial], dict[str, Any]]] = [
        ("over search.limits", FAILED, [t for t in complete if t.over_limits], {"opacity": 0.6, "symbol": "x"}),
        ("complete", COMPLETE, [t for t in complete if not t.front and not t.over_limits], {"opacity": 0.6}),
        ("Pareto front", BEST, best, {"size": 10}),
        ("chosen", INK, [t for t in complete if t.number == chosen], {"size": 16, "symbol": "circle-open"}),
    ]
    data: list[dict[str, Any]] = []
    if len(search.aims) == 2 and best:  # of three the front is a surface, which no line of this picture shows
        x, y = [rounded(t.values[place]) for t in best], [rounded(t.values[0]) for t in best]
        # Between two points the best that is to be had: with a cost, what the cheaper one reaches.
        shape = {"color": BEST, "width": 1.5, "shape": "hv" if other.sign < 0 else "vh"}
        data.append(lines(x, y, "", BEST, hoverinfo="skip", showlegend=False) | {"line": shape})
    for name, color, trials, marker in groups:
        if trials:
            x, y = [rounded(t.values[place]) for t in trials], [rounded(t.values[0]) for t in trials]
            text = [f"trial {t.number}: {_values(search, t)}<br>click: its configuration" for t in trials]
            dots = points(x, y, name, color, text, **marker)
            data.append(dots | {"customdata": [t.number for t in trials]})
    layout = {"xaxis": _axis(other, [t.values[place] for t in complete]), "yaxis": _range(first, best)}
    note = "No trial is at least as good as one on the front in every metric and better in one. Click a point."
    title = f"{capitalized(first.name)} against {other.name}"
    details = {str(t.number): _details(search, t) for t in complete}
    return Chart(f"front-{other.name}", title, note, data, layout, 400, details=details)


def _axis(other: Objective, values: list[float]) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": COSTS.get(other.name, f"validation {other.name}")}
    is_wide = bool(values) and min(values) > 0 and max(values) >= WIDE_RANGE * min(values)
    return axis | ({"type": "log"} if is_wide else {})


def _range(first: Objective, best: list[Trial]) -> dict[str, Any]:
    """The axis of the first metric as far as the front goes: the worst trials would compress it."""
    axis: dict[str, Any] = {"title": f"validation {first.name}"}
    if not best:
        return axis
    low, high = min(t.values[0] for t in best), max(t.values[0] for t in best)
    pad = PAD * (high - low) or 0.01
    return axis | {"range": [low - pad, high + pad]}


def _values(search: Search, trial: Trial) -> str:
    return ", ".join(f"{aim.name} {number(v)}" for aim, v in zip(search.aims, trial.values, strict=True))


def _details(search: Search, trial: Trial) -> list[list[str]]:
    """A trial's values and configuration, as rows of name and value."""
    found = [
        ["trial", str(trial.number)],
        *([aim.name, number(v)] for aim, v in zip(search.aims, trial.values, strict=True)),
    ]
    if trial.over_limits:
        found.append(["over search.limits", trial.over_limits])
    return found + [[name, _shown(value)] for name, value in sorted(trial.params.items())]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
