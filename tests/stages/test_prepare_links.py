"""A project in which DVC links hard: the files of pixels are in the store, in DVC's cache and in data/ at once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import shards
from podium.stages.prepare import prepare

STAGE = """
from podium import process
from podium.data import shards
from podium.stages import prepare

shards.FILE_BYTES = 8192
process.run_stage(prepare.main)
"""
PIPELINE = f"""
stages:
  prepare:
    cmd: {sys.executable} stage.py
    params: [prepare]
    deps: [raw, stage.py]
    outs: [data/prepared, data/sealed]
"""


def _dvc(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _add(folder: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    photos.write(folder / "raw" / "ab"[number % 2] / f"{number}.png", Image.fromarray(pixels))


def _pixels(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("images-*.npy")}


@pytest.mark.slow
def test_added_image_writes_one_file_of_pixels_where_dvc_links_hard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        _add(tmp_path, number)
    (tmp_path / "params.yaml").write_text("prepare: {source: 'folder:raw', root: raw, min_per_class: 1}\n")
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    _dvc(tmp_path, "init", "--no-scm")
    _dvc(tmp_path, "config", "cache.type", "hardlink,symlink")
    _dvc(tmp_path, "repro")
    before = {name: path.stat().st_ino for name, path in _pixels(tmp_path / "data/prepared").items()}
    _add(tmp_path, 120)
    _dvc(tmp_path, "repro")

    found = _pixels(tmp_path / "data/prepared")
    cached = {path.stat().st_ino for path in (tmp_path / ".dvc/cache").rglob("*")}
    kept = {path.stat().st_ino for path in (tmp_path / "data/.decoded").rglob("linked-*")}
    inodes = {name: path.stat().st_ino for name, path in found.items()}
    assert set(inodes.values()) <= cached & kept
    assert sum(before[name] != inode for name, inode in inodes.items()) <= 1
    monkeypatch.setattr(shards, "FILE_BYTES", 8192)
    monkeypatch.chdir(tmp_path)
    fresh = tmp_path / "fresh"
    params = PrepareParams(source="folder:raw", root="raw", min_per_class=1)
    prepare(
        params, DoctorParams(), fresh / "prepared", fresh / "sealed", fresh / ".decoded", Path("data/split/split.csv")
    )
    same = _pixels(fresh / "prepared")
    assert same.keys() == found.keys()
    assert all(same[name].read_bytes() == path.read_bytes() for name, path in found.items())
