import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from podium.training import checkpoint, compiling, precision
from podium.training.compiling import compile_network
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun
from podium.training.trained import digest_of


def _run() -> TrainingRun:
    return TrainingRun(tiny.recipe(model__name="resnet"), tiny.IMAGES, 0, torch.device("cpu"))


def test_compiler_that_fails_is_said_and_leaves_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: nn.Module) -> nn.Module:
        raise RuntimeError("no working\nC++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    run = _run()
    before = digest_of(run.model.state_dict())
    (note,) = compile_network(run.model, (3, 8, 8), 16, fast=None)
    assert note.startswith("retrain.compile: torch.compile does not work here (RuntimeError: no working C++ compiler)")
    assert digest_of(run.model.state_dict()) == before
    assert run.model._compiled_call_impl is None


def test_compiled_network_is_the_same_module_with_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)  # a minute of compilation is torch's own test
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda model: compiled.append(model))
    run = _run()
    before, drawn = digest_of(run.model.state_dict()), torch.get_rng_state()
    assert compile_network(run.model, (3, 8, 8), 16, fast=None) == []
    assert compiled == [run.model]
    assert digest_of(run.model.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in run.model.parameters())


@pytest.mark.slow
def test_real_compiler_trains_as_without_it_or_says_why_not(tmp_path: Path) -> None:
    data = tiny.trial_data(tiny.prepare(tmp_path)).train
    histories = []
    for compiled in (False, True):
        run = TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu"))
        if compiled:
            notes = compile_network(run.model, tiny.IMAGES.shape, 16, fast=None)
            assert bool(notes) == (shutil.which("g++") is None), notes
        histories.append([epoch["train_loss"] for epoch in run.train(data, None)])
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds of the next measured kinds of step, plain first; nothing is really compiled."""
    times, threads = [0.1, 0.06], torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(compiling, "_known", {})
    monkeypatch.setattr(compiling, "_seconds", lambda step, where: times.pop(0))
    monkeypatch.setattr(torch, "compile", lambda model: model)
    yield times
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("steps", "plain", "compiled", "tried", "expected"),
    [
        (199, 0.1, 0.06, False, False),  # at best half of 19.9 s could be won
        (201, 0.1, 0.06, True, True),
        (1000, 0.1, 0.11, True, False),
        (1000, 0.001, 0.0001, False, False),
    ],
)
def test_trial_is_compiled_where_measured_steps_say_that_it_pays(
    times: list[float], steps: int, plain: float, compiled: float, tried: bool, expected: bool
) -> None:
    times[:] = [plain, compiled]
    run = _run()
    worth, notes = compiling.pays(run.model, (3, 8, 8), 16, None, steps)
    assert worth == expected
    assert len(notes) == tried
    if tried:
        assert notes[0].startswith(f"search.compile: a step of 16 images takes {1000 * compiled:.1f} ms compiled, ")
        assert compiling.pays(run.model, (3, 8, 8), 16, None, steps) == (expected, [])  # measured once


def test_compiling_itself_counts() -> None:
    assert compiling.Measured(0.1, 0.06, 30.0).gain(1000) == pytest.approx(10)
    assert compiling.Measured(0.1, 0.06, 50.0).gain(1000) == pytest.approx(-10)


@pytest.mark.usefixtures("times")
def test_network_that_cannot_be_compiled_is_trained_without_it_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: nn.Module) -> nn.Module:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    run = _run()
    worth, (note,) = compiling.pays(run.model, (3, 8, 8), 16, None, 10_000)
    assert (worth, note.startswith("search.compile: torch.compile does not work here (RuntimeError")) == (False, True)
    assert compiling.pays(run.model, (3, 8, 8), 16, None, 10_000) == (False, [])


def test_compiled_trial_steps_through_the_compiled_network_and_resumes_compiled(
    times: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stepped: list[nn.Module] = []

    class Compiled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            stepped.append(self)
            logits: torch.Tensor = self.model(images)
            return logits

    monkeypatch.setattr(torch, "compile", Compiled)
    monkeypatch.setattr(compiling, "LEAST", 0.0)
    data = tiny.trial_data(tiny.prepare(tmp_path))
    run, again = (TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu")) for _ in range(2))
    times[:] = [1e4, 1e-4]
    run.compile_where_it_pays(len(data.train))
    stepped.clear()
    run.train(data.train, data.val)
    assert len(stepped) == 3 * 4  # 60 images in batches of 16; the validation calls the plain network
    again.restore(checkpoint.loads(checkpoint.dumps("x", run.state()), "x"))
    assert again.state()["compiled"]
    plain = TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu"))
    plain.train(data.train, data.val)
    assert digest_of(run.model.state_dict()) == digest_of(plain.model.state_dict())


@pytest.mark.usefixtures("times")
def test_compiled_trial_that_resumes_where_nothing_compiles_goes_on_without_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:  # a compiler is missed at the first step
            raise RuntimeError("no compiler")

    monkeypatch.setattr(compiling, "_fails", {})
    monkeypatch.setattr(torch, "compile", lambda model: Broken())
    run, again, later = (TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu")) for _ in range(3))
    state = run.state() | {"compiled": True}
    for one in (again, later):
        one.restore(state)
        assert [note.partition(" does")[0] for note in one.notes] == ["search.compile: torch.compile"]
        assert not one.state()["compiled"]
    data = tiny.trial_data(tiny.prepare(tmp_path))
    assert len(again.train(data.train, data.val)) == again.recipe.train.epochs


def test_too_little_memory_for_a_compiled_step_says_nothing_about_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(compiling, "_fails", {})
    monkeypatch.setattr(torch, "compile", lambda model: Large())
    run = _run()
    with pytest.raises(torch.OutOfMemoryError):
        compiling.fails_here(run.model, (3, 8, 8), 16, None)
    (note,) = compile_network(run.model, (3, 8, 8), 16, None)  # a retraining goes on without it
    assert "does not work here (OutOfMemoryError: CUDA out of memory); trained without it" in note
    monkeypatch.setattr(torch, "compile", lambda model: model)
    assert compiling.fails_here(run.model, (3, 8, 8), 16, None) == []


def test_checkpoint_in_a_type_that_the_device_does_not_have_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    run, again = (TrainingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu")) for _ in range(2))
    why = "the device only emulates bfloat16"
    monkeypatch.setattr(precision, "missing", lambda wanted, where: why if wanted == "bfloat16" else "")
    with pytest.raises(
        checkpoint.TornCheckpointError, match="it was trained in bfloat16, and the device only emulates"
    ):
        again.restore(run.state() | {"fast": torch.bfloat16})
    following = FollowingRun(tiny.recipe(), tiny.IMAGES, 0, torch.device("cpu"))
    following.restore(run.state() | {"fast": torch.bfloat16})
    assert following.fast is torch.bfloat16
    again.restore(run.state())
