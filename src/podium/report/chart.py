"""A chart of the report: what plotly.js is given, and what charts of trials share. Style is page.css's and page.js's.

The figures are plain dictionaries made from data/, not optuna.visualization's: those need the study (a colleague's
checkout has none), draw a trace for each of a thousand trials, and bring colours of their own.
"""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from podium.report.trials import Search, Trial

COMPLETE, PRUNED, FAILED, BEST, INK, MUTED = "@complete", "@pruned", "@failed", "@best", "@ink", "@muted"
"""Colours by name; page.js has their values for light and dark."""
LONGEST = 24
"""Characters of a name on an axis."""
COLORS = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
NAMES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
ENOUGH = 5
"""From this many completed trials on, the axis is limited to the better ones."""


@dataclass(frozen=True)
class Chart:
    """One figure with its title and note."""

    key: str
    """Its id in the page."""
    title: str
    note: str
    """One sentence on how to read it."""
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340
    """Pixels."""
    wide: bool = True
    """Whether it needs the page's whole width."""
    scroll: int = 0
    """Minimum width in pixels: a phone scrolls it sideways."""
    details: dict[str, list[list[str]]] = field(default_factory=dict)
    """What a click on a point shows below the chart, by the point's customdata: rows of name and value."""

    def figure(self) -> dict[str, Any]:
        """What page.js draws."""
        details = {"details": self.details} if self.details else {}
        return {"data": self.data, "layout": self.layout | {"height": self.height}} | details


def plain(text: object) -> str:
    """`text` for plotly, which takes some HTML for formatting: shown literally, on one line, shortened."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= LONGEST else line[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}", quote=False)


def points(x: list[Any], y: list[Any], name: str, color: str, text: list[str], **marker: Any) -> dict[str, Any]:
    """A trace of dots whose hover text is `text`."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "name": name,
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": color, "size": 7} | marker,
    }


def lines(x: list[Any], y: list[Any], name: str, color: str, width: float = 2.0, **more: Any) -> dict[str, Any]:
    """A trace of lines; None in `y` interrupts the line."""
    style = {"color": color, "width": width}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style} | more


def rounded(value: float | None, digits: int = 6) -> float | None:
    """`value` with as many digits as a chart can show: the file is a third of the size."""
    return None if value is None else float(f"{value:.{digits}g}")


@dataclass(frozen=True)
class Scale:
    """The values of one dimension, mapped to 0 to 1."""

    name: str
    choices: tuple[str, ...]
    """Empty for a range."""
    low: float
    high: float
    log: bool

    @staticmethod
    def of(name: str, dimension: dict[str, Any]) -> "Scale":
        """The scale of a dimension as params.yaml has it."""
        if "choices" in dimension:
            return Scale(name, tuple(str(choice) for choice in dimension["choices"]), 0.0, 1.0, False)
        return Scale(name, (), float(dimension["low"]), float(dimension["high"]), bool(dimension.get("log")))

    @property
    def short(self) -> str:
        """The name without its section."""
        return self.name.split(".", 1)[1]

    def position(self, value: Any) -> float:
        """`value` between 0 and 1; a choice that the space no longer has is in the middle."""
        if self.choices:
            text = str(value)
            return (self.choices.index(text) + 0.5) / len(self.choices) if text in self.choices else 0.5
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of a few values."""
        if self.choices:
            return [(self.position(choice), choice) for choice in self.choices]
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            inner = [10.0**k for k in range(first, last + 1)]
            ends = [x for x in (self.low, self.high) if all(abs(math.log10(x / y)) > 0.15 for y in inner)]
            return [(self.position(x), f"{x:.3g}") for x in sorted(inner + ends)]
        return [(f, f"{self.low + f * (self.high - self.low):.3g}") for f in (0.0, 0.25, 0.5, 0.75, 1.0)]


def zoomed(search: Search, chart: Chart, shown: Iterable[float] = ()) -> Chart:
    """`chart` with its y axis limited to the better completed trials: the worst would compress the others.

    The best of the values `shown` is always within.
    """
    values = sorted(search.metric.sign * t.value for t in search.of("COMPLETE") if t.value is not None)
    if len(values) < ENOUGH:
        return chart
    high, middle = values[-1], values[len(values) // 2]
    low = max(values[0], high - 4 * (high - middle))
    high = max([high, *(search.metric.sign * value for value in shown)])
    pad = 0.08 * (high - low) or 0.01
    span = sorted((search.metric.sign * (low - pad), search.metric.sign * (high + pad)))
    return replace(chart, layout=chart.layout | {"yaxis": chart.layout.get("yaxis", {}) | {"range": span}})


def outside(chart: Chart, values: list[float]) -> int:
    """How many of `values` are outside the y axis of `chart`."""
    low, high = chart.layout.get("yaxis", {}).get("range", (float("-inf"), float("inf")))
    return sum(not low <= value <= high for value in values)


def value_title(search: Search) -> str:
    """The title of the axis of values."""
    return f"validation {search.metric.name}"


def value_of(trial: Trial) -> str:
    """A trial's value in a hover text."""
    return f"{trial.value:.4f}" if trial.value is not None else NAMES[trial.state]


def setting(trial: Trial, scale: Scale) -> str:
    """A trial's setting of a dimension in a hover text."""
    value: Any = trial.params[scale.name]
    return f"{plain(scale.name)} {f'{value:.4g}' if isinstance(value, float) else plain(value)}"
