"""One test per check of the machine."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline import ROOT
from podium.doctor import machine
from starting import free_port


@pytest.mark.parametrize(("found", "level"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")])
def test_python_that_is_too_old_is_found(found: tuple[int, ...], level: str) -> None:
    assert machine.python(found).level == level


@pytest.mark.parametrize(
    ("lines", "level", "named"),
    [
        ("torch=={torch} \\\n    --hash=sha256:0", "ok", ""),
        ("torch==0.1 \\\n    --hash=sha256:0", "note", "torch {torch} (lock: 0.1)"),
        ("no-such-package==1.0", "fail", "no-such-package 1.0"),
        ("no-such-package==1.0 ; sys_platform == 'win32'", "ok", ""),
    ],
)
def test_packages_that_differ_from_the_lock_are_named(tmp_path: Path, lines: str, level: str, named: str) -> None:
    from importlib.metadata import version

    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\n" + lines.format(torch=version("torch")) + "\n", encoding="utf-8")
    found = machine.packages(lock)
    assert found.level == level
    assert named.format(torch=version("torch")) in found.found


@pytest.mark.parametrize(
    ("lines", "level", "named"),
    [
        ("torch\n\n# a comment\nnumpy>=1  # of ours\n-r more.txt\n", "ok", ""),
        ("no-such-package\n", "fail", "no-such-package"),
        ("numpy<1\n", "fail", "numpy<1 (here "),
        ("no-such-package; sys_platform == 'win32'\n", "ok", ""),
    ],
)
def test_packages_that_own_code_wants_and_are_not_installed_are_named(
    tmp_path: Path, lines: str, level: str, named: str
) -> None:
    requirements = tmp_path / "requirements-own.txt"
    assert machine.own_packages(requirements).level == "ok"
    requirements.write_text(lines, encoding="utf-8")
    found = machine.own_packages(requirements)
    assert found.level == level
    assert named in found.found


@pytest.mark.parametrize(
    ("encoding", "level"), [("utf-8", "fail"), ("utf-8-sig", "fail"), ("utf-16", "note"), ("latin-1", "note")]
)
def test_own_packages_of_any_encoding_are_read_or_said_to_be_of_another(
    tmp_path: Path, encoding: str, level: str
) -> None:
    requirements = tmp_path / "requirements-own.txt"
    requirements.write_text("no-such-package-of-podium==1  # f\u00fcr alle\n", encoding=encoding)
    found = machine.own_packages(requirements)
    assert found.level == level
    is_read = encoding.startswith("utf-8")
    assert ("not installed: no-such-package-of-podium==1" in found.found) is is_read
    assert ("is not UTF-8 (byte " in found.found) is not is_read


def test_cuda_that_is_asked_for_and_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.cuda("auto").level == "ok"
    found = machine.cuda("cuda")
    assert found.level == "fail"
    assert f"torch {torch.__version__}" in found.found


@pytest.mark.parametrize(("free", "level"), [(1e8, "fail"), (3e9, "note"), (1e11, "ok")])
def test_disk_that_is_nearly_full_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: str
) -> None:
    monkeypatch.setattr("podium.doctor.machine.shutil.disk_usage", lambda root: SimpleNamespace(free=free))
    assert machine.disk(tmp_path).level == level


def test_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        port = free_port()
        held.bind(("127.0.0.1", port))
        held.listen()
        monkeypatch.setattr(machine, "PORTS", {port: "make ui"})
        assert f"{port} (make ui)" in machine.ports().found
    assert machine.ports().level == "ok"


def test_make_install_installs_what_own_code_wants_and_again_where_that_changes(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in (".venv/bin/uv", ".venv/installed"):
        (tmp_path / name).write_text(str(tmp_path), encoding="utf-8")

    def planned() -> str:
        command = ["make", "--dry-run", "--no-print-directory", "install"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    assert "pip install" not in planned()
    own = tmp_path / "requirements-own.txt"
    own.write_text("no-such-package\n", encoding="utf-8")
    later = (tmp_path / ".venv/installed").stat().st_mtime + 10
    os.utime(own, (later, later))
    assert "-c requirements.lock -r requirements-own.txt" in planned()
