"""A chart of the report: what plotly.js is given. Style is the page's: it knows light and dark, phone and paper.

The figures are plain dictionaries made from data/, not optuna.visualization's: those need the study (a colleague's
checkout has none), draw a trace for each of a thousand trials, and bring colours of their own.
"""

import html
from dataclasses import dataclass, field
from typing import Any

COMPLETE, PRUNED, FAILED, BEST, INK, MUTED = "@complete", "@pruned", "@failed", "@best", "@ink", "@muted"
"""Colours by name; page.js puts in what they are in light and in dark."""
LONGEST = 24
"""Characters of a name on an axis."""


@dataclass(frozen=True)
class Chart:
    """One figure with its words."""

    key: str
    """Its id in the page."""
    title: str
    note: str
    """How to read it, in a sentence."""
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340
    """Pixels."""
    wide: bool = True
    """Whether it needs the page's whole width."""
    scroll: int = 0
    """Pixels below which it is not squeezed: a phone scrolls it sideways."""

    def figure(self) -> dict[str, Any]:
        """What page.js draws."""
        return {"data": self.data, "layout": self.layout | {"height": self.height}}


def plain(text: object) -> str:
    """`text` for plotly, which takes some HTML for formatting: shown as it is, on one line, not too long."""
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
    """A trace of lines; None in `y` lifts the pen."""
    style = {"color": color, "width": width}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style} | more


def rounded(value: float | None, digits: int = 6) -> float | None:
    """`value` with the digits that a picture shows: a third of the file's size."""
    return None if value is None else float(f"{value:.{digits}g}")
