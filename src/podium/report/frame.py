"""What charts of trials share: names and colours of their states, and a frame around the values that matter."""

from dataclasses import replace
from typing import Any

from podium.report.chart import COMPLETE, FAILED, PRUNED, Chart, plain
from podium.report.scale import Scale
from podium.report.trials import Search, Trial

COLORS = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
NAMES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
ENOUGH = 5
"""Completed trials from which on the frame is drawn around them."""


def focused(search: Search, chart: Chart) -> Chart:
    """`chart` with its y axis on the better completed trials; those that learned nothing would flatten the others."""
    values = sorted(search.sign * t.value for t in search.of("COMPLETE") if t.value is not None)
    if len(values) < ENOUGH:
        return chart
    high, middle = values[-1], values[len(values) // 2]
    low = max(values[0], high - 4 * (high - middle))
    pad = 0.08 * (high - low) or 0.01
    span = sorted((search.sign * (low - pad), search.sign * (high + pad)))
    return replace(chart, layout=chart.layout | {"yaxis": chart.layout.get("yaxis", {}) | {"range": span}})


def outside(chart: Chart, values: list[float]) -> int:
    """How many of `values` the frame of `chart` leaves out."""
    low, high = chart.layout.get("yaxis", {}).get("range", (float("-inf"), float("inf")))
    return sum(not low <= value <= high for value in values)


def metric(search: Search) -> str:
    """The title of the axis of values."""
    return f"validation {search.metric}"


def value_of(trial: Trial) -> str:
    """A trial's value in a hover text."""
    return f"{trial.value:.4f}" if trial.value is not None else NAMES[trial.state]


def setting(trial: Trial, scale: Scale) -> str:
    """A trial's place on a dimension in a hover text."""
    value: Any = trial.params[scale.name]
    return f"{plain(scale.name)} {f'{value:.4g}' if isinstance(value, float) else plain(value)}"
