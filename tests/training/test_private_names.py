"""torch without one of the names that it does not promise: the same answers by its public methods, said once."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from podium import private_names
from podium.models.layers import unwrapped
from podium.training.footprint import bytes_of
from podium.training.live_bytes import LiveBytes
from podium.training.module_parts import has_buffer, parts_of, unsaved_buffers


class Net(nn.Module):
    """A layer under two names, another's inside, and buffers: saved, not saved, and none."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Linear(2, 2)
        self.deep = nn.Sequential(nn.BatchNorm1d(2))
        self.weight = self.same = nn.Parameter(torch.zeros(2))
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("lost", torch.ones(3), persistent=False)
        self.register_buffer("empty", None)
        self.plain = None


PARTS: dict[str, Callable[[Net], Any]] = {
    "_parameters": lambda net: {name: id(one) for name, one in parts_of(net).items() if one is not None},
    "_modules": lambda net: {name: id(one) for name, one in parts_of(net).items() if one is not None},
    "_buffers": lambda net: [has_buffer(net, name) for name in ("kept", "lost", "empty", "plain", "one", "no")],
    "_non_persistent_buffers_set": lambda net: [unsaved_buffers(one) for one in net.modules()],
}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_names, "_said", set())


@pytest.mark.parametrize(("name", "ask"), PARTS.items(), ids=PARTS)
def test_parts_of_a_module_are_the_same_by_its_public_methods(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, ask: Callable[[Net], Any]
) -> None:
    net = Net()
    expected = ask(net)
    assert capsys.readouterr().err == ""

    def look_up(self: Any, asked: str) -> Any:
        if asked == name and str(sys._getframe(1).f_globals["__name__"]).startswith("podium."):
            raise AttributeError(name)
        return object.__getattribute__(self, asked)

    monkeypatch.setattr(nn.Module, "__getattribute__", look_up)
    assert [ask(net), ask(net)] == [expected, expected]
    assert capsys.readouterr().err.count("is not what Podium expects") == 1


def test_torch_that_no_longer_tells_of_new_tensors_measures_nothing_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(count: int) -> Tensor:
        return torch.zeros(count, 1000)

    assert bytes_of(work)[1] > 0
    monkeypatch.setattr(LiveBytes, "_count", lambda *arguments: None)  # as if it were never called
    assert [bytes_of(work), bytes_of(work)] == [(0.0, 0.0)] * 2
    assert capsys.readouterr().err.count("the memory of a step is not measured, so no batch is divided") == 1


def test_compiled_network_is_unwrapped_where_torch_calls_it_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    class Compiled(nn.Module):
        """As torch._dynamo's, which has it as `_orig_mod`."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.inner = module

    net = Net()
    assert unwrapped(Compiled(net)) is not net  # a network of one's own that has another
    Compiled.__module__ = "torch._dynamo.eval_frame"
    assert unwrapped(Compiled(net)) is net
    assert unwrapped(nn.DataParallel(Compiled(net))) is net
    assert capsys.readouterr().err.count("is not what Podium expects") == 1
