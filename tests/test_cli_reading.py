"""The commands that people read with, on a pipeline that has run: report, profile, doctor, completion."""

import subprocess
import sys
from pathlib import Path

import pytest

from finished import Finished
from podium import paths
from test_cli import run


@pytest.mark.slow
def test_report_is_made_once_and_again_when_asked(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    page = paths.REPORT / "index.html"
    page.unlink(missing_ok=True)
    assert run("report") == 0
    assert capsys.readouterr().out.strip() == str(page)
    page.write_text("mine", encoding="utf-8")
    assert run("report") == 0
    assert page.read_text(encoding="utf-8") == "mine"
    assert run("report", "--rebuild") == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
def test_profile_of_a_changed_configuration_says_where_the_time_goes(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "profile"
    assert run("profile", "--set", "train.batch_size=8", "--steps", "3", "--out", str(out)) == 0
    assert "3 steps of 8 images on cpu" in capsys.readouterr().out
    assert "| backward |" in (out / "profile.md").read_text(encoding="utf-8")
    assert list((out / "profile").glob("*.pt.trace.json"))
    assert run("profile", "--chosen", "--steps", "2", "--out", str(out)) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "train.batch_sise=8"], "did you mean train.batch_size?"),
        (["--set", "train.batch_size=0"], "train.batch_size: must be greater than or equal to 1; got 0"),
        (["--set", "train.batch_size"], "must be NAME=VALUE"),
        (["--steps", "0"], "--steps: must be at least 1; got 0"),
        (["--chosen"], "run `dvc repro select`"),
        (["--show"], "holds no trace"),
    ],
)
def test_profile_of_nonsense_exits_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    assert run("profile", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.slow
def test_doctor_reports_and_exits_1_where_something_would_fail(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor") == 0
    assert "ok    tracking" in capsys.readouterr().out
    old = Path("mlruns/7")
    old.mkdir()
    (old / "meta.yaml").touch()
    try:
        assert run("doctor") == 1
    finally:
        (old / "meta.yaml").unlink()
        old.rmdir()
    assert "1 check failed: mlruns layout" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_printed_and_knows_the_commands(shell: str) -> None:
    command = [sys.executable, "-m", "podium.cli", "--print-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rollback" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
