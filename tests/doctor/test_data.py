"""`podium doctor data` runs prepare's own checks: it fails where prepare would, and nowhere else."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import photos
from podium import cli


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
            lambda root: [(root / f"cat/{n}.png").write_bytes(b"no image") for n in range(100, 109)],
            "doctor.left_out: files that are left out, too many of them",
        ),
    ],
    ids=["empty class", "too few", "layout", "pipe", "link to nowhere", "left out"],
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
