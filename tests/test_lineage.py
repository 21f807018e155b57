"""What is known of the work tree, the pipeline's lock and the packages."""

import subprocess
from pathlib import Path

import pytest

from podium.registry.provenance import Git, git_facts, lock_digest, package_versions

LOCK = """schema: '2.0'
stages:
  evaluate:
    cmd: python -m podium.stages.evaluate
    outs:
    - path: data/evaluated
      md5: {evaluate}
  register:
    cmd: python -m podium.stages.register
    outs:
    - path: data/registered/version.json
      md5: {register}
  retrain:
    cmd: python -m podium.stages.retrain
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean work tree of one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1\n", encoding="utf-8")
    (tmp_path / "dvc.lock").write_text("1\n", encoding="utf-8")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/more.py").write_text("1\n", encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [([], "false"), (["dvc.lock"], "false"), (["code.py"], "true"), (["new.py"], "true"), (["dvc.lock", "x"], "true")],
)
@pytest.mark.parametrize("where", ["", "below"])
def test_git_facts_of_a_checkout_name_commit_and_changes(
    checkout: Path, changed: list[str], dirty: str, where: str
) -> None:
    for name in changed:
        (checkout / name).write_text("2\n", encoding="utf-8")
    assert git_facts(checkout / where) == Git(git(checkout, "rev-parse", "HEAD"), dirty)


def test_git_facts_outside_of_a_checkout_are_unknown(tmp_path: Path) -> None:
    assert git_facts(tmp_path) == Git("unknown", "unknown")


def test_git_facts_without_git_are_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_facts(checkout) == Git("unknown", "unknown")


@pytest.mark.parametrize(("evaluate", "register", "same"), [("a", "b", True), ("a", "c", True), ("x", "b", False)])
def test_lock_digest_follows_every_stage_but_register(tmp_path: Path, evaluate: str, register: str, same: bool) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(LOCK.format(evaluate="a", register="b"), encoding="utf-8")
    before = lock_digest(path)
    path.write_text(LOCK.format(evaluate=evaluate, register=register), encoding="utf-8")
    assert (lock_digest(path) == before) is same


def test_lock_digest_does_not_follow_the_report_which_is_made_of_what_register_left(tmp_path: Path) -> None:
    whole = LOCK.format(evaluate="a", register="b")
    (tmp_path / "before").write_text(whole, encoding="utf-8")
    (tmp_path / "after").write_text(whole + "  report:\n    cmd: python\n", encoding="utf-8")
    assert lock_digest(tmp_path / "before") == lock_digest(tmp_path / "after")


def test_lock_digest_is_the_same_before_register_first_ran(tmp_path: Path) -> None:
    whole = LOCK.format(evaluate="a", register="b")
    start, end = whole.index("  register:"), whole.index("  retrain:")
    (tmp_path / "before").write_text(whole[:start] + whole[end:], encoding="utf-8")
    (tmp_path / "after").write_text(whole, encoding="utf-8")
    assert lock_digest(tmp_path / "before") == lock_digest(tmp_path / "after")


def test_lock_digest_without_a_lock_is_unknown(tmp_path: Path) -> None:
    assert lock_digest(tmp_path / "dvc.lock") == "unknown"


def test_package_versions_of_what_is_not_installed_are_unknown() -> None:
    found = package_versions("numpy", "no-such-package")
    assert found["numpy"][0].isdigit()
    assert found["no-such-package"] == "unknown"
