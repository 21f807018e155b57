"""What a folder holds beyond its commit, as the text of a patch that others may read.

Tracked changes, and new files only where code and parameters live: a stray .env is nobody's but the user's. Git works
in an index and a store of objects of our own, so that neither what is staged nor .git/objects changes.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from podium.text import masked

PLACES = ("src", "presets", "data/labels", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements*")
"""Where a new file is stored though it was not added to git."""
LARGEST_FILE = 500_000
"""Bytes of a changed or new file that is stored; the locked requirements have 340,000."""
LARGEST = 2_000_000
"""Bytes of all changes together; more is no code."""
NAMED = 20
"""Files that a comment names."""
LEFT_OUT = "# changes left out"
NOT_KEPT = "# not kept, neither code nor parameters"
LOCK = ":(exclude)dvc.lock"


class _GitError(Exception):
    """Git did not do what it was asked."""


def uncommitted(root: Path) -> str:
    """What `root` holds beyond its commit as a patch without passwords; empty where it is clean or no checkout.

    dvc.lock does not count: it is stored whole. What should be here and is not has a comment line that begins with
    LEFT_OUT, such as files of more than LARGEST_FILE bytes or all of them where git fails; new files elsewhere than in
    PLACES are named in a line that begins with NOT_KEPT.
    """
    if not _is_checkout(root):
        return ""
    with tempfile.TemporaryDirectory(prefix="podium-") as scratch:
        try:
            return masked(_patch(_Git.beside(root, Path(scratch)), Path(scratch) / "patch"))
        except _GitError as error:
            return _comment(f"{LEFT_OUT}, for {error}")


def left_out(patch: str) -> list[str]:
    """What the text of a patch says was left out of it, a sentence each; empty where it is whole."""
    head = re.split(r"^diff --git ", patch, maxsplit=1, flags=re.MULTILINE)[0]
    comments = [line for line in head.split("\n") if line.startswith("# ") and not line.startswith(NOT_KEPT)]
    return [line.removeprefix("# ") for line in comments]


def by_file(patch: str) -> dict[str, str]:
    """The change of each file in the text of a patch, without git's own names for the contents before and after."""
    found = {}
    for part in re.split(r"^diff --git ", patch, flags=re.MULTILINE)[1:]:
        names, _, change = part.partition("\n")  # a/NAME b/NAME
        name = _printable(names[: len(names) // 2].removeprefix("a/"))
        found[name] = re.sub(r"^index [0-9a-f]+\.\.[0-9a-f]+", "index", change, count=1, flags=re.MULTILINE)
    return found


def to_text(content: bytes) -> str:
    """`content` with each byte that is no UTF-8 as a surrogate, for a patch is of files of any encoding."""
    return content.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """What `to_text` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class _Git:
    """Git in `root`, with an index and objects of its own."""

    root: Path
    extra: dict[str, str]

    @staticmethod
    def beside(root: Path, scratch: Path) -> "_Git":
        plain, index, store = _Git(root, {}), scratch / "index", scratch / "objects"
        store.mkdir()
        if (source := root / plain.run("rev-parse", "--git-path", "index").rstrip("\n")).is_file():
            shutil.copy2(source, index)  # its time too: by it git doubts a file that changed just then
        objects = (root / plain.run("rev-parse", "--git-path", "objects").rstrip("\n")).resolve()
        known = [json.dumps(str(objects), ensure_ascii=False), os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")]
        extra = {"GIT_INDEX_FILE": str(index), "GIT_OBJECT_DIRECTORY": str(store)}
        return _Git(root, extra | {"GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(filter(None, known))})

    def run(self, command: str, *arguments: str, told: str = "") -> str:
        """What git prints, each byte that is no UTF-8 as a surrogate. Raises _GitError."""
        settings = ("-c", "core.quotePath=false", "-c", "core.safecrlf=false")
        done = subprocess.run(
            ["git", *settings, command, *arguments],
            cwd=self.root,
            env=os.environ | self.extra,
            input=to_bytes(told),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise _GitError(f"git {command} failed: {' '.join(to_text(done.stderr).split())[-300:]}")
        return to_text(done.stdout)

    def names(self, *command: str) -> list[str]:
        """The files that git lists."""
        return list(dict.fromkeys(filter(None, self.run(*command).split("\0"))))


def _patch(git: _Git, file: Path) -> str:
    changed = git.names("diff-files", "--name-only", "--relative", "-z", "--", ".", LOCK)
    untracked = ("ls-files", "--others", "--exclude-standard", "-z")
    new = git.names(*untracked, "--", *(f":(glob){place}" for place in PLACES))
    outside = (".", LOCK, *(f":(exclude,glob){place}" for place in PLACES))
    elsewhere = git.names(*untracked, "--directory", "--no-empty-directory", "--", *outside)
    elsewhere += [name for name in new if name.endswith("/")]  # a repository within this one
    files = [name for name in changed + new if not name.endswith("/")]
    large = [name for name in files if _size(git.root / name) > LARGEST_FILE]
    taken = "".join(f"{name}\0" for name in files if name not in large)
    git.run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", told=taken)
    how = ("--cached", "--patch", "--binary", "--full-index", "--no-ext-diff", "--relative", f"--output={file}")
    git.run("diff-index", *how, "HEAD", "--", ".", LOCK)
    text = _comment(NOT_KEPT, elsewhere) if elsewhere else ""
    if large:
        text += _comment(f"{LEFT_OUT}, for more than {LARGEST_FILE:,} bytes each", large)
    if (size := file.stat().st_size) > LARGEST:
        return text + _comment(f"{LEFT_OUT}, for {size:,} bytes are more than {LARGEST:,}", files)
    return text + to_text(file.read_bytes())


def _comment(what: str, names: list[str] | None = None) -> str:
    """A line that `git apply` passes over."""
    shown = [_printable(name) for name in (names or [])[:NAMED]]
    if names and len(names) > NAMED:
        shown.append(f"and {len(names) - NAMED:,} more")
    return f"{what}: {', '.join(shown)}\n" if shown else f"{what}\n"


def _printable(name: str) -> str:
    return name if name.isprintable() else json.dumps(name)


def _is_checkout(root: Path) -> bool:
    """Whether git has to be able to answer; where it is not installed, not even the commit is known."""
    try:
        environment = os.environ | {"LC_ALL": "C"}
        command = ["git", "rev-parse", "--git-dir"]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 or b"not a git repository" not in done.stderr


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # removed, which is a change too
        return 0
