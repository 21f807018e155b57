"""The benchmarks can be started, and what was recorded for them is whole. Their figures are nobody's test."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from finished import Finished
from podium import paths

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmark_is_importable(script: str) -> None:
    importlib.import_module(script)


def test_peers_are_installed_beside_all_that_podium_imports() -> None:
    """Podium is installed there without its requirements: what requirements.lock gained is in the peers' lock too."""
    own, theirs = (
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))
        for path in ("requirements.lock", "benchmarks/peers/requirements.lock")
    )
    assert own
    assert own - theirs == set(), "make bench-lock brings them there"


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("problem", sorted(path.stem for path in (ROOT / "benchmarks/curves").glob("*.csv")))
def test_recorded_curves_are_whole(problem: str) -> None:
    table = importlib.import_module("curves").load(problem)
    first = [curve.number for curve in table if curve.seed == 0 and curve.number >= 0]
    assert len(first) == len(set(first))
    assert len(first) >= 8
    for curve in table:
        assert 1 <= len(curve.accuracy) <= curve.recipe.train.epochs
        assert all(0 <= value <= 1 for value in curve.accuracy)


def test_what_make_bench_runs_and_the_figures_page_lists_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)
    assert line is not None
    readme = (ROOT / "docs/benchmarks/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)\.py` \|", readme, re.MULTILINE)
    assert {*re.findall(r"(\w+)\.py", line[1]), *listed} <= set(SCRIPTS)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("fidelity", "--seconds nope", "--seconds must be one of digits, bare"),
        ("fidelity", "--seconds script", "which benchmarks/curves.py recorded; got script"),
        ("fidelity", "--seconds bare --only nope", "--only must name some of tpe + median, tpe + halving"),
        ("fidelity", "--only nope", "--only must name some of random, tpe, one epoch"),
        ("fidelity", "--slower 10", "--slower goes with --seconds PROBLEM only; got --slower 10 without it"),
        ("fidelity", "--limit 9", "--limit goes with --seconds PROBLEM only"),
        ("fidelity", "--seconds bare --slower 0", "--slower must be a number above 0; got 0"),
        ("portfolio", "--limits photos=8,nope=3", "got nope=3"),
        ("portfolio", "--limits photos=soon", "each with seconds above 0: photos=8; got photos=soon"),
    ],
)
def test_benchmark_refuses_what_it_can_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, arguments: str, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(script).main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_finalists_of_a_search_that_is_followed_are_those_of_its_ranking(finished: Finished) -> None:
    thaw = importlib.import_module("thaw")
    journal = (finished.folder / "mlruns/optuna.journal").read_bytes()
    search = journal[: journal.index(b'{"op_code":0', 1)]  # the confirmation is a study of its own
    followed = thaw.finalists(SimpleNamespace(folder=finished.folder), search, [(1.0, len(search))], 14)
    ranking = json.loads((paths.SEARCH / "ranking.json").read_text(encoding="utf-8"))
    base = finished.params.recipe()
    assert followed[-1][1] == [thaw._choice(base.replace(entry["recipe"])) for entry in ranking]
    assert followed[-1][2] == ranking[0]["value"]
