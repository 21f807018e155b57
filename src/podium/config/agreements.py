"""What parameters of several sections must agree on, in sentences; each section by itself is whole already."""

from typing import TYPE_CHECKING

from podium.config.section import made_of

if TYPE_CHECKING:
    from podium.config.params import Params


def disagreements(params: "Params") -> list[str]:
    """Each problem as `section.field: rule; got value`."""
    return _margin(params)


def _margin(params: "Params") -> list[str]:
    """A margin as wide as the metric's range excludes nothing. A metric without bounds takes any."""
    metric = made_of("metric", params.gate.metric or params.search.metric, {})
    low, high = metric.RANGE
    if params.gate.margin < high - low:
        return []
    return [
        f"gate.margin: must be below {high - low:g}, the width of the range of {metric.label} ({low:g} to {high:g}), or"
        f" every challenger would be no worse; got {params.gate.margin:g}"
    ]
