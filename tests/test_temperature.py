from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from podium.models.build import build_model
from podium.training.prediction import BOUNDS, fit_temperature, predict_probabilities, temperature_of
from podium.training.trained import TrainedModel


def drawn(count: int, stretch: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (count, 4) that are `stretch` times as large as those by which their labels were drawn."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * stretch, labels


@pytest.mark.parametrize("stretch", [0.4, 1.0, 3.0])
def test_fit_finds_by_how_much_logits_were_stretched(stretch: float) -> None:
    assert fit_temperature(*drawn(20_000, stretch)) == pytest.approx(stretch, rel=0.05)


@pytest.mark.parametrize("stretch", [0.01, 100.0])
def test_fit_stays_within_its_bounds(stretch: float) -> None:
    assert BOUNDS[0] <= fit_temperature(*drawn(2_000, stretch)) <= BOUNDS[1]


@pytest.mark.parametrize(("few", "many"), [(5, 50), (50, 5_000)])
def test_fewer_images_without_an_error_allow_less_certainty(few: int, many: int) -> None:
    def fitted(count: int) -> float:
        labels = torch.arange(count) % 4
        return fit_temperature(3 * torch.eye(4, dtype=torch.float64)[labels], labels)

    assert fitted(few) > fitted(many)


def test_temperature_changes_how_sure_a_network_is_and_none_of_its_answers() -> None:
    images, _ = tiny.pixels(48, 5)
    recipe = tiny.recipe().model_dump()
    plain = TrainedModel(
        recipe, list(tiny.CLASSES), [3, 8, 8], [0.3] * 3, [0.3] * 3, 5, "cpu", "d" * 64, "podium-x", 17, [1], "r" * 32
    )
    network, cooled = plain.build(), replace(plain, temperature=0.5).build()
    cooled.load_state_dict(network.state_dict())
    before, after = (predict_probabilities(model, images) for model in (network, cooled))
    assert (before.argmax(1) == after.argmax(1)).all()
    assert (after.max(1) > before.max(1)).all()


def test_temperature_of_a_network_is_that_of_its_logits_on_the_images(tmp_path: Path) -> None:
    trial_data = tiny.trial_data(tiny.prepare(tmp_path))
    network = build_model(tiny.recipe().model, tiny.IMAGES).eval()
    images, labels = tiny.pixels(20, 2)  # the validation images of tiny.prepare
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)).double()
    assert temperature_of(network, trial_data.val, None) == fit_temperature(logits, torch.from_numpy(labels))
