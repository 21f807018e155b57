import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.data import shards
from podium.data.dataset import open_split, write_split
from podium.data.linked_files import PREFIX, LinkedFiles, dvc_links

PIECES = [b"head", b"a" * 500, b"b" * 300]
OTHERS = [b"head", b"a" * 500, b"c" * 300]


def _write(folder: Path, to: Path, pieces: list[bytes] = PIECES) -> int:
    """A prepare that writes one file; returns its inode."""
    path = to / "train/images-00.npy"
    path.parent.mkdir(parents=True)
    linked = LinkedFiles(folder)
    linked.write(path, map(memoryview, pieces))
    linked.tidy()
    assert path.read_bytes() == b"".join(pieces)
    return path.stat().st_ino


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def test_file_that_did_not_change_is_linked_and_another_is_written_anew(tmp_path: Path, store: Path) -> None:
    first, second = _write(store, tmp_path / "a"), _write(store, tmp_path / "b")
    assert first == second
    changed = _write(store, tmp_path / "c", OTHERS)
    assert changed != first
    assert _write(store, tmp_path / "d", [b"head"]) != changed
    assert (tmp_path / "a/train/images-00.npy").read_bytes() == b"".join(PIECES)
    assert not (tmp_path / "d/train/images-00.npy").stat().st_mode & 0o222


@pytest.mark.parametrize("damage", ["first", "last", "cut", "longer", "empty", "link", "link to nowhere"])
def test_file_that_was_changed_in_the_store_is_written_anew(tmp_path: Path, store: Path, damage: str) -> None:
    _write(store, tmp_path / "a")
    (kept,) = store.iterdir()
    content = kept.read_bytes()
    changed = {"first": b"H" + content[1:], "last": content[:-1] + b"z", "cut": content[:-1], "longer": content + b"z"}
    kept.unlink()
    if damage.startswith("link"):
        other = tmp_path / "other"
        kept.symlink_to(other)
        if damage == "link":
            other.write_bytes(content)
    else:
        kept.write_bytes(changed.get(damage, b""))
    _write(store, tmp_path / "b")
    assert not (tmp_path / "b/train/images-00.npy").is_symlink()
    assert [path.is_symlink() for path in store.iterdir()] == [False]


def test_what_was_not_written_from_and_what_a_killed_run_left_is_removed(tmp_path: Path, store: Path) -> None:
    for name in ("linked-train-images-00.npy.new", "linked-test-images-63.npy", "pixels"):
        (store / name).write_bytes(b"old")
    _write(store, tmp_path / "a")
    assert sorted(path.name for path in store.iterdir()) == ["linked-train-images-00.npy", "pixels"]


def test_write_that_fails_leaves_what_was_kept_and_no_half_of_a_file(tmp_path: Path, store: Path) -> None:
    _write(store, tmp_path / "a")

    def full() -> Iterator[memoryview]:
        yield memoryview(b"other")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "train").mkdir()
    with pytest.raises(OSError, match="No space left"):
        LinkedFiles(store).write(tmp_path / "train/images-00.npy", full())
    assert [path.read_bytes() for path in store.iterdir()] == [b"".join(PIECES)]
    assert not list((tmp_path / "train").iterdir())


def test_where_links_are_not_possible_the_file_is_copied(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    assert _write(store, tmp_path / "a") != next(store.iterdir()).stat().st_ino


def test_split_of_links_is_that_which_is_written_and_a_small_one_has_none(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 1, 8, 8), dtype=np.uint8)
    starts = shards.starts_of(np.arange(90, dtype=np.uint64)[:, None] << np.uint64(57))
    about: dict[str, Any] = {"starts": starts}
    labels = np.zeros(90, np.int64)
    write_split(tmp_path / "small", "train", images, labels, ("cat",), linked=LinkedFiles(store), **about)
    assert not list(store.iterdir())
    monkeypatch.setattr(shards, "FILE_BYTES", 2000)
    plain = write_split(tmp_path / "plain", "train", images, labels, ("cat",), **about)
    for name in ("a/train", "b/train"):
        assert plain == write_split(
            tmp_path / name, "train", images, labels, ("cat",), linked=LinkedFiles(store), **about
        )
        assert np.array_equal(open_split(tmp_path / name).images[:], images)
    files = sorted(path.name for path in (tmp_path / "plain").glob("images-*"))
    assert files
    for name in files:
        assert (tmp_path / "a/train" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert len(list(store.glob(f"{PREFIX}train-*"))) == len(files)


@pytest.mark.parametrize(
    ("config", "local", "links"),
    [
        ("", "", False),
        ("[core]\n    autostage = true\n", "", False),
        ("[cache]\n    type = hardlink\n", "", True),
        ('[cache]\n    type = "hardlink,symlink"\n', "", True),
        ("[cache]\n    dir = /x\n    type = hardlink , copy\n['remote \"x\"']\n    url = /y\n", "", True),
        ("[cache]\n    type = symlink\n", "", False),
        ('[cache]\n    type = "reflink,hardlink"\n', "", False),
        ("[cache]\n    type = copy\n", "[cache]\n    type = hardlink\n", True),
        ("[cache]\n    type = hardlink\n", "[cache]\n    type = copy\n", False),
        ("type = hardlink\n", "", False),
    ],
)
def test_links_are_made_where_dvc_makes_hard_links(tmp_path: Path, config: str, local: str, links: bool) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(config, encoding="utf-8")
    (tmp_path / ".dvc/config.local").write_text(local, encoding="utf-8")
    assert dvc_links(tmp_path) is links
    assert not dvc_links(tmp_path / "elsewhere")
