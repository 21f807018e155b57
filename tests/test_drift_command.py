"""`podium drift` on registered versions: its exit codes, what it prints, and what it refuses."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

import tiny
from podium.cli import main
from podium.config.params import DriftParams
from podium.drift.reference import NAME, Reference
from podium.drift.sketch import Sketch
from podium.drift.windows import Rules, Windows, folder_of
from podium.promotion import champion
from podium.registry import versions
from registered import NAME as MODEL
from registered import Project

pytestmark = pytest.mark.slow

AT = datetime.now().timestamp()


def windows(project: Project, number: int = 3) -> Windows:
    """The windows of a version, each of 100 images."""
    version = versions.find(project.tracking, MODEL, number)
    with versions.checked(project.tracking, version) as files:
        reference = Reference.from_bytes((files / "artifacts/model" / NAME).read_bytes(), NAME)
    params = DriftParams(window=100)
    folder = folder_of(params, MODEL, number, versions.digest_of(version))
    return Windows(folder, reference, Rules.of(params))


def answered(place: Windows, change: float = 1.0, count: int = 100, hours: float = 0.0) -> Sketch:
    """Images like the training images, but for brightness, answered some hours ago."""
    images, labels = tiny.pixels(count, seed=int(1000 * change) + 7)
    images = (images * change).astype(np.uint8)
    rows = place.reference.measure(images, np.full((count, 2), tiny.SIZE), np.eye(3, dtype=np.float32)[labels])
    for name in place.reference.answer_names:  # the answers are not what changes here
        column = place.reference.column(name)
        rows[:, place.reference.names.index(name)] = np.resize(column, count)
    sketch = place.fresh()
    shares = place.reference.class_counts / place.reference.class_counts.sum()
    predicted = np.repeat(np.arange(3), np.diff(np.rint(np.cumsum([0, *shares]) * count).astype(int)))
    sketch.add(rows, np.random.default_rng(1).random(count), predicted, AT - 3600 * hours)
    return sketch


def code(*arguments: str) -> int:
    """The exit code of `podium drift`."""
    try:
        main(["drift", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_drift_is_exit_code_1_and_its_name_no_drift_is_0(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    place = windows(project)
    place.add(answered(place, count=40))
    assert code("3") == 0
    assert "no window is complete yet: nothing is compared" in capsys.readouterr().out
    place.add(answered(place, count=60))
    assert code("3") == 0
    assert "window 1: 100 images" in capsys.readouterr().out
    place.add(answered(place, 0.5))
    assert code("3") == 1
    said = capsys.readouterr()
    assert "darker" in said.out
    assert "version 3: drift in window 2: " in said.err


def test_reader_who_has_closed_the_pipe_gets_the_same_exit_code_and_page(project: Project) -> None:
    place = windows(project)
    place.add(answered(place, 0.5))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "podium.cli", "drift", "3", "--out", "drift.html"]
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"podium: {MODEL} version 3: drift in window 1: darker")
    assert Path("drift.html").is_file()


def test_hours_look_at_every_window_that_ended_in_them(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    place = windows(project)
    for change, hours in ((0.5, 30), (0.5, 5), (1.0, 1)):
        place.add(answered(place, change, hours=hours))
    assert code("3") == 0
    assert code("3", "--hours", "2") == 0
    assert code("3", "--hours", "6") == 1
    assert "drift in window 2: " in capsys.readouterr().err
    assert code("3", "--hours", "48", "--json") == 1
    said = capsys.readouterr()
    assert [(one["window"], one["drifted"]) for one in json.loads(said.out)] == [(1, True), (2, True), (3, False)]
    assert "drift in window 2, and in 1 window before it: " in said.err


def test_page_is_written_where_it_is_asked_for(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    place = windows(project)
    place.add(answered(place))
    assert code("3", "--out", "pages/drift.html") == 0
    assert "pages/drift.html" in capsys.readouterr().out
    assert f"{MODEL} version 3: Podium drift" in Path("pages/drift.html").read_text(encoding="utf-8")
    assert code("3", "--json", "--out", "pages/drift.html") == 0
    said = capsys.readouterr()
    assert [one["window"] for one in json.loads(said.out)] == [1]
    assert said.err == "pages/drift.html\n"
    Path("taken").write_text("", encoding="utf-8")
    assert code("3", "--out", "taken/drift.html") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["3"], "no server has stored statistics of what tiny-classifier version 3 served"),
        (["9"], "has no version 9"),
        ([], "no version with the alias 'champion'"),
        (["x"], "must be the number of a version"),
        (["3", "--hours", "0"], "must be a number of hours above 0"),
    ],
)
def test_what_is_wrong_is_exit_code_2(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert code(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_champion_is_the_default(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    images = champion.Images(project.path("sealed"), project.path("prepared"))
    champion.promote(project.tracking, MODEL, 2, images, force="a test")
    place = windows(project, 2)
    place.add(answered(place))
    assert code() == 0
    assert "tiny-classifier version 2: 0 images of 1,000 in the open window" in capsys.readouterr().out


def test_damaged_windows_are_exit_code_2_and_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    place = windows(project)
    place.add(answered(place))
    (place.folder / "windows/000001.json").write_text("{}", encoding="utf-8")
    assert code("3") == 2
    assert "000001.json is damaged" in capsys.readouterr().err
    (place.folder / "windows/000001.json").unlink()
    whole = (place.folder / "windows/000001.npz").read_bytes()
    at = whole.index(b"PK\1\2") + 8  # one bit of the directory: "encrypted"
    (place.folder / "windows/000001.npz").write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    assert code("3") == 2
    assert "000001.npz is damaged: " in capsys.readouterr().err
    shutil.rmtree(place.folder)
    place.folder.write_text("", encoding="utf-8")
    assert code("3") == 2


def store_error() -> MlflowException:
    """As MLflow raises it where another program holds its database."""
    error = MlflowException("the call failed")
    error.__context__ = sqlite3.OperationalError("database is locked")
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PermissionError(13, "Permission denied", "mlruns/drift"),
            "podium: mlruns/drift: Permission denied. What was recorded before is complete; free some space or make it",
        ),
        (
            store_error(),
            "podium: tracking.uri: MLflow's store failed: database is locked. What was recorded before is complete."
            " Another program has locked it",
        ),
        (FileNotFoundError(2, "No such file", "x"), "is not known: FileNotFoundError (above) is a bug of Podium"),
        (ZeroDivisionError("in a test"), "whether there is drift is not known: ZeroDivisionError (above) is a bug"),
    ],
)
def test_whatever_fails_is_exit_code_2_as_1_says_drift(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    sentence: str,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(Windows, "settle", fails)
    assert code("3") == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert ("Traceback" in said) == ("(above)" in sentence)
