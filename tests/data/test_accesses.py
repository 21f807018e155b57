"""Every access to the held-out test set is counted."""

import errno
import os
from collections import Counter
from pathlib import Path

import pytest

import tiny
from podium.data import accesses
from podium.data.dataset import open_test_set, write_split
from podium.errors import PodiumError, RefusedError


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "test", "test", *tiny.pixels(9, seed=1), tiny.CLASSES, sealed=True)
    return tmp_path / "test"


def test_accesses_are_counted_by_reader_and_digest(sealed: Path) -> None:
    digest = open_test_set(sealed, "evaluate", "run 1").digest
    open_test_set(sealed, "gate")
    open_test_set(sealed, "gate", "version 2")
    accesses.record("another", "gate", "")
    assert Counter(accesses.known(digest).values()) == {"evaluate": 1, "gate": 2}
    lines = Path("mlruns/sealed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert '"purpose": "run 1"' in lines[0]


def test_refused_access_is_not_counted(sealed: Path) -> None:
    with pytest.raises(RefusedError):
        open_test_set(sealed, "search")  # type: ignore[arg-type]
    assert accesses.known("anything") == {}


def test_test_set_stays_closed_if_the_access_can_not_be_recorded(sealed: Path) -> None:
    Path("mlruns").write_text("", encoding="utf-8")
    with pytest.raises(PodiumError, match="The test set stays closed"):
        open_test_set(sealed, "gate")


def test_damaged_record_says_so(sealed: Path) -> None:
    digest = open_test_set(sealed, "gate").digest
    with Path("mlruns/sealed.jsonl").open("a", encoding="utf-8") as file:
        file.write("hello\n")
    with pytest.raises(PodiumError, match=r"sealed\.jsonl is damaged"):
        accesses.known(digest)


def test_record_that_can_not_be_read_is_not_called_damaged(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, **_: str) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    digest = open_test_set(sealed, "gate").digest
    monkeypatch.setattr(Path, "read_text", failing)
    with pytest.raises(PodiumError, match=r"sealed\.jsonl can't be read: Input/output error"):
        accesses.known(digest)


def test_line_of_an_earlier_version_without_an_id_is_counted(sealed: Path) -> None:
    line = '{"at": "2026-01-01T00:00:00Z", "who": "me@here", "reader": "gate", "purpose": "", "digest": "old"}\n'
    Path("mlruns").mkdir()
    Path("mlruns/sealed.jsonl").write_text(line, encoding="utf-8")
    accesses.record("old", "evaluate", "")
    assert sorted(accesses.known("old").values()) == ["evaluate", "gate"]
