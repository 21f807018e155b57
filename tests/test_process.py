"""How a process ends when a store fails in the middle of its work, and what a traceback is left for."""

import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException

from own import OwnCode
from podium import own_code, process


def _full(folder: Path) -> None:
    """SQLite's own error of a database that can't grow."""
    connection = sqlite3.connect(folder / "full.db")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (?)", ["x" * 100_000])


def _locked(folder: Path) -> None:
    holder = sqlite3.connect(folder / "held.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        engine = sqlalchemy.create_engine(f"sqlite:///{folder}/held.db", connect_args={"timeout": 0})
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT * FROM sqlite_master"))
    finally:
        holder.close()


def _away(folder: Path) -> None:
    raise ConnectionRefusedError("no server")


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (_full, "database or disk is full. What was recorded before is complete. Free some space"),
        (_locked, "database is locked. What was recorded before is complete. Another program has locked it"),
        (_away, "API request failed. What was recorded before is complete. See that the server is running"),
    ],
)
def test_store_that_fails_is_a_sentence_with_a_remedy(
    fails: Callable[[Path], None], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        try:
            fails(tmp_path)
        except Exception:
            raise MlflowException("API request failed")  # noqa: B904 (as MLflow does)

    with pytest.raises(SystemExit) as ended:
        process.run(main)
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith(f"podium: tracking.uri: MLflow's store failed: {words}")
    assert text.count("\n") == 1


def test_array_that_a_full_disk_took_a_part_of_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            try:
                np.zeros(1000).tofile(file)
            except OSError as error:
                raise OSError("8000 requested and 0 written") from error  # as numpy does after a part

    with pytest.raises(SystemExit):
        process.run(main)
    assert capsys.readouterr().err.startswith("podium: No space left on device. What was recorded before is complete")


@pytest.mark.parametrize("error", [MlflowException("no such run"), ValueError("a bug"), KeyError("x")])
def test_bug_keeps_its_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        process.run(main)


READER = """
from podium import errors, process

def main():
    with process.unread_output():
        print("a table")
    print("more")
    ENDS

"""
MAIN = "process.run(main)"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("ends", "code", "message"),
    [
        ("", 0, ""),
        ("raise errors.RefusedError('drift')", 1, "podium: drift\n"),
        ("raise errors.InputError('unknown')", 2, "podium: unknown\n"),
    ],
)
def test_reader_who_has_closed_the_pipe_changes_no_exit_code(
    ends: str, code: int, message: str, unbuffered: str
) -> None:
    command = [sys.executable, "-c", READER.replace("ENDS", ends) + MAIN]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command, env=environment, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, message)
        done = subprocess.run(command, env=environment, stdout=closed, stderr=closed, text=True, check=False)
        assert done.returncode == code  # 2>&1 | head


@pytest.mark.parametrize(
    ("ends", "code", "message"),
    [("", 1, "podium: No space left on device. What"), ("raise errors.InputError('x')", 2, "podium: x\n")],
)
def test_output_that_a_full_disk_does_not_take_keeps_the_exit_code(ends: str, code: int, message: str) -> None:
    command = [sys.executable, "-c", f"from podium import errors, process\ndef main():\n  print(1)\n  {ends}\n{MAIN}"]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert done.stderr.startswith(message)


@pytest.mark.slow
@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_line_that_nothing_depends_on_may_meet_a_full_disk(full: str) -> None:
    text = (
        f"from podium import process\nimport sys\ndef main():\n  process.print_if_possible('here', sys.{full})\n{MAIN}"
    )
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Path("/dev/full").open("wb") as file:
        done = subprocess.run([sys.executable, "-c", text], env=environment, check=False, **(pipes | {full: file}))
    assert (done.returncode, done.stdout or b"", done.stderr or b"") == (0, b"", b"")


OWN = """
import json, sqlite3


def fails():
    raise KeyError("lr")


def library():
    json.loads("{")


def ends(code=0):
    raise SystemExit(code)


def full():
    raise OSError(28, "No space left on device")


def calls(podium):
    podium()


def forbidden():
    raise PermissionError(13, "Permission denied", "/data/table.csv")


def database():
    sqlite3.connect(":memory:").execute("SELECT * FROM t")


CONNECT = "import sqlite3; sqlite3.connect('/no/folder')"


def store():
    exec(compile(CONNECT, "/lib/site-packages/mlflow/store.py", "exec"), {"__name__": "mlflow.store"})


def folder():
    exec(compile(CONNECT, "/home/me/mlflow/src/mine.py", "exec"), {"__name__": "mine"})
"""
FAILURES = {
    "fails": ("fails", "podium: your own code failed: src/{m}.py, line 5, in fails: KeyError: 'lr'"),
    "in a library": ("library", "podium: your own code failed: src/{m}.py, line 9, in library: JSONDecodeError: "),
    "ends with 0": (
        "ends",
        "podium: your own code ended the program: src/{m}.py, line 13, in ends: SystemExit: 0. Let",
    ),
    "a full disk": (
        "full",
        "podium: No space left on device (src/{m}.py, line 17, in full). What was recorded before is complete; free so",
    ),
    "a file that it may not write": (
        "forbidden",
        "podium: /data/table.csv: Permission denied (src/{m}.py, line 25, in forbidden). What was recorded before is",
    ),
    "a database of its own": (
        "database",
        "podium: your own code failed: src/{m}.py, line 29, in database: OperationalError: no such table: t",
    ),
    "MLflow's store": (
        "store",
        "podium: tracking.uri: MLflow's store failed: unable to open database file (src/{m}.py, line 36, in store). W",
    ),
    "a database of its own, in a folder called mlflow": ("folder", "podium: your own code failed: /home/me/mlflow/src"),
}


@pytest.mark.parametrize(("name", "message"), FAILURES.values(), ids=FAILURES)
def test_own_code_that_fails_anywhere_is_a_sentence_with_its_line(
    own: OwnCode, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    module = own.write(OWN)
    with pytest.raises(SystemExit) as ended:
        process.run(own_code.load(f"{module}:{name}", ""))
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(message.format(m=module))


def test_bug_of_podium_below_own_code_keeps_its_traceback(own: OwnCode) -> None:
    calls = own_code.load(f"{own.write(OWN)}:calls", "")
    bug: Any = own_code.described  # of Podium's, called with too little
    with pytest.raises(TypeError):
        process.run(lambda: calls(lambda: own_code.is_name(bug)))


def test_exit_of_podium_itself_keeps_its_code() -> None:
    with pytest.raises(SystemExit) as ended:
        process.run(lambda: sys.exit(7))
    assert ended.value.code == 7


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--help"], 0, "It takes no arguments: params.yaml has its settings."),
        (["-h"], 0, "It takes no arguments"),
        (["--force", "all"], 2, "a stage takes no arguments: params.yaml has its settings; got --force all"),
    ],
)
def test_stage_that_is_given_arguments_does_nothing_but_say_so(
    given: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *given])
    monkeypatch.setattr("gc.freeze", lambda: None)
    began: list[bool] = []
    try:
        process.run_stage(lambda: began.append(True))
        ended = 0
    except SystemExit as end:
        ended = int(end.code or 0)
    assert (ended, began) == (code, [])
    assert words in "".join(capsys.readouterr())


SOCKETS = """
from multiprocessing import forkserver, util
from podium import process

def main():
    forkserver.ensure_running()
    print(util.get_temp_dir())

process.run(main)
"""


@pytest.mark.parametrize(
    ("name", "length", "is_used"),
    [("TMPDIR", 60, True), ("TMPDIR", 71, True), ("TMPDIR", 72, False), ("TMPDIR", 200, False), ("TEMP", 90, False)],
)
def test_processes_start_below_a_long_folder_for_temporary_files(name: str, length: int, is_used: bool) -> None:
    with tempfile.TemporaryDirectory(dir=process.SHORT) as short:
        given = Path(short, "x" * (length - len(short) - 1))
        given.mkdir()
        others = {key: value for key, value in os.environ.items() if key not in {"TMPDIR", "TEMP", "TMP"}}
        done = subprocess.run(
            [sys.executable, "-c", SOCKETS], env=others | {name: str(given)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        made = Path(done.stdout.strip())
        assert made.parent == (given if is_used else Path(process.SHORT))
        assert not made.exists()


def test_folder_that_is_too_long_where_no_other_can_be_written_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", refuse)
    with pytest.raises(SystemExit) as ended:
        process.run(lambda: None)
    assert ended.value.code == 2
    assert "TMPDIR is too long for the path of a socket" in capsys.readouterr().err
    assert tempfile.gettempdir() == str(long)
