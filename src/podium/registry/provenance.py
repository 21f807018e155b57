"""Where a model comes from: the commit, whether the tree was clean, the pipeline's lock, the versions of packages."""

import hashlib
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Git:
    """The state of the work tree; every field is `unknown` outside of a git checkout."""

    commit: str
    """Full hash of the commit that is checked out."""
    dirty: str
    """true where tracked or new files differ from it, else false. dvc.lock does not count: each run writes it."""


def git_facts(root: Path = Path()) -> Git:
    """The state of the work tree that `root` is in."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", ":/", ":(top,exclude)dvc.lock", ":(exclude)dvc.lock")
    if commit is None or changes is None:
        return Git(UNKNOWN, UNKNOWN)
    return Git(commit.strip(), "true" if changes.strip() else "false")


def lock_digest(path: Path) -> str:
    """SHA-256 of dvc.lock without the stages `register` and `report`, which are written after register has asked.

    So the digest is the same when the pipeline is done. `unknown` where there is no dvc.lock.
    """
    if not path.is_file():
        return UNKNOWN
    kept, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("   "):  # a stage's name has two spaces before it, its content four
            inside = line.rstrip() in ("  register:", "  report:")
        if not inside:
            kept.append(line)
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def package_versions(*names: str) -> dict[str, str]:
    """The installed version of each package; `unknown` where it is not installed."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNKNOWN


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
