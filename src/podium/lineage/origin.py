"""What makes a version again, kept with its run: parameters, pipeline, lock, uncommitted changes, packages."""

import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from podium.lineage import changes
from podium.text import masked

PATCH = "changes.patch"
ENVIRONMENT = "environment.txt"
COPIED = ("params.yaml", "dvc.yaml", "dvc.lock")


def write(folder: Path, root: Path = Path()) -> list[str]:
    """Write everything of the project in `root` to `folder`. Passwords within addresses are left out.

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
    found = {f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions(path=path) if d.name}
    return [f"python=={'.'.join(map(str, sys.version_info[:3]))}", *sorted(found)]


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
