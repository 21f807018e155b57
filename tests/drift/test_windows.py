"""Windows on disk: many writers fill one, a kill at any write leaves whole files, old ones go, times close them."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drift_world import Served, as_pixels, reference
from podium.config.params import DriftParams
from podium.drift import windows as drift_windows
from podium.drift.windows import Rules, Windows, folder_of
from podium.errors import InputError, PodiumError
from podium.locks import locked


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def windows(folder: Path, clock: Clock | None = None, **rules: object) -> Windows:
    params = DriftParams(**{"window": 300} | rules)
    return Windows(folder, reference(), Rules.of(params), clock or Clock())


def test_window_is_complete_at_its_number_of_images_and_the_next_begins(tmp_path: Path) -> None:
    place, served = windows(tmp_path), Served()
    assert place.add(served.sketch(200)) is None
    verdict = place.add(served.sketch(150))
    assert verdict is not None
    assert (verdict.window, verdict.count, verdict.drifted) == (1, 350, False)
    assert (place.opened().count, place.numbers()) == (0, [1])
    dark = place.add(served.sketch(300, lambda images: as_pixels(images * 0.6)))
    assert dark is not None
    assert (dark.window, dark.words.split(", ")[0]) == (2, "darker")
    assert windows(tmp_path).settle() == [verdict, dark]
    assert windows(tmp_path).newest() == dark


def test_writers_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    sketches = [Served(seed).sketch(40) for seed in range(8)]

    def write(place: Windows, mine: int) -> None:
        for _ in range(3):
            place.add(sketches[mine])

    threads = [threading.Thread(target=write, args=(windows(tmp_path, window=250), mine)) for mine in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = windows(tmp_path, window=250)
    verdicts = place.settle()
    assert [one.window for one in verdicts] == [1, 2, 3]
    assert sum(one.count for one in verdicts) + place.opened().count == 8 * 3 * 40
    assert all(len(place.sketch(number).draws) == place.sketch(number).count for number in (1, 2, 3))


class Kill(BaseException):
    """What no handler catches, as a kill is caught by none."""


@pytest.mark.parametrize("step", range(8))
def test_kill_at_any_change_of_a_file_loses_the_last_merge_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    place, served = windows(tmp_path, keep=1), Served()
    place.add(served.sketch(300))
    place.add(served.sketch(200))
    left = [step]

    def counted(real: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            if left[0] == 0:
                raise Kill
            left[0] -= 1
            return real(*arguments, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "write_bytes"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        try:
            place.add(served.sketch(150))
            survived = True
        except Kill:
            survived = False
    assert survived == (step >= 7)
    again = windows(tmp_path, keep=1)
    counts = [again.opened().count if step < 3 else 0, *(one.count for one in again.settle())]
    assert counts[-1] == (350 if step >= 2 else 300)
    assert again.opened().count in ((200,) if step < 2 else (0,))
    again.add(served.sketch(60))
    assert again.opened().count in (60, 260)


def test_what_fails_after_the_merge_is_told_and_the_images_are_in_once(tmp_path: Path) -> None:
    told: list[str] = []
    place, sketch = windows(tmp_path, window=100), Served().sketch(120)
    place.tell = told.append
    (tmp_path / "windows").write_text("a file where a folder has to be", encoding="utf-8")
    assert place.add(sketch) is None
    assert place.opened().count == 120
    assert [one.split(": ")[-1] for one in told] == ["Not a directory (drift.folder)"]
    (tmp_path / "windows").unlink()
    place.add(Served(2).sketch(10))
    assert [one.count for one in place.settle()] == [130]


def test_verdict_that_could_not_be_made_is_made_by_the_next_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("of the tests")

    place, told = windows(tmp_path, window=100), list[str]()
    place.tell = told.append
    with monkeypatch.context() as patch:
        patch.setattr(drift_windows, "compare", fails)
        assert place.add(Served().sketch(100)) is None
    assert (place.numbers(), place.newest(), told) == ([1], None, ["of the tests"])
    assert place.add(Served().sketch(10)) is None
    assert place.newest() == place.settle()[0]
    assert place.opened().count == 10


def test_newest_verdict_is_read_without_the_lock_and_writes_nothing(tmp_path: Path) -> None:
    place = windows(tmp_path, window=100)
    place.add(Served().sketch(100))
    (tmp_path / "windows/000001.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    with locked(tmp_path / "lock"):
        assert place.newest() is None
    assert sorted(tmp_path.rglob("*")) == before


def test_lock_that_is_never_free_is_an_error_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_windows, "PATIENCE", 0.05)
    place = windows(tmp_path)
    with locked(tmp_path / "lock"), pytest.raises(PodiumError, match=r"lock has been held .* more than 0.05 s: see"):
        place.add(Served().sketch(60))
    assert place.opened().count == 0


def test_files_of_a_killed_writer_go_with_the_next_window(tmp_path: Path) -> None:
    (tmp_path / "open.npz.00ff00ff.tmp").write_bytes(b"half")
    place = windows(tmp_path, window=100)
    place.add(Served().sketch(100))
    assert {one.name for one in tmp_path.rglob("*")} == {"lock", "windows", "000001.npz", "000001.json"}


def test_old_window_is_complete_too_if_it_has_enough_images(tmp_path: Path) -> None:
    clock, served = Clock(), Served()
    place = windows(tmp_path, clock, hours=2)
    place.add(served.sketch(40, at=1000.0))
    clock.now += 7300
    assert place.settle() == []  # too few to be tested
    verdict = place.add(served.sketch(20, at=clock.now))
    assert verdict is not None
    assert (verdict.count, verdict.began, verdict.ended) == (60, 1000.0, 8300.0)
    place.add(served.sketch(70, at=clock.now))
    clock.now += 7300
    assert [one.count for one in place.settle()] == [60, 70]  # nobody answered meanwhile: the command closes it


def test_kept_windows_are_bounded_and_their_numbers_go_on(tmp_path: Path) -> None:
    place, sketch = windows(tmp_path, window=100, keep=3), Served().sketch(100)
    for _ in range(6):
        place.add(sketch)
    assert place.numbers() == [4, 5, 6]
    assert len(list(tmp_path.rglob("*"))) == 1 + 1 + 2 * 3  # lock, folder, files


def test_damaged_open_window_is_put_aside_by_a_server_and_named_by_the_command(tmp_path: Path) -> None:
    place, served = windows(tmp_path), Served()
    place.add(served.sketch(100))
    (tmp_path / "open.npz").write_bytes(b"half a fi")
    with pytest.raises(InputError, match="open.npz is damaged"):
        place.settle()
    place.add(served.sketch(60))
    assert place.opened().count == 60
    assert (tmp_path / "open.npz.damaged").read_bytes() == b"half a fi"


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (lambda whole: (directory(whole) + 8, 1), True),  # "encrypted"
        (lambda whole: (directory(whole) + 10, 4), True),  # the way of compression
        (lambda whole: (directory(whole) + 16, 1), True),  # a checksum
        (lambda whole: (len(whole) - 8, 64), True),  # where the directory begins
        (lambda whole: (directory(whole) // 2, 1), True),  # an array
        # What the directory says again, so that nothing is read from there: the images are the same.
        (lambda whole: (4, 128), False),
        (lambda whole: (6, 1), False),
        (lambda whole: (8, 64), False),
    ],
)
def test_bit_of_the_open_window_that_changed_is_noticed_or_changes_nothing(
    tmp_path: Path, change: Callable[[bytes], tuple[int, int]], noticed: bool
) -> None:
    place, sketch, told = windows(tmp_path), Served().sketch(60), list[str]()
    place.tell = told.append
    at, bit = change(sketch.to_bytes())
    data = bytearray(sketch.to_bytes())
    data[at] ^= bit
    (tmp_path / "open.npz").write_bytes(data)
    if noticed:
        why = r"open\.npz is damaged: not all of it can be read \(\w+\); move it away, and what it counted is left out$"
        with pytest.raises(InputError, match=why):
            place.settle()
    place.add(sketch)
    aside = tmp_path / "open.npz.damaged"
    assert aside.exists() == noticed
    if noticed:
        assert aside.read_bytes() == data
        assert [one.rpartition("; ")[2] for one in told] == ["it was moved aside as open.npz.damaged"]
    else:
        sketch.merge(Served().sketch(60))
        assert not told
    assert place.opened().to_bytes() == sketch.to_bytes()


def directory(whole: bytes) -> int:
    """Where the directory of a zip file begins."""
    return whole.index(b"PK\1\2")


def test_damaged_window_and_verdict_are_put_aside_by_a_server_which_goes_on(tmp_path: Path) -> None:
    place, told = windows(tmp_path, window=100), list[str]()
    place.tell = told.append
    place.add(Served().sketch(100))
    (tmp_path / "windows/000001.json").write_text("{}", encoding="utf-8")
    place.add(Served().sketch(10))
    assert place.newest() is not None  # tested again
    (tmp_path / "windows/000001.json").unlink()
    (tmp_path / "windows/000001.npz").write_bytes(b"PK")
    place.add(Served().sketch(10))
    assert (place.newest(), place.numbers()) == (None, [])
    place.add(Served().sketch(100))
    assert place.numbers() == [2]  # as many looks as there were windows
    assert [one.partition(": ")[0].rpartition("/")[2] for one in told] == [
        "000001.json is damaged",
        "000001.npz is damaged",
    ]


def test_file_that_can_not_be_read_is_not_taken_for_damage(tmp_path: Path) -> None:
    (tmp_path / "open.npz").mkdir()
    with pytest.raises(PodiumError, match=r"open.npz can't be read: Is a directory \(drift.folder\)"):
        windows(tmp_path).add(Served().sketch(60))
    assert not (tmp_path / "open.npz.damaged").exists()


@pytest.mark.parametrize("text", ["{}", "[", '{"window": 1}'])
def test_damaged_verdict_is_named_with_its_remedy(tmp_path: Path, text: str) -> None:
    place = windows(tmp_path, window=100)
    verdict = place.add(Served().sketch(100))
    (tmp_path / "windows/000001.json").write_text(text)
    with pytest.raises(InputError, match="000001.json is damaged: .*remove it, and the window is tested again"):
        place.settle()
    (tmp_path / "windows/000001.json").unlink()
    assert place.settle() == [verdict]


def test_windows_of_another_model_are_refused(tmp_path: Path) -> None:
    place = windows(tmp_path)
    place.add(Served().sketch(60))
    grey = reference().inputs[:, :4]
    from dataclasses import replace

    other = Windows(tmp_path, replace(reference(), inputs=grey, input_names=reference().input_names[:4]), place.rules)
    with pytest.raises(InputError, match="is of another model"):
        other.opened()


def test_folder_that_can_not_be_written_is_an_error_with_the_parameter(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(PodiumError, match="can't be written"):
        windows(tmp_path).add(Served().sketch(60))


def test_folder_is_of_the_version_and_its_files(tmp_path: Path) -> None:
    assert folder_of(DriftParams(folder=str(tmp_path)), "m", 3, "f" * 64) == tmp_path / "m" / ("3-" + "f" * 12)
    assert folder_of(DriftParams(), "m", 3, "f" * 64).parts[-4:] == ("mlruns", "drift", "m", "3-" + "f" * 12)


def test_sample_of_a_full_window_tells_writers_what_they_may_leave_out(tmp_path: Path) -> None:
    place = windows(tmp_path, window=5000)
    place.add(Served().sketch(1500))
    assert 0.6 < place.limit < 0.75
    assert np.all(place.opened().draws <= place.limit)
