"""What a metric says about itself."""

import pytest

from podium import components
from podium.components import Choice
from podium.metrics.scores import Objective


@pytest.mark.parametrize(
    ("name", "direction", "better", "worse", "shown"),
    [("accuracy", "maximize", 0.9, 0.8, "90.00%"), ("loss", "minimize", 0.1, 0.2, "0.1000")],
)
def test_metric_has_a_direction_and_a_format(
    name: str, direction: str, better: float, worse: float, shown: str
) -> None:
    component = components.make("metric", Choice(name=name), {})
    assert (component.label, component.direction) == (name, direction)
    metric = Objective.of({"metric": name, "direction": component.direction, "percent": component.PERCENT})
    assert metric.sign * better > metric.sign * worse
    assert metric.format(better) == shown
