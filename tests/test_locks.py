import os
import subprocess
import sys
from pathlib import Path

import pytest

from podium.errors import PodiumError, RefusedError
from podium.locks import LockFileError, StandingLock, locked

HOLDER = """
import sys
from pathlib import Path
from podium.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_that_is_held_is_refused_with_its_holder(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "a.lock"),
        pytest.raises(RefusedError, match=rf"the search x is already under way: process {os.getpid()} on "),
        locked(tmp_path / "a.lock", purpose="the search x"),
    ):
        pass


def test_lock_after_its_block_is_free_again(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "deep" / "a.lock"):
            pass


def test_lock_after_an_error_in_its_block_is_free_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "a.lock"):
        raise ValueError("inside")

    with locked(tmp_path / "a.lock"):
        pass


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RefusedError, match=f"process {holder.pid} on "), locked(path):
            pass
        holder.kill()
        holder.wait()
        with locked(path):
            pass


def test_lock_that_is_waited_for_is_refused_after_its_seconds_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with (
        locked(path, wait=True, seconds=0.1),
        pytest.raises(RefusedError, match=r"a\.lock has been held by another process for more than 0.1 s: .*fuser"),
        locked(path, wait=True, seconds=0.1),
    ):
        pass
    with locked(path, wait=True, seconds=0.1):
        pass


@pytest.mark.parametrize("left", ["", "not json", "[1]", "{}"])
def test_lock_with_an_unreadable_holder_is_refused_all_the_same(tmp_path: Path, left: str) -> None:
    path = tmp_path / "a.lock"
    with locked(path):
        path.write_text(left, encoding="utf-8")
        with pytest.raises(RefusedError, match=r"a\.lock is already under way: another process holds it"), locked(path):
            pass


@pytest.mark.parametrize("kind", [PodiumError, OSError])
def test_lock_in_a_place_that_is_no_folder_is_an_error_with_its_path(tmp_path: Path, kind: type[Exception]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(kind, match=r"file/a\.lock can't be written"), locked(tmp_path / "file" / "a.lock"):
        pass


STANDING = """
import sys
from pathlib import Path
from podium.locks import StandingLock
lock, count = StandingLock(Path(sys.argv[1])), Path(sys.argv[2])
for k in range(300):
    lock.take()
    value = int(count.read_text())
    count.write_text(str(value + 1))
    lock.release()
"""


def test_standing_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    command = [sys.executable, "-c", STANDING, str(tmp_path / "deep" / "a.lock"), str(count)]
    others = [subprocess.Popen(command) for _ in range(2)]
    assert [other.wait() for other in others] == [0, 0]
    assert count.read_text() == "600"


def test_standing_lock_that_is_given_back_is_free_and_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = StandingLock(path)
    lock.release()  # not held: nothing happens
    for _ in range(2):
        lock.take()
        with pytest.raises(RefusedError), locked(path):
            pass
        lock.release()
        with locked(path):
            pass


def test_standing_lock_whose_file_was_deleted_is_taken_where_others_take_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.lock"
    lock = StandingLock(path)
    lock.take()
    lock.release()
    path.unlink()
    path.parent.rmdir()
    lock.take()
    with pytest.raises(RefusedError), locked(path):
        pass


def test_standing_lock_whose_folder_went_away_is_an_error_and_no_lock(tmp_path: Path) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    lock = StandingLock(folder / "a.lock")
    lock.take()
    lock.release()
    folder.rename(away)
    folder.write_text("in the way")
    with pytest.raises(LockFileError, match=r"folder/a\.lock can't be written"):
        lock.take()
    with locked(away / "a.lock"):
        pass


def test_standing_lock_in_a_place_that_is_no_folder_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockFileError, match=r"file/a\.lock can't be written"):
        StandingLock(tmp_path / "file" / "a.lock").take()
