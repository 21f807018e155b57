"""What is known of the work tree, the pipeline's lock and the packages."""

import subprocess
from pathlib import Path

import pytest

from podium.registry import provenance
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


@pytest.mark.parametrize("way", ["shallow", "detached", "worktree"])
def test_git_facts_of_every_kind_of_checkout_are_its_own(checkout: Path, tmp_path: Path, way: str) -> None:
    one = git(checkout, "rev-parse", "HEAD")
    git(checkout, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "--message", "two")
    two, other = git(checkout, "rev-parse", "HEAD"), tmp_path / "other"
    if way == "worktree":
        git(checkout, "worktree", "add", "--quiet", "--detach", str(other), one)
    else:
        depth = ("--depth", "1") if way == "shallow" else ()
        git(checkout, "clone", "--quiet", *depth, checkout.as_uri(), str(other))
    if way == "detached":
        git(other, "checkout", "--quiet", "--detach", one)
    assert git_facts(other) == Git(two if way == "shallow" else one, "false")
    (other / "code.py").write_text("2\n", encoding="utf-8")
    assert git_facts(other).dirty == "true"


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


@pytest.mark.parametrize(
    ("secret", "stored"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?sslpassword=hunter2&user=me", "postgresql://host/db?sslpassword=***&user=me"),
    ],
)
def test_write_sources_copies_the_files_without_passwords(tmp_path: Path, secret: str, stored: str) -> None:
    project, folder = tmp_path / "project", tmp_path / "stored"
    project.mkdir()
    folder.mkdir()
    (project / "params.yaml").write_text(f"tracking: {{uri: '{secret}'}}\n", encoding="utf-8")
    (project / "dvc.lock").write_text("1\n", encoding="utf-8")
    provenance.write_sources(folder, project)
    assert {p.name for p in folder.iterdir()} == {"params.yaml", "dvc.lock", "changes.patch", "environment.txt"}
    assert (folder / "params.yaml").read_text(encoding="utf-8") == f"tracking: {{uri: '{stored}'}}\n"


def test_differences_of_environments_are_named() -> None:
    stored = ["python==3.11.7", "numpy==2.2.0", "gone==1"]
    assert provenance.environment_differences(stored, ["python==3.11.7", "numpy==2.3.0", "new==1"]) == [
        "gone: 1 -> absent",
        "new: absent -> 1",
        "numpy: 2.2.0 -> 2.3.0",
    ]
    assert provenance.environment_differences(provenance.environment(), provenance.environment()) == []


def test_what_a_package_carries_for_itself_is_not_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools puts such a folder on Python's path as soon as something imports it; `carried` stands for it."""
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path))
    before = provenance.environment()
    carried = tmp_path / "tool" / "_vendor"
    (carried / "carried-1.dist-info").mkdir(parents=True)
    (carried / "carried-1.dist-info" / "METADATA").write_text("Name: carried\nVersion: 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(carried))
    assert provenance.environment() == before
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path / "elsewhere"))
    assert "carried==1" in provenance.environment()


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
    assert provenance.lock_outputs(lock) == {"data/prepared": "ab12.dir", "data/sealed": "cd34.dir"}
    assert provenance.lock_outputs("") == {}
