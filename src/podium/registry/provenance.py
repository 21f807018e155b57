"""What a model is made from: commit, uncommitted changes, parameters, DVC's lock, installed packages.

Register stores it with the run; verify and reproduce compare with it. Light: `podium doctor` imports it too.
"""

import hashlib
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from podium.registry import changes
from podium.text import masked

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
    """SHA-256 of dvc.lock without the stages `register` and `report`, which are written after register has read it.

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
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


PATCH = "changes.patch"
ENVIRONMENT = "environment.txt"
COPIED = ("params.yaml", "dvc.yaml", "dvc.lock")


def write_sources(folder: Path, root: Path = Path()) -> list[str]:
    """Write what reproduces a version of the project in `root` to `folder`, without passwords within addresses.

    Returns what else was left out of the uncommitted changes, a sentence each.
    """
    for name in COPIED:
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8")
            (folder / name).write_text(masked(text), encoding="utf-8")
    patch = changes.uncommitted(root)
    (folder / PATCH).write_bytes(changes.to_bytes(patch))
    (folder / ENVIRONMENT).write_text("\n".join(environment()) + "\n", encoding="utf-8")
    return changes.left_out(patch)


def environment() -> list[str]:
    """Python and every installed package with its version, as lines `name==version`.

    Copies that a package brings for itself do not count: setuptools, once imported, puts its own on Python's path.
    """
    installed = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    path = [one for one in sys.path if not any(folder in Path(one).parents for folder in installed)]
    found = {f"{d.name.lower().replace('_', '-')}=={d.version}" for d in metadata.distributions(path=path) if d.name}
    return [f"python=={'.'.join(map(str, sys.version_info[:3]))}", *sorted(found)]


def lock_outputs(lock: str) -> dict[str, str]:
    """Each output in the text of a dvc.lock with its digest, such as {"data/prepared": "ab12....dir"}."""
    found: dict[str, str] = {}
    path = ""
    for line in lock.splitlines():
        key, _, value = line.strip().removeprefix("- ").partition(": ")
        if key == "path":
            path = value
        elif key == "md5" and path:
            found[path] = value
            path = ""
    return found


def environment_differences(then: list[str], now: list[str]) -> list[str]:
    """How two lists of `environment` differ, as lines `name: then -> now`."""
    one, other = (
        {name: number for name, _, number in (line.partition("==") for line in lines)} for lines in (then, now)
    )
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return [f"{name}: {one.get(name, 'absent')} -> {other.get(name, 'absent')}" for name in names]
