"""What makes a version again: the project's files without passwords, the packages, the outputs of a lock."""

from pathlib import Path

import pytest

from podium.lineage import origin


@pytest.mark.parametrize(
    ("secret", "kept"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?sslpassword=hunter2&user=me", "postgresql://host/db?sslpassword=***&user=me"),
    ],
)
def test_write_keeps_the_files_without_passwords(tmp_path: Path, secret: str, kept: str) -> None:
    project, folder = tmp_path / "project", tmp_path / "kept"
    project.mkdir()
    folder.mkdir()
    (project / "params.yaml").write_text(f"tracking: {{uri: '{secret}'}}\n", encoding="utf-8")
    (project / "dvc.lock").write_text("1\n", encoding="utf-8")
    origin.write(folder, project)
    assert {p.name for p in folder.iterdir()} == {"params.yaml", "dvc.lock", "changes.patch", "environment.txt"}
    assert (folder / "params.yaml").read_text(encoding="utf-8") == f"tracking: {{uri: '{kept}'}}\n"


def test_differences_of_environments_are_named() -> None:
    kept = ["python==3.11.7", "numpy==2.2.0", "gone==1"]
    assert origin.differences(kept, ["python==3.11.7", "numpy==2.3.0", "new==1"]) == [
        "gone: 1 -> absent",
        "new: absent -> 1",
        "numpy: 2.2.0 -> 2.3.0",
    ]
    assert origin.differences(origin.environment(), origin.environment()) == []


def test_what_a_package_carries_for_itself_is_not_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools puts such a folder on Python's path as soon as something imports it; `carried` stands for it."""
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path))
    before = origin.environment()
    carried = tmp_path / "tool" / "_vendor"
    (carried / "carried-1.dist-info").mkdir(parents=True)
    (carried / "carried-1.dist-info" / "METADATA").write_text("Name: carried\nVersion: 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(carried))
    assert origin.environment() == before
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path / "elsewhere"))
    assert "carried==1" in origin.environment()


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
