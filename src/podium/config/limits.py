"""`search.limits`: what a configuration has to keep to be selected, however good it is otherwise."""

from collections.abc import Iterable, Mapping
from typing import Any

from podium import components, own_code
from podium.components import Choice
from podium.config.problems import did_you_mean
from podium.config.section import made_of
from podium.text import against, given

LATENCY = "latency_ms"
"""The only cost that is measured: beside other processes it comes out longer."""
OF_VALIDATION, DIGITS = "val_", "0123456789"
"""What results call a metric, and what an argument adds to its name (top_5)."""
COSTS = (LATENCY, "parameters", "size_mb")
"""What follows from the configuration alone, and is known before anything is trained; each has an upper limit."""


def checked(limits: dict[str, Any]) -> dict[str, Any]:
    """`limits`, where each is a cost above 0 or a metric within its range. ValueError names the others."""
    problems = []
    for name, limit in limits.items():
        if name in COSTS:
            problems += [] if limit > 0 else [f"{name} must be above 0; got {limit!r}"]
            continue
        if name in components.declared("metric") and not _needs_nothing(name):
            problems.append(
                f"{name} needs arguments, which a limit can't have: limit another metric, or name a function of your"
                " own that measures this (docs/extend.md)"
            )
            continue
        if _is_metric(name):
            metric = made_of("metric", Choice(name=name), {})
            low, high = metric.RANGE
            fraction = f", a fraction: {given(limit / 100)} is {limit:g}%" if high == 1 < limit <= 100 else ""
            rule = f"{name} must be {given(low)} to {given(high)}; got {limit!r}{fraction}"
            problems += [] if low <= limit <= high else [rule]
            continue
        if hint := _of_label(name):
            problems.append(f"{name} is no limit; {hint}")
            continue
        known = [*COSTS, *filter(_needs_nothing, components.declared("metric"))]
        usual = components.usual_name("metric", name)
        hint = f"did you mean {usual}?" if usual in known or _is_metric(usual) else did_you_mean(name.lower(), known)
        others = ", a class of torchmetrics.classification, or your own as module:object"
        problems.append(f"{name} is no limit; {hint}{others if hint.startswith('available') else ''}")
    if problems:
        raise ValueError("; ".join(problems))
    return limits


def _is_metric(name: str) -> bool:
    """Whether `name` is a metric of ours, a class of torchmetrics, or people's own."""
    return own_code.is_name(name) or name in components.declared("metric") or name in components.library_names("metric")


def _of_label(name: str) -> str:
    """How the metric that results call `name` is limited, such as val_top_5; empty: they call none so."""
    label = name.removeprefix(OF_VALIDATION)
    for one in filter(_needs_nothing, components.declared("metric")):
        usual = made_of("metric", Choice(name=one), {}).label
        if label == usual:
            return f"write {one}" if one == usual else f"write {one}, which is {usual} in limits"
        if label.rstrip(DIGITS) == usual.rstrip(DIGITS) != usual:
            return (
                f"{one} is {usual} there, for a limit can't have arguments: limit {one}, or name a function of your own"
                " that measures this (docs/extend.md)"
            )
    return ""


def _needs_nothing(name: str) -> bool:
    """Whether our metric `name` can be measured without arguments."""
    try:
        made_of("metric", Choice(name=name), {})
    except ValueError:
        return False
    return True


def of_costs(limits: Mapping[str, float]) -> dict[str, float]:
    """Those that are known before the training."""
    return {name: limit for name, limit in limits.items() if name in COSTS}


def metrics_of(limits: Iterable[str]) -> list[Choice]:
    """The metrics that have to be measured for the others."""
    return [Choice(name=name) for name in limits if name not in COSTS]


def excess(limits: Mapping[str, float], figures: Mapping[str, float]) -> dict[str, float]:
    """By how much each of the `figures` that are known breaks its limit, relative to that; at most 0 where it is kept.

    `figures`: costs by their names, metrics as an epoch has them, val_<metric>.
    """
    found = {}
    for name, limit in limits.items():
        sign, key = figure_of(name)
        if key in figures:
            found[name] = sign * (figures[key] - limit) / (abs(limit) or 1.0)
    return found


def figure_of(name: str) -> tuple[int, str]:
    """What the limit `name` looks at: 1 where less is better and -1 where more is, and its name among the figures."""
    if name in COSTS:
        return 1, name
    metric = made_of("metric", Choice(name=name), {})
    return -metric.sign, f"val_{metric.label}"


def described(limits: Mapping[str, float], figures: Mapping[str, float]) -> str:
    """The limits that `figures` break, such as `latency_ms 7.2000 (at most 5)`; empty: none."""
    parts = []
    for name, beyond in excess(limits, figures).items():
        if beyond > 0:
            is_cost = name in COSTS
            metric = None if is_cost else made_of("metric", Choice(name=name), {})
            value = figures[name if metric is None else f"val_{metric.label}"]
            word = "at least" if metric is not None and metric.sign > 0 else "at most"
            parts.append(f"{name} {against(value, limits[name])} ({word} {given(limits[name])})")
    return ", ".join(parts)
