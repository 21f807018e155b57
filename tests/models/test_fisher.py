"""Edges and colours beside a network: what they are, that they learn, and that a training keeps them as its weights."""

import copy

import pytest
import torch
from torch import Tensor

import tiny
from own import OwnCode
from podium.models.build import build_model
from podium.models.descriptors import cells_of, colours, edges, places
from podium.models.fisher import FisherVectors
from podium.training import eager
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.network_check import check_predictions, check_rebuilt
from podium.training.program import training

CPU = torch.device("cpu")
RECIPE = tiny.recipe(model__name="resnet", model__width=2, model__descriptors=True, model__hidden=None)


def stripes(count: int, side: int, seed: int) -> Batches:
    """Stripes across or down at any phase, of one colour distribution: single pixels and colours say nothing."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    waves = torch.arange(side)[None] + torch.randint(8, (count, 1), generator=draw)
    lines = ((waves // 4) % 2 * 150 + 50).float()
    down, across = lines[:, :, None].expand(-1, -1, side), lines[:, None].expand(-1, side, -1)
    noise = torch.randint(100, (count, side, side), generator=draw) + 60.0
    each = torch.stack([down, across, noise])[labels, torch.arange(count)]
    return Batches(each[:, None].expand(-1, 3, -1, -1).to(torch.uint8).contiguous(), labels)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 3, 40), (3, 33, 97), (4, 96, 64)])
def test_descriptors_of_any_image_are_finite_and_as_many_as_their_places(shape: tuple[int, int, int]) -> None:
    cells = cells_of(min(shape[1:]))
    for images in (torch.randn(2, *shape), torch.zeros(2, *shape)):
        where = places(images, cells)
        assert where.abs().max() <= 0.5
        for kind, size in ((edges, 128), (colours, 32 * shape[0])):
            found = kind(images, cells)
            assert found.shape == (2, len(where), size)
            assert torch.isfinite(found).all()


def test_places_are_those_of_the_parts_that_are_described() -> None:
    images = torch.zeros(1, 1, 48, 96)
    images[:, :, 30:, 60:] = 5.0  # bright below on the right
    cells = cells_of(48)
    bright = colours(images, cells)[0, :, :16].mean(1)
    down, across = (places(images, cells)[bright > 4.9]).T
    assert len(down)
    assert down.min() > 0.1
    assert across.min() > 0.1


def test_descriptors_learn_from_a_few_images_what_single_pixels_do_not_say() -> None:
    torch.manual_seed(0)
    train, test = stripes(30, 24, 1), stripes(60, 24, 2)
    shown, asked = ((one.images[:].float() - 128) / 64 for one in (train, test))
    model = FisherVectors(3, 24, 3)
    model.look_at(shown, torch.Generator().manual_seed(0))
    eager.without_compiler()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(20):
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(shown), train.labels))
        optimizer.step()
        optimizer.zero_grad()
    assert (model(asked).argmax(1) == test.labels).float().mean() > 0.95


def _fitted(model: torch.nn.Module) -> list[Tensor]:
    (part,) = (one for one in model.modules() if isinstance(one, FisherVectors))
    return [value.clone() for value in part.mixtures.state_dict().values()]


def _alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_fits_the_descriptors_once_and_resumes_to_the_same_weights() -> None:
    data, images = stripes(24, 16, 3), tiny.spec((3, 16, 16))
    whole, first = (TrainingRun(RECIPE, images, 0, CPU) for _ in range(2))
    before, states = _fitted(first.model), []
    whole.train(data, None)

    def keep(run: TrainingRun) -> None:
        states.append((copy.deepcopy(run.state()), _fitted(run.model), _fitted(run.result)))

    first.train(data, None, on_step=keep)
    (state, fitted, averaged), last = states[0], states[-1]
    assert not _alike(before, fitted)
    assert _alike(fitted, averaged)
    assert _alike(fitted, last[1])
    resumed = TrainingRun(RECIPE, images, 0, CPU)
    resumed.restore(state)
    resumed.train(data, None)
    ends = [run.model.state_dict() for run in (whole, resumed)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_own_training_loop_gets_a_network_that_has_looked_at_the_images_too(own: OwnCode) -> None:
    module = own.write(
        "def program(network, run, val_set):\n    run.report(1, val_accuracy=0.5)\n    return network()\n"
    )
    recipe = RECIPE.replace({"train.program": f"{module}:program"})
    data, images = stripes(24, 16, 3), tiny.spec((3, 16, 16))
    run, usual = training(recipe, images, 0, CPU), TrainingRun(RECIPE, images, 0, CPU)
    run.train(data, data)
    usual.train(data, None)
    for one, other in zip(_fitted(run.result), _fitted(usual.result), strict=True):
        torch.testing.assert_close(one, other)


def test_network_with_descriptors_is_saved_and_answers_each_image_by_itself() -> None:
    torch.manual_seed(0)
    spec = tiny.spec((3, 16, 16))
    model = build_model(RECIPE.model, spec)
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    check_predictions(model, pixels, 3, "model.name", "resnet")
    check_rebuilt(model, lambda: build_model(RECIPE.model, spec), pixels, "model.name", "resnet")
