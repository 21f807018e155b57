import pytest
import torch
from torch import nn

from podium.training.optimization import Average


def _set(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (10, 0.55), (89, 90 / 99), (890, 0.99), (10**6, 0.99)])
def test_average_keeps_the_decays_share_of_itself_and_less_at_the_start(step: int, decay: float) -> None:
    model = nn.BatchNorm2d(2)
    _set(model, 1.0)
    average = Average(model, 0.99)
    _set(model, 3.0)
    average.update(step)
    for name in ("weight", "bias", "running_mean", "running_var"):
        kept = getattr(average.model, name)
        assert kept.tolist() == pytest.approx([decay * 1.0 + (1 - decay) * 3.0] * 2), name
    assert model.weight.tolist() == [3.0, 3.0]


def test_average_follows_weights_that_were_loaded_into_the_model() -> None:
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    average = Average(model, 0.5)
    model.load_state_dict(other.state_dict())
    for step in range(100):
        average.update(step)
    torch.testing.assert_close(average.model.state_dict(), other.state_dict())
