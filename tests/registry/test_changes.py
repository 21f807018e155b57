"""The uncommitted changes as a patch: what is in it, what is named in it, and that nothing else is touched."""

import os
import subprocess
from pathlib import Path

import pytest

from podium.registry import changes

SECRET = "hunter2"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A work tree of one commit, the project in a folder below its top."""
    project = tmp_path / "top" / "bel:ow"  # a colon divides paths where git is told of several
    git(tmp_path, "init", "--quiet", "top")
    for name, text in (("code.py", "1\n"), ("gone.py", "1\n"), ("dvc.lock", "1\n"), (".gitignore", "ignored\n")):
        write(project / name, text.encode())
    commit(project)
    return project


def objects(checkout: Path) -> list[str]:
    return sorted(str(path) for path in (checkout.parent / ".git").rglob("*"))


def test_patch_of_changed_new_and_removed_files_makes_them_again(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(checkout / "code.py", b"2\n")
    write(checkout / "src/new.bin", bytes(range(256)))
    (checkout / "gone.py").unlink()
    write(checkout / "dvc.lock", b"2\n")
    write(checkout / "src/ignored", SECRET.encode())
    before, there = git(checkout, "status", "--porcelain"), objects(checkout)
    patch = changes.uncommitted(checkout)
    assert git(checkout, "status", "--porcelain") == before
    assert objects(checkout) == there
    assert SECRET not in patch
    again = tmp_path_factory.mktemp("again")
    write(again / "code.py", b"1\n")
    write(again / "gone.py", b"1\n")
    (again / "x.patch").write_text(patch, encoding="utf-8")
    git(again, "apply", "x.patch")
    assert (again / "code.py").read_bytes() == b"2\n"
    assert (again / "src/new.bin").read_bytes() == bytes(range(256))
    assert not (again / "gone.py").exists()
    assert not (again / "dvc.lock").exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("src/podium/new.py", True),
        ("presets/mine.yaml", True),
        ("params.yaml", True),
        ("dvc.yaml", True),
        ("pyproject.toml", True),
        ("requirements-mine.lock", True),
        (".env", False),
        ("key.pem", False),
        ("params.yaml.bak", False),
        ("notes/src/new.py", False),
        ("notes/params.yaml", False),
        ("old/requirements.lock", False),
    ],
)
def test_new_file_is_kept_only_where_code_and_parameters_live(checkout: Path, name: str, kept: bool) -> None:
    write(checkout / name, f"{SECRET}\n".encode())
    there = objects(checkout)
    patch = changes.uncommitted(checkout)
    assert (SECRET in patch) is kept
    assert (f"diff --git a/{name} b/{name}\n" in patch) is kept
    top, slash, _ = name.partition("/")
    assert (f"{changes.NOT_KEPT}: {top}{slash}\n" in patch) is not kept
    assert objects(checkout) == there


def test_file_elsewhere_that_git_was_told_of_is_kept(checkout: Path) -> None:
    write(checkout / "told.txt", b"1\n")
    git(checkout, "add", "told.txt")
    assert "diff --git a/told.txt b/told.txt\n" in changes.uncommitted(checkout)


@pytest.mark.parametrize("name", ["code.py", "src/new.npy"])
def test_file_that_is_no_code_is_named_and_left_out(checkout: Path, name: str) -> None:
    write(checkout / "src/small.py", b"1\n")
    write(checkout / name, b"x" * (changes.LARGEST_FILE + 1))
    there = objects(checkout)
    patch = changes.uncommitted(checkout)
    assert f"{changes.LEFT_OUT}, for more than 500,000 bytes each: {name}\n" in patch
    assert [line for line in patch.splitlines() if line.startswith("diff")] == [
        "diff --git a/src/small.py b/src/small.py"
    ]
    assert objects(checkout) == there


def test_changes_that_are_too_many_are_named_and_left_out(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LARGEST", 1000)
    write(checkout / "src/new.txt", b"x" * 2000)
    patch = changes.uncommitted(checkout)
    assert patch.startswith(f"{changes.LEFT_OUT}, for 2,")
    assert patch.endswith(" bytes are more than 1,000: src/new.txt\n")


def test_names_are_cut_short_and_stay_on_their_line(checkout: Path) -> None:
    for number in range(changes.NAMED + 5):
        write(checkout / f"{number:02}.txt", b"")
    write(checkout / "00\n.txt", b"")
    (line,) = changes.uncommitted(checkout).splitlines()
    assert '"00\\n.txt"' in line
    assert line.endswith(", and 6 more")


def test_repository_within_the_code_is_named(checkout: Path) -> None:
    write(checkout / "src/other/code.py", b"1\n")
    git(checkout, "init", "--quiet", "src/other")
    commit(checkout / "src/other")
    assert changes.uncommitted(checkout) == f"{changes.NOT_KEPT}: src/other/\n"


def test_password_in_a_changed_file_is_masked(checkout: Path) -> None:
    write(checkout / "code.py", f"a = 'postgresql://me:{SECRET}@h/d'\nb = '//h/d?passwd={SECRET}&x=1'\n".encode())
    patch = changes.uncommitted(checkout)
    assert SECRET not in patch
    assert "+a = 'postgresql://me:***@h/d'\n+b = '//h/d?passwd=***&x=1'\n" in patch


def test_change_of_the_same_size_in_the_moment_of_the_commit_is_seen(checkout: Path) -> None:
    index, moment = checkout.parent / ".git/index", (10**9, 10**9)
    git(checkout, "config", "core.trustctime", "false")  # the only time that can't be set
    os.utime(checkout / "code.py", moment)
    git(checkout, "add", ".")
    write(checkout / "code.py", b"2\n")
    for path in (checkout / "code.py", index):
        os.utime(path, moment)
    assert list(changes.by_file(changes.uncommitted(checkout))) == ["code.py"]


def test_patch_of_a_clean_tree_is_empty(checkout: Path) -> None:
    assert changes.uncommitted(checkout) == ""


def test_patch_outside_of_a_checkout_is_empty(tmp_path: Path) -> None:
    assert changes.uncommitted(tmp_path) == ""


@pytest.mark.parametrize("content", [b"K\xf6ln\n", b"one\r\ntwo\r\n", "K\u00f6ln\u2028\x85\n".encode()])
def test_patch_of_a_file_of_any_encoding_makes_it_again(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    write(checkout / "code.py", content)
    patch = changes.uncommitted(checkout)
    assert list(changes.by_file(patch)) == ["code.py"]
    again = tmp_path_factory.mktemp("again")
    write(again / "code.py", b"1\n")
    (again / "x.patch").write_bytes(changes.to_bytes(patch))
    git(again, "apply", "x.patch")
    assert (again / "code.py").read_bytes() == content


def test_patch_says_that_git_failed(checkout: Path) -> None:
    write(checkout.parent / ".git/index", b"no index")
    (said,) = changes.left_out(changes.uncommitted(checkout))
    assert said.startswith("changes left out, for git diff-files failed: ")


def test_patch_of_a_checkout_without_a_commit_says_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    write(tmp_path / "src/code.py", b"1\n")
    (said,) = changes.left_out(changes.uncommitted(tmp_path))
    assert said.startswith("changes left out, for git diff-index failed: ")


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("", []),
        (f"{changes.NOT_KEPT}: .env\ndiff --git a/x b/x\n", []),
        (f"{changes.LEFT_OUT}, for 3 bytes: x\n", ["changes left out, for 3 bytes: x"]),
        ("# 2,000,001 characters of changes were left out\n", ["2,000,001 characters of changes were left out"]),
        ("diff --git a/x b/x\n+++ b/x\n# changes left out\n", []),  # a line of a file would have a sign before it
    ],
)
def test_what_a_patch_lacks_is_read_from_its_head(patch: str, said: list[str]) -> None:
    assert changes.left_out(patch) == said


def test_changes_are_told_apart_by_file(checkout: Path) -> None:
    write(checkout / "src/a b.py", b"1\n")
    write(checkout / "src/a c.py", b"diff --git a/x b/x\n")
    write(checkout / "src/\u00e4.py", b"1\n")
    patch = changes.uncommitted(checkout)
    found = changes.by_file(patch)
    assert list(found) == ["src/a b.py", "src/a c.py", "src/\u00e4.py"]
    assert "+diff --git a/x b/x\n" in found["src/a c.py"]
    shorter = patch.replace(f"index {'0' * 40}..", "index 0000000..")  # as git names contents where it is told nothing
    assert shorter != patch
    assert changes.by_file(shorter) == found
