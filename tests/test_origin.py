"""What makes a version again: the uncommitted changes as a patch, the packages, the outputs of a lock."""

import subprocess
from pathlib import Path

import pytest

from podium.lineage import origin


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A work tree of one commit, the project in a folder below its top."""
    project = tmp_path / "below"
    project.mkdir()
    git(tmp_path, "init", "--quiet")
    for name, text in (("code.py", "1\n"), ("gone.py", "1\n"), ("dvc.lock", "1\n"), (".gitignore", "ignored\n")):
        (project / name).write_text(text, encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")
    return project


def test_patch_of_changed_new_and_removed_files_makes_them_again(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (checkout / "code.py").write_text("2\n", encoding="utf-8")
    (checkout / "new.bin").write_bytes(bytes(range(256)))
    (checkout / "gone.py").unlink()
    (checkout / "dvc.lock").write_text("2\n", encoding="utf-8")
    (checkout / "ignored").write_text("secret\n", encoding="utf-8")
    before = git(checkout, "status", "--porcelain")
    patch = origin.uncommitted(checkout)
    assert git(checkout, "status", "--porcelain") == before
    assert "secret" not in patch
    again = tmp_path_factory.mktemp("again")
    (again / "code.py").write_text("1\n", encoding="utf-8")
    (again / "gone.py").write_text("1\n", encoding="utf-8")
    (again / "x.patch").write_text(patch, encoding="utf-8")
    git(again, "apply", "x.patch")
    assert (again / "code.py").read_text(encoding="utf-8") == "2\n"
    assert (again / "new.bin").read_bytes() == bytes(range(256))
    assert not (again / "gone.py").exists()
    assert not (again / "dvc.lock").exists()


def test_patch_of_a_clean_tree_is_empty(checkout: Path) -> None:
    assert origin.uncommitted(checkout) == ""


def test_patch_outside_of_a_checkout_is_empty(tmp_path: Path) -> None:
    assert origin.uncommitted(tmp_path) == ""


def test_patch_that_is_no_code_is_left_out(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "LARGEST", 1000)
    (checkout / "new.txt").write_text("x" * 2000, encoding="utf-8")
    assert origin.uncommitted(checkout).startswith("# 2,")


def test_write_keeps_the_files_without_passwords(checkout: Path, tmp_path: Path) -> None:
    (checkout / "params.yaml").write_text("tracking: {uri: 'postgresql://me:hunter2@host/db'}\n", encoding="utf-8")
    folder = tmp_path / "kept"
    folder.mkdir()
    origin.write(folder, checkout)
    assert {p.name for p in folder.iterdir()} == {"params.yaml", "dvc.lock", "changes.patch", "environment.txt"}
    for path in folder.iterdir():
        assert "hunter2" not in path.read_text(encoding="utf-8")
    assert "//me:***@host" in (folder / "params.yaml").read_text(encoding="utf-8")


def test_differences_of_environments_are_named() -> None:
    kept = ["python==3.11.7", "numpy==2.2.0", "gone==1"]
    assert origin.differences(kept, ["python==3.11.7", "numpy==2.3.0", "new==1"]) == [
        "gone: 1 -> absent",
        "new: absent -> 1",
        "numpy: 2.2.0 -> 2.3.0",
    ]
    assert origin.differences(origin.environment(), origin.environment()) == []


def test_outputs_of_a_lock_are_its_paths_and_digests() -> None:
    lock = """schema: '2.0'
stages:
  prepare:
    outs:
    - path: data/prepared
      hash: md5
      md5: ab12.dir
      size: 5
    - path: data/sealed
      md5: cd34.dir
"""
    assert origin.outputs(lock) == {"data/prepared": "ab12.dir", "data/sealed": "cd34.dir"}
    assert origin.outputs("") == {}
