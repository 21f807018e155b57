"""What makes a version again, kept with its run: parameters, pipeline, lock, uncommitted changes, packages."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

PATCH = "changes.patch"
ENVIRONMENT = "environment.txt"
COPIED = ("params.yaml", "dvc.yaml", "dvc.lock")
LARGEST = 2_000_000
"""Bytes of uncommitted changes that are kept; more is no code."""
PASSWORD = re.compile(r"(://[^:/@\s]+):[^@\s/]+@")


def write(folder: Path, root: Path = Path()) -> None:
    """Write everything of the project in `root` to `folder`. Passwords within addresses are left out."""
    for name in COPIED:
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8")
            (folder / name).write_text(_masked(text), encoding="utf-8")
    (folder / PATCH).write_text(_masked(uncommitted(root)), encoding="utf-8")
    (folder / ENVIRONMENT).write_text("\n".join(environment()) + "\n", encoding="utf-8")


def environment() -> list[str]:
    """Python and every installed package with its version, as lines `name==version`."""
    found = {f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions() if d.name}
    return [f"python=={'.'.join(map(str, sys.version_info[:3]))}", *sorted(found)]


def uncommitted(root: Path) -> str:
    """What `root` holds beyond its commit as a patch, new files too; empty outside of a checkout.

    dvc.lock does not count: it is kept whole. Changes of more than LARGEST bytes are left out, and the text says so.
    """
    with tempfile.TemporaryDirectory(prefix="podium-") as scratch:
        index = Path(scratch) / "index"  # of our own: the user's staged changes stay as they are
        own = _git(root, "rev-parse", "--git-path", "index")
        if own is None:
            return ""
        if (source := root / own.strip()).is_file():
            shutil.copyfile(source, index)
        environment = {"GIT_INDEX_FILE": str(index)}
        _git(root, "add", "--all", "--", ".", extra=environment)
        patch = _git(
            root,
            "diff",
            "--cached",
            "--binary",
            "--relative",
            "HEAD",
            "--",
            ".",
            ":(exclude)dvc.lock",
            extra=environment,
        )
    if patch is None:
        return ""
    return patch if len(patch) <= LARGEST else f"# {len(patch):,} characters of changes were left out\n"


def outputs(lock: str) -> dict[str, str]:
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


def differences(kept: list[str], now: list[str]) -> list[str]:
    """How two lists of `environment` differ, as lines `name: kept -> now`."""
    one, other = (
        {name: number for name, _, number in (line.partition("==") for line in lines)} for lines in (kept, now)
    )
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return [f"{name}: {one.get(name, 'absent')} -> {other.get(name, 'absent')}" for name in names]


def _masked(text: str) -> str:
    return PASSWORD.sub(r"\1:***@", text)


def _git(root: Path, *arguments: str, extra: dict[str, str] | None = None) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=os.environ | (extra or {}), capture_output=True, text=True, check=False
        )
    except (OSError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
