"""What a metric says about itself."""

import pytest
import torch
from pydantic import ValidationError

from own import OwnCode
from podium import components
from podium.components import Choice
from podium.metrics import scores
from podium.metrics.scored import Scored
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


def test_precision_that_floats_round_up_is_reached() -> None:
    labels = torch.tensor([1] * 55 + [0] * 45)
    probabilities = torch.full((100, 2), 0.5)  # one threshold, at which 55 of 100 are right
    for precision, recall in ((0.55, 1.0), (0.5500001, 0.0)):
        chosen = Choice(name="recall_at_precision", arguments={"class_name": "b", "precision": precision})
        scored = Scored(probabilities, labels, ("a", "b"), are_probabilities=True)
        assert scores.of(chosen).value(scored) == recall


@pytest.mark.parametrize("name", ["my:ece", "my:accuracy", "my:loss", "my:top_k", "my:groups"])
def test_own_metric_called_like_one_of_ours_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="must have a name that no metric of Podium has"):
        scores.of(Choice(name=name))


def test_own_metric_is_given_the_same_in_training_as_of_probabilities(own: OwnCode) -> None:
    module = own.write("def first(logits, labels):\n    return logits[0, 0]\nfirst.direction = 'maximize'\n")
    metric, logits = scores.of(Choice(name=f"{module}:first")), torch.tensor([[3.0, 1.0]])
    of_logits = metric.value(Scored(logits, torch.tensor([0])))
    of_probabilities = metric.value(Scored(logits.softmax(1), torch.tensor([0]), are_probabilities=True))
    assert of_logits == pytest.approx(of_probabilities, abs=1e-6)
