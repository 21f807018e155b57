import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from podium.training.compiling import compile_network
from podium.training.loop import TrainingRun
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
