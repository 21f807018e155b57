"""Own training loops whose trials rest: they save after they have reported, so they leave with that save."""

from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from own import OwnCode
from podium import own_code
from podium.tuning.messages import Report, Task
from podium.tuning.work import TrialData, run_trial

LOOP = """
TRAINED = []


def program(network, run, config):
    state = run.load()
    for epoch in range(state["epoch"] + 1 if state else 1, config["train.epochs"] + 1):
        TRAINED.append(epoch)
        run.report(epoch, val_accuracy=epoch / 10)
        {then}
    return network()
"""
SLICES = ((1, 1), (2, 2), (4, 4), (None, 5))
"""Until which epoch a trial is trained, and the epochs that it then has."""


@pytest.fixture(scope="module")
def trial_data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))


def _task(own: OwnCode, folder: Path, then: str) -> tuple[Task, list[int]]:
    module = own.write(LOOP.format(then=then))
    recipe = tiny.recipe(train__program=f"{module}:program", train__epochs=5)
    trained: list[int] = own_code.load(f"{module}:TRAINED", "")
    return Task(3, 1, 0, recipe.nested(), str(folder / "3.pt"), 1e9), trained


def _slices(task: Task, trial_data: TrialData) -> tuple[list[int], list[str]]:
    """The epochs that the driver is told of, and the notes, of a trial that rests after each of SLICES."""
    reported: list[int] = []
    notes: list[str] = []

    def report(report: Report) -> bool:
        reported.append(int(report.epoch["epoch"]))
        return True

    rested = 0
    for until, epochs in SLICES:
        ended = run_trial(replace(task, until=until, rested=rested), trial_data, report)
        assert (ended.how, len(ended.history)) == ("rested" if until else "finished", epochs)
        notes += ended.notes
        rested = epochs
    return reported, notes


def test_own_loop_that_saves_after_its_report_trains_no_epoch_again(
    own: OwnCode, trial_data: TrialData, tmp_path: Path
) -> None:
    """It left with its report: what it had saved was the epoch before, and that is where it went on."""
    task, trained = _task(own, tmp_path, 'run.save({"epoch": epoch})')
    reported, notes = _slices(task, trial_data)
    assert trained == reported == [1, 2, 3, 4, 5]
    assert not [note for note in notes if "epoch" in note and "resumes" in note]


def test_own_loop_that_saves_nothing_begins_again_and_says_so(
    own: OwnCode, trial_data: TrialData, tmp_path: Path
) -> None:
    task, trained = _task(own, tmp_path, "pass")
    reported, notes = _slices(task, trial_data)
    assert trained == [1, 2, 1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5], "the first time it is waited for whether it saves"
    assert reported == [1, 1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert "trial 3 trains its first 4 epochs again: its own training loop saves nothing (run.save)" in notes


def test_own_loop_that_ends_by_itself_where_it_was_to_rest_has_finished(
    own: OwnCode, trial_data: TrialData, tmp_path: Path
) -> None:
    task, trained = _task(own, tmp_path, "break")
    ended = run_trial(replace(task, until=1), trial_data, lambda report: True)
    assert (ended.how, trained) == ("finished", [1])
    assert ended.measured


def test_own_loop_that_catches_everything_rests_all_the_same(
    own: OwnCode, trial_data: TrialData, tmp_path: Path
) -> None:
    then = "\n        ".join(
        ["try:", '    run.save({"epoch": epoch})', "except BaseException:", '    return "nothing"']
    )
    task, trained = _task(own, tmp_path, then)
    ended = run_trial(replace(task, until=2), trial_data, lambda report: True)
    assert (ended.how, len(ended.history), trained) == ("rested", 2, [1, 2])
