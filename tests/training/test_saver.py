import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from podium.training import checkpoint, saver
from podium.training.saver import Saver, size_of, snapshot, waited


class Weights:
    """A run whose state is one tensor, counted up by each step."""

    def __init__(self, count: int = 4) -> None:
        self.weights = torch.zeros(count)

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights, "history": [{"epoch": 1}]}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one; it stands still by itself."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(saver, "_measured", [])
    return now


def _read(path: Path) -> list[float] | None:
    state = checkpoint.load(path, "run")
    return None if state is None else state["weights"].tolist()


@pytest.mark.parametrize(
    ("seconds", "share", "megabytes", "passed", "due"),
    [
        (5.0, 0.03, 0, 4.9, False),
        (5.0, 0.03, 0, 5.0, True),
        (5.0, 0.03, 200, 5.0, False),  # 1 s is assumed for 200 MB: 33 s
        (5.0, 0.03, 200, 33.0, False),
        (5.0, 0.03, 200, 34.0, True),
        (5.0, 0.5, 200, 5.0, True),
        (5.0, 1.0, 200, 5.0, True),
        (60.0, 0.03, 200, 34.0, False),
        (1e-9, 1.0, 0, 0.0, False),
    ],
)
def test_first_checkpoint_waits_until_it_costs_its_share(
    clock: list[float], tmp_path: Path, seconds: float, share: float, megabytes: int, passed: float, due: bool
) -> None:
    run = Weights()
    run.weights = torch.zeros(1).expand(megabytes * 250_000)  # nothing is allocated
    one = Saver(tmp_path / "x.ckpt", "run", seconds, share)
    clock[0] += passed
    assert one.is_due(run) is due


def test_next_one_waits_as_long_as_the_last_one_cost(clock: list[float], tmp_path: Path) -> None:
    run, one = Weights(), Saver(tmp_path / "x.ckpt", "run", 5.0, 0.03)
    clock[0] += 5
    assert one.is_due(run)
    one.save(run)
    one.close()
    one.cost = 0.6
    assert [clock.__setitem__(0, 105.0 + passed) or one.is_due(run) for passed in (5, 19, 21)] == [False, False, True]


def test_time_in_which_others_had_the_core_does_not_count(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "schedstat"
    said.write_text("5 1000000000 7", encoding="ascii")
    monkeypatch.setattr(saver, "WAITED", said)
    run, one = Weights(), Saver(tmp_path / "x.ckpt", "run", 5.0, 0.03)
    one.cost = 0.6
    clock[0] += 100
    said.write_text("6 82000000000 7", encoding="ascii")  # 81 s of the 100
    assert not one.is_due(run)
    clock[0] += 2
    assert one.is_due(run)
    said.unlink()  # a system that does not say
    assert waited() == 0.0
    one = Saver(tmp_path / "x.ckpt", "run", 0.0, 0.03)
    clock[0] += 1
    assert one.is_due(run)


def test_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, real = threading.Event(), checkpoint.save

    def late(*arguments: Any) -> bool:
        go.wait()
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "save", late)
    saved: list[int] = []
    run, one = Weights(), Saver(tmp_path / "x.ckpt", "run", 0.0, 0.5, lambda: saved.append(1))
    one.save(run)
    run.weights += 1  # a step in place, before anything is written
    assert not one.is_due(run)  # one at a time
    go.set()
    assert one._writing is not None
    one._writing.join()
    assert _read(tmp_path / "x.ckpt") == [0.0] * 4
    assert saved == [1]


def test_closing_abandons_what_is_being_written_and_leaves_the_last_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, one = Weights(), Saver(tmp_path / "x.ckpt", "run", 0.0, 0.5)
    one.save_now(run)
    begun, go, real = threading.Event(), threading.Event(), checkpoint.save

    def slow(*arguments: Any) -> bool:
        begun.set()
        go.wait()
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "save", slow)
    run.weights += 1
    one.save(run)
    begun.wait()
    threading.Timer(0.05, go.set).start()
    one.close()
    assert _read(tmp_path / "x.ckpt") == [0.0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_disk_that_takes_nothing_is_told(share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    errors: list[OSError] = []
    told = Saver(tmp_path / "x.ckpt", "run", 0.0, share, on_error=errors.append)
    told.save(Weights())
    told.close()
    assert [error.errno for error in errors] == [28]
    raising = Saver(tmp_path / "x.ckpt", "run", 0.0, share)
    if share < 1:
        raising.save(Weights())  # whose error comes with the next one
        assert raising._writing is not None
        raising._writing.join()
    with pytest.raises(OSError, match="No space left"):
        raising.save(Weights())


def test_snapshot_shares_no_memory_and_keeps_the_rest() -> None:
    tensor = torch.arange(3.0)
    value = {"a": [tensor, (tensor, 1)], "b": {"c": None, "d": "text"}}
    copy = snapshot(value)
    tensor += 1
    assert copy["a"][0].tolist() == [0.0, 1.0, 2.0] == copy["a"][1][0].tolist()
    assert (copy["a"][1][1], copy["b"]) == (1, {"c": None, "d": "text"})
    assert size_of(value) == 24


def test_state_that_can_not_be_written_fails_the_run_at_its_next_step(clock: list[float], tmp_path: Path) -> None:
    run = Weights()
    one = Saver(tmp_path / "x.ckpt", "run", 1.0, 0.03, on_error=lambda error: None)
    broken = Weights()
    broken.state = lambda: {"weights": run.weights, "function": lambda: None}  # type: ignore[method-assign]
    one.save(broken)
    assert one._writing is not None
    one._writing.join()
    with pytest.raises(Exception, match="pickle"):
        one.is_due(run)
    assert one.is_due(run) is False


def test_copy_of_a_state_is_of_plain_containers() -> None:
    copied = snapshot({"counts": Counter({3: 1, 8: 2}), "both": (torch.ones(1), [2])})
    assert copied == {"counts": {3: 1, 8: 2}, "both": (torch.ones(1), [2])}
