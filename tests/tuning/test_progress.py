"""What a person is told of a search that runs: on a terminal and elsewhere."""

import io
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from podium.tuning import progress
from podium.tuning.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trial(number: int, state: TrialState, value: float | None = None, seconds: float = 10) -> FrozenTrial:
    made = create_trial(
        state=state,
        value=value,
        params={"train.learning_rate": 0.0123456},
        distributions={"train.learning_rate": FloatDistribution(1e-4, 1.0)},
        user_attrs={"recipe": {"train.epochs": 20}},
    )
    made.number = number
    made.datetime_start = datetime(2026, 1, 1)
    made.datetime_complete = made.datetime_start + timedelta(seconds=seconds)
    return made


def watch(direction: Any = "maximize") -> Progress:
    return Progress(optuna.create_study(direction=direction), 10, "search")


def tell(shown: Progress) -> None:
    """One complete, one better, one pruned, one failed; two are training."""
    for number, state, value in (
        (0, TrialState.COMPLETE, 0.5),
        (1, TrialState.COMPLETE, 0.75),
        (2, TrialState.PRUNED, None),
        (3, TrialState.FAIL, None),
    ):
        shown.ended(trial(number, state, value))
    for number, epochs in ((4, 5), (5, 10)):
        shown.running(
            trial(number, TrialState.COMPLETE, 0.0),
            [{"epoch": float(e), "val_accuracy": e / 20, "val_loss": 1.5} for e in range(epochs)],
        )


def test_line_without_a_terminal_tells_states_best_workers_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown = watch()
    tell(shown)
    shown.ended(trial(6, TrialState.COMPLETE, 0.6))
    shown.close()
    captured = capsys.readouterr()
    last = captured.out.splitlines()[-1]
    # 5 are left, of which 0.75 are trained already, 10 s each, two at a time.
    assert last == (
        "search: 5/10  3 complete, 1 pruned, 1 failed; best 0.7500 (trial 1); trial 4: epoch 5/20, val accuracy 0.2000;"
        " trial 5: epoch 10/20, val accuracy 0.4500; about 21 s left"
    )
    assert captured.err == ""


def test_lines_without_a_terminal_are_few_and_the_last_trial_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shown = watch()
    for number in range(10):
        shown.ended(trial(number, TrialState.COMPLETE, 0.1))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("search: 10/10  10 complete, 0 pruned; best 0.1000 (trial 0)")


def test_low_loss_is_the_best(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown = watch("minimize")
    tell(shown)
    shown.ended(trial(6, TrialState.COMPLETE, 0.6))
    out = capsys.readouterr().out
    assert "best 0.5000 (trial 0)" in out
    assert "trial 4: epoch 5/20, val loss 1.5" in out


def test_many_running_trials_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown = watch()
    for number in range(9):
        shown.running(trial(number, TrialState.COMPLETE, 0.0), [])
    shown.ended(trial(0, TrialState.COMPLETE, 0.5))
    assert "trial 6: epoch 0/20; and 2 more; about" in capsys.readouterr().out


def test_terminal_shows_the_best_configuration_and_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DRAW_EVERY", 0.0)
    shown = watch()
    tell(shown)
    shown.note("trial 3 failed: no")
    shown.close()
    text = terminal.getvalue()
    assert "best 0.7500 (trial 1): learning_rate 0.0123" in text
    assert "trial 4: epoch 5/20, val accuracy 0.2000; trial 5: epoch 10/20, val accuracy 0.4500" in text
    assert "2 complete, 1 pruned, 1 failed; about 26 s left" in text
    assert "trial 3 failed: no" in text


def test_hearing_of_an_epoch_costs_next_to_nothing() -> None:
    """The driver hears of every epoch of every worker; 20 microseconds are a thousandth of the shortest epoch."""
    shown = watch()
    running = trial(1, TrialState.COMPLETE, 0.0)
    started = time.process_time()
    for _ in range(2000):
        shown.running(running, [{"epoch": 1.0}])
    assert (time.process_time() - started) / 2000 < 1e-3


@pytest.mark.parametrize("rests", [False, True])
def test_trials_left_running_rest_in_a_search_that_lets_them(
    rests: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    study = optuna.create_study()
    study.ask()
    shown = Progress(study, 10, "search", rests=rests)
    shown.ended(trial(1, TrialState.COMPLETE, 0.5))
    assert ("1 resting" in "".join(capsys.readouterr())) is rests


def test_epoch_that_is_trained_again_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a checkpoint was lost, or of an own training loop that saves nothing: `3 of 2 epochs` was shown."""
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    study = optuna.create_study(direction="maximize")
    shown = Progress(study, 10, "search", rests=True, max_epochs=2)
    asked = study.ask()
    for epoch in (1, 1, 2):
        if epoch not in study.trials[0].intermediate_values:
            asked.report(0.5, epoch)
        history = [{"epoch": float(e), "val_accuracy": 0.5} for e in range(1, epoch + 1)]
        shown.running(study.trials[0], history)
    shown.rested(study.trials[0], history)
    assert "2 of 2 epochs" in capsys.readouterr().out


def test_small_values_are_no_zeros(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown = watch("minimize")
    shown.running(trial(1, TrialState.RUNNING), [{"epoch": 1.0, "val_loss": 0.000051, "val_accuracy": 1.0}])
    shown.ended(trial(0, TrialState.COMPLETE, 0.000042))
    shown.close()
    text = capsys.readouterr().out
    assert "best 0.000042 (trial 0)" in text
    assert "val loss 0.000051" in text
