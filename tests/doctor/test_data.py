"""`podium doctor data` runs prepare's own checks: it fails where prepare would, and nowhere else."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import photos
from podium import cli
from podium.errors import PodiumError
from podium.stages import prepare


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with twelve photographs of two classes."""
    monkeypatch.chdir(tmp_path)
    photos.folder(tmp_path / "data/raw", per_class=20)
    return tmp_path


def _doctor(**prepare: Any) -> None:
    section = {"source": "folder:data/raw", "root": "data/raw", "size": 16, "min_per_class": 2, "val_fraction": 0.3}
    Path("params.yaml").write_text(json.dumps({"prepare": section | {"test_fraction": 0.3} | prepare}), "utf-8")
    cli.main(["doctor", "data"])


def test_sound_images_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _doctor()

    assert "classes (train/val/test): cat " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "fox").mkdir(), "prepare.min_per_class: every class needs"),
        (lambda root: [path.unlink() for path in sorted((root / "dog").iterdir())[2:]], "prepare.min_per_class"),
        (lambda root: photos.folder(root / "train"), "prepare.layout: "),
        (lambda root: os.mkfifo(root / "cat/pipe.png"), "dvc repro would fail: .*cat/pipe.png: it is neither a file"),
        (lambda root: (root / "cat/gone.png").symlink_to("nowhere"), "dvc repro would fail: .*it is a link to nowhere"),
        (
            lambda root: (root.parent / "split").write_bytes(b""),
            "prepare would fail: data/split is a file, and a folder",
        ),
        (lambda root: (root.parent / "split").symlink_to("x"), "prepare would fail: data/split is a link to nowhere"),
        (lambda root: (root.parent / ".decoded").write_bytes(b""), r"prepare would fail: .*\.decoded"),
        (
            lambda root: [(root / f"cat/{n}.png").write_bytes(b"no image") for n in range(100, 109)],
            "doctor.left_out: files that are left out, too many of them",
        ),
    ],
    ids=[
        "empty class",
        "too few",
        "layout",
        "pipe",
        "link to nowhere",
        "split is a file",
        "split is a link",
        "store",
        "left out",
    ],
)
def test_what_prepare_or_dvc_would_refuse_exits_with_1(
    project: Path, change: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(project / "data/raw")

    with pytest.raises(SystemExit) as end:
        _doctor()

    assert end.value.code == 1
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert "nothing wrong was found" not in said.out
    page = Path("mlruns/doctor/audit.html")
    assert not page.exists() or 'class="verdict refuse"' in page.read_text(encoding="utf-8")


def test_disk_without_room_for_the_images_exits_with_1_and_prepare_says_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.statvfs("data")
    full = os.statvfs_result((real.f_bsize, real.f_frsize, real.f_blocks, 7, 7, *tuple(real)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    why = re.compile(r"data has room for \d+ MB, and the images need \d+ MB more: make room there")
    with pytest.raises(SystemExit) as end:
        _doctor(size=256)
    assert end.value.code == 1
    assert why.search(capsys.readouterr().err)
    with pytest.raises(PodiumError, match=why.pattern):
        prepare.main()
    assert not Path("data/prepared").exists()
    assert not Path("data/split").exists()
