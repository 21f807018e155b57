import copy
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from podium.config.recipe import Recipe
from podium.models.networks import ImageSpec
from podium.training.batches import Balanced, Batches
from podium.training.epochs import Epoch
from podium.training.loop import DivergedError, TrainingRun
from podium.training.streaming import Mapped
from podium.training.trained import digest_of
from podium.training.validation import validate

CPU = torch.device("cpu")
LEARNS = {"model__width": 4, "model__hidden": 32, "train__learning_rate": 0.01, "train__label_smoothing": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batches, Batches]:
    trial_data = tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))
    return trial_data.train, trial_data.val


def _run(recipe: Recipe, seed: int = 0) -> TrainingRun:
    return TrainingRun(recipe, tiny.IMAGES, seed, CPU)


def _timeless(history: list[Epoch]) -> list[Epoch]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


def test_model_can_memorise_64_images_of_noise() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    noise = Batches(images, torch.randint(0, 3, (64,)))
    recipe = tiny.recipe(**LEARNS | {"model__width": 16, "train__epochs": 30, "train__batch_size": 32})
    run = _run(recipe)
    history = run.train(noise, noise)
    assert history[-1]["val_accuracy"] == 1.0
    assert history[-1]["train_loss"] < 0.1


def test_model_learns_what_the_validation_images_share(data: tuple[Batches, Batches]) -> None:
    history = _run(tiny.recipe(**LEARNS, train__epochs=10)).train(*data)
    assert history[-1]["val_accuracy"] > 0.9


def test_history_has_every_epoch_in_order(data: tuple[Batches, Batches]) -> None:
    seen: list[int] = []
    history = _run(tiny.recipe()).train(*data, on_epoch=lambda run: seen.append(run.epoch))
    assert seen == [1, 2, 3]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert all(
        set(epoch) == {"epoch", "train_loss", "learning_rate", "val_loss", "val_accuracy", "seconds"}
        for epoch in history
    )


def test_training_without_validation_images_has_no_validation(data: tuple[Batches, Batches]) -> None:
    history = _run(tiny.recipe(train__epochs=1)).train(data[0], None)
    assert set(history[0]) == {"epoch", "train_loss", "learning_rate", "seconds"}


@pytest.mark.parametrize("batch_size", [1, 16, 60, 1000])
def test_epoch_has_each_image_once(data: tuple[Batches, Batches], batch_size: int) -> None:
    run = _run(tiny.recipe(train__epochs=2, train__batch_size=batch_size))
    seen: list[torch.Tensor] = []
    step = run.train_step

    def remember(images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        seen.append(images.flatten(1))
        step(images, labels, rate)

    run.train_step = remember  # type: ignore[method-assign]
    run.train(data[0], None)
    first, second = torch.cat(seen)[:60], torch.cat(seen)[60:]
    assert not torch.equal(first, second)
    everything = _sorted(data[0].images[:60].flatten(1))
    assert torch.equal(_sorted(first), everything)
    assert torch.equal(_sorted(second), everything)


def _sorted(rows: torch.Tensor) -> torch.Tensor:
    unique: torch.Tensor = torch.unique(rows, dim=0)
    return unique


def test_equal_seeds_give_equal_weights(data: tuple[Batches, Batches]) -> None:
    def weights(seed: int) -> str:
        run = _run(tiny.recipe(model__dropout=0.2, train__shift=1), seed)
        run.train(*data)
        return digest_of(run.model.state_dict())

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_seed_decides_whatever_was_drawn_before(data: tuple[Batches, Batches]) -> None:
    digests = []
    for _ in range(2):
        torch.rand(7)
        run = _run(tiny.recipe(train__epochs=1, model__dropout=0.2))
        run.train(*data)
        digests.append(digest_of(run.model.state_dict()))
    assert digests[0] == digests[1]


class _Stop(Exception):  # noqa: N818 (a kill, not an error)
    """The process is gone."""


def _stopping_at(step: int, saved: list[bytes]) -> Callable[[TrainingRun], None]:
    """Save and stop after step `step` of the whole run, counted from 1."""
    taken = 0

    def on_step(run: TrainingRun) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            saved.append(_stored(run))
            raise _Stop

    return on_step


def _stored(run: TrainingRun) -> bytes:
    buffer = io.BytesIO()
    torch.save(run.state(), buffer)
    return buffer.getvalue()


def _read(saved: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(saved), weights_only=True)
    return state


RESUMED = {
    "sgd": {"train__optimizer": "sgd", "train__momentum": 0.9},
    "plain sgd": {"train__optimizer": "sgd", "train__momentum": 0.0},
    "adamw": {"train__optimizer": "adamw"},
    "adamw, shift, flip, dropout": {"train__shift": 2, "train__flip": True, "model__dropout": 0.5},
    "sgd, cosine, smoothing": {"train__optimizer": "sgd", "train__schedule": "cosine", "train__label_smoothing": 0.1},
    "resnet, average, cutout": {"model__name": "resnet", "train__ema": 0.9, "train__cutout": 3},
    "resnet, bfloat16, momentum": {
        "model__name": "resnet",
        "train__optimizer": "sgd",
        "train__precision": "bfloat16",
        "model__flip_average": True,
    },
    "mixup and cutmix, a share": {
        "train__mixup": 0.5,
        "train__cutmix": 1.0,
        "train__data_fraction": 0.9,
        "train__ema": 0.5,
    },
    "a share first": {
        "train__data_fraction": 0.9,
        "train__data_fraction_epochs": 1,
        "train__ema": 0.9,
        "train__schedule": "cosine",
    },
    "balanced sampling": {"train__balance": "sampling", "train__cutmix": 1.0},
    "muon, channels last": {"train__optimizer": "muon", "model__name": "resnet"},
    "balanced loss": {"train__balance": "loss"},
}


@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_run_restored_after_any_step_goes_on_bit_for_bit(
    data: tuple[Batches, Batches], changes: dict[str, Any]
) -> None:
    recipe = tiny.recipe(**changes, train__batch_size=20)
    undisturbed = _run(recipe)
    steps: list[int] = []
    expected = _timeless(undisturbed.train(*data, on_step=lambda run: steps.append(run.step)))
    for step in range(1, len(steps) + 1):
        saved: list[bytes] = []
        with pytest.raises(_Stop, match=r"^$"):
            _run(recipe).train(*data, on_step=_stopping_at(step, saved))
        torch.rand(step)  # another process draws other numbers
        resumed = _run(recipe, seed=0)
        resumed.restore(_read(saved[0]))
        assert _timeless(resumed.train(*data)) == expected, f"saved after step {step}"
        assert digest_of(resumed.model.state_dict()) == digest_of(undisturbed.model.state_dict())
        assert digest_of(resumed.result.state_dict()) == digest_of(undisturbed.result.state_dict())


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_run_restored_after_an_epoch_goes_on_bit_for_bit(data: tuple[Batches, Batches], epoch: int) -> None:
    recipe = tiny.recipe(train__shift=1, model__dropout=0.3)
    saved: list[bytes] = []
    undisturbed = _run(recipe)
    expected = _timeless(undisturbed.train(*data, on_epoch=lambda run: saved.append(_stored(run))))
    resumed = _run(recipe)
    resumed.restore(_read(saved[epoch - 1]))
    assert resumed.epoch == epoch
    assert _timeless(resumed.train(*data)) == expected
    assert digest_of(resumed.model.state_dict()) == digest_of(undisturbed.model.state_dict())


def test_restored_run_does_not_change_the_state_it_came_from(data: tuple[Batches, Batches]) -> None:
    saved: list[bytes] = []
    with pytest.raises(_Stop, match=r"^$"):
        _run(tiny.recipe()).train(*data, on_step=_stopping_at(2, saved))
    state = _read(saved[0])
    before = copy.deepcopy(state["history"])
    for _ in range(2):
        run = _run(tiny.recipe())
        run.restore(state)
        run.train(*data)
    assert state["history"] == before


def test_seconds_of_an_epoch_count_both_parts_of_it(data: tuple[Batches, Batches]) -> None:
    saved: list[bytes] = []
    with pytest.raises(_Stop, match=r"^$"):
        _run(tiny.recipe()).train(*data, on_step=_stopping_at(3, saved))
    state = _read(saved[0]) | {"seconds": 100.0}
    resumed = _run(tiny.recipe())
    resumed.restore(state)
    assert 100 < resumed.train(*data)[0]["seconds"] < 150


def test_infinite_loss_is_an_error_that_names_the_rate(data: tuple[Batches, Batches]) -> None:
    hot = {"train__optimizer": "sgd", "train__learning_rate": 10.0, "train__schedule": "constant", "train__epochs": 9}
    recipe = tiny.recipe(model__width=16, model__hidden=64, train__momentum=0.9, **hot)
    with pytest.raises(DivergedError, match=r"_loss became (nan|inf) in epoch \d \(train.learning_rate 10\)"):
        _run(recipe).train(*data)


def test_diverged_epoch_is_not_in_the_history(data: tuple[Batches, Batches]) -> None:
    run = _run(tiny.recipe())

    def poison(run: TrainingRun) -> None:
        if run.epoch == 1:
            run.loss_sum += math.nan

    with pytest.raises(DivergedError, match="train_loss became nan in epoch 2"):
        run.train(*data, on_step=poison)
    assert [epoch["epoch"] for epoch in run.history] == [1]


def test_learning_rate_of_the_history_is_that_of_the_epochs_last_step(data: tuple[Batches, Batches]) -> None:
    run = _run(tiny.recipe(train__schedule="cosine"))
    rates: list[float] = []
    history = run.train(*data, on_epoch=lambda run: rates.append(run.optimizer.param_groups[0]["lr"]))
    assert [epoch["learning_rate"] for epoch in history] == rates


def test_validation_is_the_mean_over_all_images_in_parts_of_any_size(
    data: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _run(tiny.recipe(model__dropout=0.9)).model
    whole = validate(model, data[1], fast=None)
    monkeypatch.setattr("podium.training.validation.EVALUATION_BATCH", 7)
    parts = validate(model, data[1], fast=None)
    logits = model.eval()(data[1].images).detach()
    loss = torch.nn.functional.cross_entropy(logits, data[1].labels)
    assert whole["val_loss"] == pytest.approx(float(loss), rel=1e-6)
    assert parts["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-6)
    right = int((logits.argmax(1) == data[1].labels).sum())
    assert whole["val_accuracy"] == parts["val_accuracy"] == right / len(data[1])


def test_average_is_what_is_validated_and_kept(data: tuple[Batches, Batches]) -> None:
    run = _run(tiny.recipe(train__ema=0.99, train__epochs=2))
    history = run.train(*data)
    assert run.result is not run.model
    assert validate(run.result, data[1], fast=None).items() <= history[-1].items()
    assert digest_of(run.result.state_dict()) != digest_of(run.model.state_dict())


def test_share_of_the_images_is_another_one_each_epoch(data: tuple[Batches, Batches]) -> None:
    run = _run(tiny.recipe(train__data_fraction=0.34, train__epochs=2, train__batch_size=7))
    seen: list[torch.Tensor] = []
    step = run.train_step

    def remember(images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        seen.append(images.flatten(1))
        step(images, labels, rate)

    run.train_step = remember  # type: ignore[method-assign]
    run.train(data[0], None)
    assert [len(batch) for batch in seen] == [7, 7, 7, 7, 7, 7]  # 21 of 60 images
    assert not torch.equal(_sorted(torch.cat(seen[:3])), _sorted(torch.cat(seen[3:])))


@pytest.mark.parametrize(
    ("share_epochs", "expected"), [(0, [21, 21, 21]), (1, [21, 60, 60]), (2, [21, 21, 60]), (9, [21, 21, 21])]
)
def test_share_holds_for_the_first_epochs_and_the_rate_ends_low(
    data: tuple[Batches, Batches], share_epochs: int, expected: list[int]
) -> None:
    share = {"train__data_fraction": 0.34, "train__data_fraction_epochs": share_epochs}
    run = _run(tiny.recipe(**share, train__batch_size=7, train__schedule="one_cycle", train__warmup=0.0))
    seen = [0, 0, 0]
    step = run.train_step

    def count(images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        seen[run.epoch] += len(labels)
        step(images, labels, rate)

    run.train_step = count  # type: ignore[method-assign]
    history = run.train(data[0], None)
    assert seen == expected
    steps = sum(math.ceil(images / 7) for images in expected)
    assert history[-1]["learning_rate"] == pytest.approx(run.recipe.train.learning_rate / steps)


def test_images_that_do_not_fit_train_to_the_same_bits(
    data: tuple[Batches, Batches], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.training.batches.fits", lambda size, device, sharers: False)
    mapped = tiny.trial_data(tiny.prepare(tmp_path))
    assert isinstance(mapped.train.images, Mapped)
    runs = [_run(tiny.recipe(train__shift=1)) for _ in range(2)]
    histories = [_timeless(runs[0].train(*data)), _timeless(runs[1].train(mapped.train, mapped.val))]
    assert histories[0] == histories[1]
    assert digest_of(runs[0].model.state_dict()) == digest_of(runs[1].model.state_dict())


def test_frozen_backbone_stays_as_it_was_and_the_head_learns() -> None:
    shape = (3, 32, 32)
    images = ImageSpec(shape, 3, (0.5,) * 3, (0.3,) * 3)
    recipe = tiny.recipe(model__name="torchvision:shufflenet_v2_x0_5", train__backbone_rate=0.0, train__epochs=1)
    run = TrainingRun(recipe, images, 0, CPU)
    before = copy.deepcopy(run.model.state_dict())
    data = Batches(torch.randint(0, 256, (17, *shape), dtype=torch.uint8), torch.arange(17) % 3)
    run.train(data, data)
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.network.fc.weight", "1.network.fc.bias"}


def test_balanced_loss_weighs_rare_classes_more(data: tuple[Batches, Batches]) -> None:
    rare = torch.cat([torch.zeros(50, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])
    run = _run(tiny.recipe(train__balance="loss", train__epochs=1))
    run.train(Batches(data[0].images, rare), None)
    assert run.class_weights is not None
    assert run.class_weights.tolist() == pytest.approx([60 / 150, 60 / 30, 60 / 3])


def test_balanced_sampling_shows_each_class_about_as_often(data: tuple[Batches, Batches]) -> None:
    rare = torch.cat([torch.zeros(50, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])
    run = _run(tiny.recipe(train__balance="sampling", train__epochs=10))
    seen: list[torch.Tensor] = []
    step = run.train_step

    def remember(images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        seen.append(labels)
        step(images, labels, rate)

    run.train_step = remember  # type: ignore[method-assign]
    run.train(Batches(data[0].images, rare), None)
    assert 200 <= int(torch.cat(seen).sum()) <= 400  # of 600


def test_balanced_rows_of_twenty_million_are_of_every_class_and_from_every_part_of_it() -> None:
    labels = torch.zeros(20_000_000, dtype=torch.int8).long()  # above 2^24 rows; class 2 has none
    labels[::1000] = 1
    labels[-5:] = 3
    rows = Balanced(labels, 4).draw(30_000, torch.Generator().manual_seed(0))
    drawn = torch.bincount(labels[rows], minlength=4)
    assert drawn[2] == 0
    assert all(9_500 < int(drawn[one]) < 10_500 for one in (0, 1, 3))
    tenths = torch.bincount(rows[labels[rows] == 0] * 10 // len(labels), minlength=10)
    assert all(850 < int(one) < 1150 for one in tenths)


def test_precision_that_the_probe_refuses_is_said_and_float32(
    data: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.training.precision._probe", lambda model, shape, half: (0.001, 0.002))
    monkeypatch.setattr("podium.training.precision._measured", {})
    run = _run(tiny.recipe(train__precision="bfloat16"))
    assert not run.fast
    (note,) = run.notes
    assert note.startswith("train.precision: bfloat16 is not faster here (2.0 ms a step of 16 images, float32 1.0 ms)")
    again = _run(tiny.recipe(train__precision="bfloat16"))
    assert (again.fast, again.notes) == (None, [])  # the same network, in the same process


def test_restored_run_keeps_the_precision_that_it_began_with(
    data: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.training.precision._measured", {})
    monkeypatch.setattr("podium.training.precision._probe", lambda model, shape, half: (0.002, 0.001))
    began = _run(tiny.recipe(train__precision="bfloat16"))
    monkeypatch.setattr("podium.training.precision._measured", {})
    monkeypatch.setattr("podium.training.precision._probe", lambda model, shape, half: (0.001, 0.002))
    resumed = _run(tiny.recipe(train__precision="bfloat16"))
    assert (began.fast, resumed.fast) == (torch.bfloat16, None)
    resumed.restore(_read(_stored(began)))
    assert resumed.fast is torch.bfloat16


def test_training_takes_what_has_almost_come_to_nothing_for_nothing() -> None:
    torch.set_flush_denormal(False)
    smallest = torch.tensor([torch.finfo(torch.float32).tiny])
    assert float(smallest / 4) > 0
    TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu"))
    assert float(smallest / 4) == 0
