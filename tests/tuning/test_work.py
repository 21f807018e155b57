import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from podium.errors import InputError
from podium.training import checkpoint, compiling
from podium.training.epochs import Epoch
from podium.training.loop import TrainingRun
from podium.tuning.messages import Report, Resumed, Task
from podium.tuning.work import TrialData, run_trial


@pytest.fixture(scope="module")
def trial_data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))


def _task(folder: Path, *, seconds: float = 1e9, timeout: float | None = None, number: int = 3, **recipe: Any) -> Task:
    path = folder / f"{number}.ckpt"
    return Task(number, 1, 7, tiny.recipe(**recipe).model_dump(), str(path), seconds, timeout)


def _yes(report: Report) -> bool:
    return True


def _timeless(history: list[Epoch]) -> list[Epoch]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


def _after(steps: int) -> Callable[[], bool]:
    """A wish to pause that comes after so many steps."""
    left = steps

    def pausing() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    return pausing


def test_trial_reports_each_epoch_and_ends_finished(trial_data: TrialData, tmp_path: Path) -> None:
    reports: list[Report] = []

    def report(report: Report) -> bool:
        reports.append(report)
        return True

    ended = run_trial(_task(tmp_path), trial_data, report)
    assert ended.how == "finished"
    assert [r.epoch for r in reports] == ended.history
    assert {(r.number, r.attempt) for r in reports} == {(3, 1)} == {(ended.number, ended.attempt)}
    assert list(tmp_path.iterdir()) == []  # too short to be worth a checkpoint


@pytest.mark.parametrize("error", [MemoryError(), InputError("search.metrics: own:odd fails")])
def test_trial_whose_waiting_metrics_fail_at_its_end_keeps_its_history_and_says_so(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*given: Any) -> None:
        raise error

    monkeypatch.setattr("podium.training.epoch_metrics.EpochMetrics.complete", fails)
    ended = run_trial(_task(tmp_path), trial_data, lambda report: report.epoch["epoch"] < 2)
    assert (ended.how, [epoch["epoch"] for epoch in ended.history]) == ("stopped", [1, 2])
    assert any(note.startswith("metrics of epochs that waited are missing: ") for note in ended.notes)


def test_trial_told_to_stop_ends_stopped_with_its_history(trial_data: TrialData, tmp_path: Path) -> None:
    ended = run_trial(_task(tmp_path), trial_data, lambda report: report.epoch["epoch"] < 2)
    assert ended.how == "stopped"
    assert [epoch["epoch"] for epoch in ended.history] == [1, 2]


@pytest.mark.parametrize("steps", range(11))
def test_paused_trial_goes_on_as_if_it_had_not_been(trial_data: TrialData, tmp_path: Path, steps: int) -> None:
    recipe: dict[str, Any] = {"train__shift": 1, "model__dropout": 0.2}
    undisturbed = run_trial(_task(tmp_path, **recipe), trial_data, _yes)
    task = _task(tmp_path, **recipe)
    paused = run_trial(task, trial_data, _yes, _after(steps))
    assert paused.how == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["3.ckpt"]
    resumed: list[Resumed] = []
    again = run_trial(task, trial_data, _yes, resumed=resumed.append)
    assert again.how == "finished"
    assert [r.history for r in resumed] == ([again.history[: steps // 4]] if steps >= 4 else [])
    assert _timeless(again.history) == _timeless(undisturbed.history)
    assert again.notes == [f"trial 3 resumes from epoch {steps // 4}, step {steps % 4 + 1}"]


def test_long_epochs_are_saved_at_their_end_and_in_between(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []

    def save(path: Path, name: str, state: dict[str, Any], abandoned: Any) -> bool:
        saved.append((state["epoch"], state["step"]))
        return True

    monkeypatch.setattr(checkpoint, "save", save)
    run_trial(_task(tmp_path, seconds=1e-9, train__epochs=2), trial_data, _yes)
    assert saved == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0)]


def test_checkpoint_written_meanwhile_is_one_to_resume_from_bit_for_bit(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.training.saver.ASSUMED", 1e15)
    recipe: dict[str, Any] = {"train__shift": 1, "model__dropout": 0.2}
    task = replace(_task(tmp_path, seconds=1e-9, **recipe), checkpoint_share=0.99)
    undisturbed = run_trial(task, trial_data, _yes)
    assert [path.name for path in tmp_path.iterdir()] == ["3.ckpt"]  # that of some step
    again = run_trial(task, trial_data, _yes)
    assert again.notes[0].startswith("trial 3 resumes from epoch ")
    assert _timeless(again.history) == _timeless(undisturbed.history)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "trial 3 starts again: 3.ckpt is torn"),
        (lambda path: checkpoint.save(path, "trial 4", {}), "trial 3 starts again: 3.ckpt belongs to another run"),
    ],
    ids=["torn", "another's"],
)
def test_damaged_checkpoint_starts_the_trial_again_and_says_so(
    trial_data: TrialData, tmp_path: Path, damage: Callable[[Path], Any], line: str
) -> None:
    undisturbed = run_trial(_task(tmp_path), trial_data, _yes)
    run_trial(_task(tmp_path), trial_data, _yes, _after(5))
    damage(tmp_path / "3.ckpt")
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert _timeless(ended.history) == _timeless(undisturbed.history)
    assert len(ended.notes) == 1
    assert ended.notes[0].startswith(line)


@pytest.mark.parametrize("change", [{"number": 4}, {"train__epochs": 5}], ids=["number", "recipe"])
def test_checkpoint_belongs_to_one_trial(trial_data: TrialData, tmp_path: Path, change: dict[str, Any]) -> None:
    run_trial(_task(tmp_path), trial_data, _yes, _after(5))
    (tmp_path / "3.ckpt").rename(tmp_path / f"{change.get('number', 3)}.ckpt")
    ended = run_trial(_task(tmp_path, **change), trial_data, _yes)
    assert "belongs to another run" in ended.notes[0]


def test_timeout_fails_the_trial_and_names_itself(trial_data: TrialData, tmp_path: Path) -> None:
    ended = run_trial(_task(tmp_path, timeout=1e-9), trial_data, _yes)
    assert ended.how == "failed"
    assert ended.reason == "search.trial_timeout: 1e-09 s passed in epoch 1"
    assert not ended.diverged


def test_search_without_time_stops_the_trial_at_its_next_step(trial_data: TrialData, tmp_path: Path) -> None:
    ended = run_trial(replace(_task(tmp_path), stop_after=0.0), trial_data, _yes)
    assert (ended.how, ended.history) == ("stopped", [])


def test_timeout_counts_what_the_trial_took_before(trial_data: TrialData, tmp_path: Path) -> None:
    run_trial(_task(tmp_path), trial_data, _yes, _after(6))
    path, identity = tmp_path / "3.ckpt", _task(tmp_path).identity
    state = checkpoint.load(path, identity)
    assert state is not None
    state["history"][0]["seconds"] = 1000.0
    checkpoint.save(path, identity, state)
    ended = run_trial(_task(tmp_path, timeout=900.0), trial_data, _yes)
    assert ended.reason == "search.trial_timeout: 900 s passed in epoch 2"
    assert [epoch["epoch"] for epoch in ended.history] == [1]


def test_diverged_trial_fails_with_the_reason_and_what_it_had(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "podium.training.schedules.one_cycle.OneCycle.factor",
        lambda schedule, step, *_: 0.1 if step < 4 else float("nan"),
    )
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert ended.how == "failed"
    assert ended.reason.startswith("train_loss became nan in epoch 2")
    assert ended.diverged
    assert [epoch["epoch"] for epoch in ended.history] == [1]
    assert ended.trace == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no such thing"), "ValueError: no such thing"),
        (MemoryError("9 GB"), "out of memory: 9 GB"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: CUDA out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        ),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "out of memory: CUBLAS_STATUS_ALLOC_FAILED"),
    ],
    ids=["an error", "memory", "CUDA's memory", "torch's memory", "cuBLAS's memory"],
)
def test_error_in_a_trial_is_its_own_failure_with_a_traceback(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def step(*args: Any) -> None:
        raise error

    monkeypatch.setattr("podium.training.loop.TrainingRun.train_step", step)
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert (ended.how, ended.reason.rpartition("in step: ")[2]) == ("failed", reason)
    assert ended.trace.startswith("Traceback")
    assert type(error).__name__ in ended.trace


def test_disk_that_takes_no_checkpoint_costs_the_trial_nothing_else(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    undisturbed = run_trial(_task(tmp_path), trial_data, _yes)
    monkeypatch.setattr("podium.training.checkpoint.save", full)
    ended = run_trial(_task(tmp_path, seconds=1e-9), trial_data, _yes)
    assert ended.how == "finished"
    assert _timeless(ended.history) == _timeless(undisturbed.history)
    (note,) = ended.notes
    assert note.startswith("trial 3 continues without checkpoints: ")
    assert note.endswith(": No space left on device")


def test_trial_rests_at_the_end_of_an_epoch_and_goes_on_bit_for_bit(trial_data: TrialData, tmp_path: Path) -> None:
    whole = run_trial(_task(tmp_path / "whole", train__epochs=5), trial_data, _yes)
    task = _task(tmp_path, train__epochs=5)
    seen: list[bool] = []

    def report(report: Report) -> bool:
        seen.append(Path(task.checkpoint).is_file())
        return True

    for until, epochs in ((1, 1), (3, 3), (3, 3), (None, 5)):
        ended = run_trial(replace(task, until=until), trial_data, report)
        assert (ended.how, len(ended.history)) == ("rested" if until else "finished", epochs)
    assert seen[:4] == [True, True, True, True], "the epoch at which it rests is saved before it is reported"
    assert _timeless(ended.history) == _timeless(whole.history)


@pytest.mark.parametrize("saved", [2, 3, 4])
def test_trial_saved_beyond_its_rest_reports_where_it_is(trial_data: TrialData, tmp_path: Path, saved: int) -> None:
    task = _task(tmp_path, train__epochs=6)
    run_trial(replace(task, until=saved), trial_data, _yes)
    reports: list[int] = []

    def report(report: Report) -> bool:
        reports.append(int(report.epoch["epoch"]))
        return True

    ended = run_trial(replace(task, until=3), trial_data, report)
    assert (ended.how, reports) == ("rested", [max(saved, 3)])


def test_trial_without_its_checkpoint_trains_again_to_its_rest(trial_data: TrialData, tmp_path: Path) -> None:
    task = replace(_task(tmp_path, train__epochs=4), until=2)
    first = run_trial(task, trial_data, _yes)
    Path(task.checkpoint).unlink()
    assert _timeless(run_trial(task, trial_data, _yes).history) == _timeless(first.history)


@pytest.mark.parametrize("fits", [2, 4, 8])
def test_batch_that_does_not_fit_is_trained_in_parts(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    sizes: list[int] = []
    real = TrainingRun._loss_of_part

    def whole(run: TrainingRun, *_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def part(run: TrainingRun, inputs: Any, labels: Any, others: Any, own: float, rows: Any) -> Any:
        if len(rows) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(rows))
        return real(run, inputs, labels, others, own, rows)

    monkeypatch.setattr(TrainingRun, "_loss", whole)
    monkeypatch.setattr(TrainingRun, "_loss_of_part", part)
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert ended.how == "finished"
    assert max(sizes) == fits
    assert f"out of memory; its gradients are added up over {16 // fits} parts" in ended.notes[0]


def test_compiled_trial_that_resumes_with_less_memory_goes_on_compiled_in_parts(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 8:
                raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
            logits: Tensor = self.model(images)
            return logits

    task = _rested_compiled(tmp_path, trial_data)
    monkeypatch.setattr(compiling, "_fails", {})
    monkeypatch.setattr(torch, "compile", Small)
    run_trial(replace(task, until=2), trial_data, _yes)
    state = checkpoint.load(Path(task.checkpoint), task.identity)
    assert state is not None
    assert (state["epoch"], state["compiled"], state["parts"]) == (2, True, 2)


def _rested_compiled(folder: Path, trial_data: TrialData) -> Task:
    """A trial that has rested after its first epoch, on a machine that had compiled it."""
    task = _task(folder)
    run_trial(replace(task, until=1), trial_data, _yes)
    state = checkpoint.load(Path(task.checkpoint), task.identity)
    assert state is not None
    checkpoint.save(Path(task.checkpoint), task.identity, state | {"compiled": True})
    return replace(task, rested=1)


def test_trial_that_rests_is_compiled_for_the_steps_until_then(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps of a whole training were counted, and each slice compiled once more: 10 s on a GPU for some steps."""
    asked: list[int] = []

    def pays(*given: Any) -> tuple[bool, list[str]]:
        asked.append(given[-1])
        return False, []

    monkeypatch.setattr(compiling, "pays", pays)
    task = replace(_task(tmp_path, train__epochs=6), compiles=True)
    for until, rested in ((1, 0), (3, 1), (None, 3)):
        run_trial(replace(task, until=until, rested=rested), trial_data, _yes)
    each = asked[0]
    assert asked == [each, 2 * each, 3 * each]


@pytest.mark.parametrize("how", ["finished", "stopped", "rested", "interrupted", "failed"])
def test_trial_that_goes_on_without_compiling_says_so_however_it_ends(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def report(report: Report) -> bool:
        if how == "failed":
            raise ValueError("no such thing")
        return how != "stopped"

    def broken(model: nn.Module) -> nn.Module:
        raise RuntimeError("no compiler")

    task = _rested_compiled(tmp_path, trial_data)
    monkeypatch.setattr(compiling, "_fails", {})
    monkeypatch.setattr(torch, "compile", broken)
    pausing = _after(1 if how == "interrupted" else 1000)
    ended = run_trial(replace(task, until=2 if how == "rested" else None), trial_data, report, pausing)
    assert ended.how == how
    (note,) = ended.notes
    assert note.startswith("trial 3: search.compile: torch.compile does not work here (RuntimeError: no compiler)")


def test_batch_of_which_no_part_fits_fails_the_trial_and_leaves_nothing(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[Any] = []

    def never(run: TrainingRun, *_: Any) -> Any:
        networks.append(weakref.ref(run.model))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingRun, "train_step", never)
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert (ended.how, ended.reason) == ("failed", "out of memory: CUDA out of memory")
    assert len(networks) == 4  # whole, and in 2, 4 and 8 parts
    assert [network() for network in networks] == [None] * 4


def test_trial_tells_its_peak_of_memory(trial_data: TrialData, tmp_path: Path) -> None:
    ended = run_trial(_task(tmp_path), trial_data, _yes)
    assert ended.peak_memory is None or 10**7 < ended.peak_memory < 10**11


@pytest.mark.parametrize("how", ["finished", "stopped", "interrupted"])
def test_ended_trial_has_the_logged_metrics_of_every_epoch(
    trial_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("podium.training.epoch_metrics.SECONDS", 1e9)
    reports: list[Report] = []

    def report(report: Report) -> bool:
        reports.append(report)
        return how != "stopped" or len(reports) < 2

    task = replace(_task(tmp_path, train__epochs=3), more=["auroc"], logged=["mcc", "brier"])
    ended = run_trial(task, trial_data, report, _after(9 if how == "interrupted" else 1000))
    assert (ended.how, len(ended.history)) == (how, 3 if how == "finished" else 2)
    assert all({"val_auroc", "val_mcc", "val_brier"} <= set(epoch) for epoch in ended.history)
    assert ["val_mcc" in one.epoch for one in reports] == [False, False, True][: len(ended.history)]
    assert all("val_auroc" in one.epoch for one in reports)
    told = {int(one["epoch"]): one for report in reports for one in [*report.earlier, report.epoch]}
    assert how != "finished" or list(told.values()) == ended.history
