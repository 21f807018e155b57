"""The reference lines are measured in a process that the search outlives."""

import multiprocessing
from pathlib import Path

import pytest

import tiny
from own import OwnCode
from podium.config.params import Params, parse
from podium.errors import InputError, PodiumError
from podium.tuning import reference_measuring
from podium.tuning.reference_lines import LABELS, described, verdict
from podium.tuning.reference_process import measure

pytestmark = pytest.mark.slow


_forking = multiprocessing.get_context("fork")
"""Its processes have what a test has replaced."""


def _params(metric: str = "accuracy") -> Params:
    return parse(f"search: {{metric: {metric}}}\nruntime: {{engine: processes}}\n")


def _metric(own: OwnCode, body: str) -> str:
    return (
        own.write(f"""
        import os


        def odd(logits, labels):
            {body}


        odd.direction = "maximize"
        """)
        + ":odd"
    )


def test_lines_of_a_process_are_those_that_this_one_would_measure(tmp_path: Path) -> None:
    prepared = tiny.prepare(tmp_path)
    assert measure(_params(), prepared) == reference_measuring.measure(_params(), prepared)


def test_search_whose_lines_are_killed_goes_on_without_them_and_says_why(own: OwnCode, tmp_path: Path) -> None:
    lines = measure(_params(_metric(own, "os.kill(os.getpid(), 9)")), tiny.prepare(tmp_path / "prepared"))
    assert lines.lines == ()
    assert lines.skipped == dict.fromkeys(LABELS, "its process was killed by SIGKILL (out of memory?)")
    shown = described(lines, 0.75, "the search's best (trial 3)")
    assert "on the same 20 validation images" in shown[0]
    assert verdict(lines, 0.75, {}) == ""


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried 9 bytes")])
def test_search_whose_lines_find_too_little_memory_goes_on_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fails(params: Params, prepared: Path) -> None:
        raise error

    monkeypatch.setattr(reference_measuring, "measure", fails)
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: _forking)
    lines = measure(_params(), tiny.prepare(tmp_path / "prepared"))
    assert lines.lines == ()
    assert "its process found too little memory" in lines.skipped["majority"]


def test_process_that_ends_by_itself_is_an_error(own: OwnCode, tmp_path: Path) -> None:
    params = _params(_metric(own, "os._exit(0)"))
    with pytest.raises(PodiumError, match=r"could not be measured: its process ended with exit code 0") as caught:
        measure(params, tiny.prepare(tmp_path / "prepared"))
    assert not isinstance(caught.value, InputError)
