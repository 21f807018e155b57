"""A profile names what a training spends its time on."""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from podium.commands import profile as command
from podium.errors import PodiumError
from podium.profiling.diagnosis import diagnosis, markdown
from podium.profiling.measure import PHASES, Profile, measure
from podium.training.augmentations.shift import Shift
from podium.training.batches import Batches
from podium.training.schedules.one_cycle import OneCycle

EVEN = Profile(
    device="cpu",
    steps=4,
    batch=16,
    steps_per_epoch=10,
    phases={"data": 0.001, "forward": 0.004, "backward": 0.004, "optimizer": 0.001, "other": 0.0},
    between={"checkpoint": 0.001, "logging": 0.001},
    operators=[],
    flops=10_000_000,
    peak=2e9,
    memory=2**20,
)


@pytest.fixture
def data() -> Batches:
    images, labels = tiny.pixels(60, seed=1)
    return Batches(torch.from_numpy(images), torch.from_numpy(labels))


def profiled(data: Batches, folder: Path, optimizer: str = "adamw") -> Profile:
    recipe = tiny.recipe(train__epochs=4, train__optimizer=optimizer)
    return measure(recipe, tiny.IMAGES, data, torch.device("cpu"), 3, folder)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_profile_of_a_training_has_every_phase_operators_and_a_trace(
    tmp_path: Path, data: Batches, optimizer: str
) -> None:
    found = profiled(data, tmp_path, optimizer)
    assert found.phases["optimizer"] > 0
    assert tuple(found.phases) == PHASES
    assert found.steps == 3
    assert all(seconds >= 0 for seconds in found.phases.values())
    assert found.phases["forward"] > 0
    assert found.phases["backward"] > 0
    assert any(o.name.startswith("aten::") for o in found.operators)
    assert found.flops > 0
    assert found.peak > 0
    assert sum(map(found.share, [*found.phases, *found.between])) == pytest.approx(1)
    assert len(list(tmp_path.glob("*.pt.trace.json"))) == 1


@pytest.mark.parametrize(
    ("epochs", "batch", "share", "most", "asked", "steps"),
    [
        (4, 16, 1.0, 10_000, 3, 3),
        (1, 60, 1.0, 10_000, 3, 3),  # one step in all, which the first to be left aside would be
        (2, 32, 1.0, 10_000, 3, 3),  # four, of which the trace leaves three aside
        (1, 16, 0.1, 10_000, 3, 3),
        (1, 60, 1.0, 6, 50, 4),  # no training has more than six epochs here: four are timed, three are in the trace
    ],
)
def test_profile_of_a_training_of_few_steps_is_of_the_steps_that_it_says(
    tmp_path: Path,
    data: Batches,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
    batch: int,
    share: float,
    most: int,
    asked: int,
    steps: int,
) -> None:
    monkeypatch.setattr("podium.profiling.measure.MOST_EPOCHS", most)
    recipe = tiny.recipe(train__epochs=epochs, train__batch_size=batch, train__data_fraction=share)
    found = measure(recipe, tiny.IMAGES, data, torch.device("cpu"), asked, tmp_path)
    assert found.steps == steps
    calls = {o.name: o.calls for o in found.operators}
    assert calls["aten::cross_entropy_loss"] == 1
    assert f"{steps} steps of " in markdown(found, "Profile", str(tmp_path))


def test_profile_of_a_copy_that_diverges_is_an_error_message(
    tmp_path: Path, data: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneCycle, "factor", lambda *_: float("nan"))
    with pytest.raises(
        PodiumError, match="the copy of the training that was to be profiled diverged: train_loss became"
    ):
        measure(tiny.recipe(train__epochs=1), tiny.IMAGES, data, torch.device("cpu"), 8, tmp_path)


@pytest.mark.slow
def test_sleep_in_the_data_path_is_named(tmp_path: Path, data: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Shift.apply

    def slow(*arguments: Any) -> Any:
        time.sleep(0.6)
        return apply(*arguments)

    monkeypatch.setattr(Shift, "apply", slow)
    recipe = tiny.recipe(train__epochs=4, train__shift=1)
    # Without the work between steps: a checkpoint waits for the disk, and on a crowded machine longer than we sleep.
    found = measure(recipe, tiny.IMAGES, data, torch.device("cpu"), 3, tmp_path, between={})
    assert found.phases["data"] >= 0.6
    page = markdown(found, "Profile", str(tmp_path))
    assert "**Data-bound: " in page
    assert "is waiting for images. To change it: " in page


@pytest.mark.parametrize(
    ("changes", "beginning"),
    [
        ({}, "Compute-bound"),
        ({"peak": 1e12}, "Overhead-bound"),
        ({"phases": EVEN.phases | {"data": 0.02}}, "Data-bound"),
        ({"phases": EVEN.phases | {"optimizer": 0.02}}, "Optimizer-bound"),
        ({"between": {"checkpoint": 1.0, "logging": 0.1}}, "Checkpoint-bound"),
        ({"between": {"checkpoint": 0.1, "logging": 1.0}}, "Logging-bound"),
        ({"between": {"evaluation": 1.0}}, "Evaluation-bound"),
    ],
)
def test_diagnosis_names_what_bounds_the_training_and_what_to_change(changes: dict[str, Any], beginning: str) -> None:
    text = diagnosis(replace(EVEN, **changes))
    assert text.startswith(beginning)
    assert "To change it: " in text or "Only a smaller network" in text


def test_profile_beside_ranks_on_gpus_takes_the_device_that_this_process_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.device] = []

    def measured(recipe: Any, images: Any, data: Any, where: torch.device, steps: int, trace: Path) -> Profile:
        seen.append(where)
        return EVEN

    monkeypatch.chdir(tmp_path)
    tiny.prepare(tmp_path / "data/prepared")
    (tmp_path / "params.yaml").write_text("runtime: {device: cuda, devices: 2, threads: 1}\n", encoding="utf-8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("podium.profiling.measure.measure", measured)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.measured(parser.parse_args(["--out", str(tmp_path)]))
    assert [where.type for where in seen] == ["cpu"]


def test_show_without_a_trace_is_refused_before_tensorboard_waits_permanently(tmp_path: Path) -> None:
    from podium.errors import InputError

    with pytest.raises(InputError, match="holds no trace"):
        command.show(tmp_path, 6006)
