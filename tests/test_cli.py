"""The command as people type it: what is printed, and the exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import registered
from podium import cli
from registered import NAME, Project

HEAVY = ("torch", "mlflow", "pandas", "numpy", "optuna", "pydantic")


def run(*arguments: str) -> int:
    """The exit code."""
    try:
        cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    "arguments", [["--help"], ["promote", "--help"], ["predict", "--help"], ["rollback", "--help"]]
)
def test_help_shows_examples_and_exit_codes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert "examples:\n  podium " in out
    assert "xit code" in out


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
import podium.cli
try:
    podium.cli.main(["--help"])
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["crown"], "invalid choice: 'crown'"),
        (["promote", "one"], "must be the number of a version, such as 7; got 'one'"),
        (["promote", "0"], "must be the number of a version, such as 7; got '0'"),
        (["rollback"], "the following arguments are required: --reason"),
        (["predict"], "the following arguments are required: FILE"),
        (["predict", "--version", "1", "--alias", "champion", "x.png"], "not allowed with argument"),
    ],
)
def test_arguments_that_make_no_sense_exit_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_any_command_outside_of_a_project_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("history") == 2
    assert "podium: params.yaml can't be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_promote_refuse_rollback_history(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("history") == 0
    assert "no version of tiny-classifier has ever been champion" in capsys.readouterr().out
    assert run("promote", "1") == 0
    out = capsys.readouterr().out
    assert f"{NAME} version 1 is the champion now: accuracy 0.6667 on 90" in out
    assert "ok  recall       of every class at least 0" in out
    assert run("promote", "2") == 1
    assert f"podium: {NAME} version 2 was not promoted: accuracy 0.3333 against 0.6667" in capsys.readouterr().err
    assert run("promote") == 0
    assert f"{NAME} version 3 is the champion now: accuracy 1.0000 against 0.6667" in capsys.readouterr().out
    assert run("promote") == 0
    assert f"{NAME} version 3 is the champion already" in capsys.readouterr().out
    assert run("rollback", "--reason", "confuses left and top") == 0
    assert f"{NAME} version 1 is the champion again, in place of version 3" in capsys.readouterr().out
    assert run("rollback", "--reason", "again") == 1
    assert "has no earlier champion" in capsys.readouterr().err
    assert run("history") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["promote", "promote", "rollback"]
    assert lines[3].endswith("confuses left and top")
    assert run("history", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["from"], entry["to"]) for entry in entries] == [(None, 1), (1, 3), (3, 1)]


def test_promote_without_any_version_exits_2(store: object, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").touch()
    assert run("promote") == 2
    assert "nothing is registered as digits-classifier: run `dvc repro`" in capsys.readouterr().err


@pytest.mark.slow
def test_history_after_a_move_by_hand_shows_it_and_exits_1(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("promote", "1") == 0
    project.tracking.client.set_registered_model_alias(NAME, "champion", "2")
    capsys.readouterr()
    assert run("history") == 1
    shown = capsys.readouterr()
    assert "promote" in shown.out
    assert "champion is version 2, and the ledger says version 1" in shown.err


@pytest.fixture
def files(project: Project) -> list[str]:
    """Three images as files."""
    for number, data in enumerate(registered.reference_images(project.folder)[:3]):
        Path(f"{number}.png").write_bytes(data)
    return ["0.png", "1.png", "2.png"]


@pytest.mark.slow
def test_predict_by_a_champion_that_was_moved_by_hand_says_so(
    project: Project, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    project.tracking.client.set_registered_model_alias(NAME, "champion", "2")
    for arguments, warned in ((files, True), (["--version", "2", *files], False)):
        assert run("predict", *arguments) == 0
        said = capsys.readouterr()
        assert len(answers(said.out)) == 3
        assert ("podium: warning: tiny-classifier version 2 is champion by a move outside" in said.err) == warned


def answers(out: str) -> list[tuple[str, str]]:
    """File and label of each line below the heading."""
    return [(cells[0], cells[2]) for cells in (line.split() for line in out.splitlines()[1:])]


def test_predict_by_alias_or_version_prints_a_line_a_file(
    project: Project, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [("0.png", "left"), ("1.png", "right"), ("2.png", "top")]
    assert run("predict", "--version", "3", *files) == 0
    assert answers(capsys.readouterr().out) == expected
    assert run("predict", "--alias", "challenger", *files) == 0
    assert answers(capsys.readouterr().out) == expected


def test_predict_past_bad_files_names_them_and_exits_1(
    project: Project, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("promote") == 0
    Path("bad.png").write_bytes(b"hello")
    capsys.readouterr()
    assert run("predict", files[0], "bad.png", "absent.png", files[2]) == 1
    shown = capsys.readouterr()
    assert answers(shown.out) == [("0.png", "left"), ("2.png", "top")]
    lines = shown.err.splitlines()
    assert lines[0].startswith("podium: bad.png: it is no image that can be read")
    assert lines[1] == "podium: absent.png: it can't be read: No such file or directory"
    assert lines[2] == "podium: 2 of 4 files could not be predicted"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "0.png"], "no version with the alias 'champion', only 1, 2, 3"),
        (["predict", "--version", "8", "0.png"], "has no version 8, only 1, 2, 3"),
    ],
)
def test_predict_without_such_a_model_exits_2(
    project: Project, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "problem"), [(("--port", "70000"), "--port: must be less than"), (("--port", "0"), "--port: must be")]
)
def test_serve_at_an_impossible_place_is_said_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("serve: {port: 5001}\n", encoding="utf-8")
    assert run("serve", *option) == 2
    assert problem in capsys.readouterr().err
