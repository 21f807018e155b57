"""The sentences on top of the report, and what it proposes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podium.report.cost import Outlook, spent
from podium.report.image_advice import image_advice
from podium.report.report_data import ReportData, gather
from podium.report.summary import advice, summarize
from podium.report.trials import Search
from podium.tuning.reference_lines import Line, Lines
from report import sample

NOISE = Outlook(trials=40, gain=0.001, std=0.01)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    sample.write_search(tmp_path, 60)
    return gather(sample.folders(tmp_path)).search


def proposals(search: Search, outlook: Outlook = NOISE) -> str:
    return "\n".join(f"{a.do}: {a.why}" for a in advice(search, spent(search, None), outlook))


def test_best_trials_at_an_end_of_a_range_ask_for_a_wider_one(search: Search) -> None:
    """The best learning rates are around 0.003: a space that ends there is too narrow."""
    narrow = search.space | {"train.learning_rate": {"low": 1e-4, "high": 4e-3, "log": True}}
    assert "Widen train.learning_rate" not in proposals(search)
    found = proposals(replace(search, space=narrow))
    assert "Widen train.learning_rate: above high: 0.004" in found
    assert "of the best 5 trials" in found


@pytest.mark.parametrize(
    ("outlook", "sentence"),
    [
        (NOISE, "Do not add trials"),
        (Outlook(40, 0.02, 0.01), "Raise search.n_trials"),
        (Outlook(40, 0.02, None), "See in the optimization history"),
    ],
)
def test_more_trials_are_proposed_where_they_stand_out(search: Search, outlook: Outlook, sentence: str) -> None:
    assert sentence in proposals(search, outlook)


def test_dimension_that_decides_nothing_is_to_be_fixed_at_the_best_value(search: Search) -> None:
    idle = replace(search, importances={"train.learning_rate": 0.995, "train.optimizer": 0.005})
    best = search.ranked()[0].params["train.optimizer"]
    assert f"Fix train.optimizer at {best}" in proposals(idle)


def test_many_failures_and_no_pruning_are_named(search: Search) -> None:
    assert "Look at the failed trials" in proposals(search)
    calm = replace(search, trials=search.of("COMPLETE"))
    assert "Look at the failed trials" not in proposals(calm)
    assert "Use a pruner" in proposals(calm)


def _with_images(tmp_path: Path, shape: list[int], counts: dict[str, int], val: int = 20, **more: Any) -> ReportData:
    """A report's data of a search of 20 trials whose images have `counts` by class."""
    sample.write_search(tmp_path, 20)
    data = gather(sample.folders(tmp_path))
    both = {"train": counts, "val": dict.fromkeys(counts, val)}
    return replace(data, dataset={"counts": both, "classes": list(counts), "shape": shape}, **more)


EVEN = {"cat": 300, "dog": 300}


@pytest.mark.parametrize(
    ("shape", "counts", "val", "sentence", "is_said"),
    [
        ([3, 96, 96], EVEN, 40, "Start from pretrained weights", True),
        ([3, 8, 8], EVEN, 40, "Start from pretrained weights", False),
        ([3, 96, 96], {"cat": 30_000, "dog": 30_000}, 40, "Start from pretrained weights", False),
        ([3, 8, 8], EVEN, 9, "select.folds: 5", True),
        ([3, 8, 8], {"cat": 3000, "dog": 3000}, 9, "Add images of these classes", True),
        ([3, 8, 8], EVEN, 10, "validation images of", False),
        ([3, 8, 8], {"cat": 300, "dog": 30}, 40, "train.balance: loss", True),
        ([3, 8, 8], {"cat": 300, "dog": 90}, 40, "train.balance: loss", False),
    ],
)
def test_advice_looks_at_the_images(
    tmp_path: Path, shape: list[int], counts: dict[str, int], val: int, sentence: str, is_said: bool
) -> None:
    found = "\n".join(f"{a.do} ({a.why})" for a in image_advice(_with_images(tmp_path, shape, counts, val)))
    assert (sentence in found) is is_said


@pytest.mark.parametrize(
    ("train_loss", "val_loss", "sentence"),
    [(0.05, 0.9, "Narrow the gap"), (0.6, 0.65, "Let it learn more"), (0.2, 0.25, "")],
)
def test_advice_looks_at_the_gap_between_training_and_validation(
    tmp_path: Path, train_loss: float, val_loss: float, sentence: str
) -> None:
    data = _with_images(tmp_path, [3, 8, 8], EVEN, 40)
    search = replace(data.search, last_epoch={"train_loss": train_loss, "val_loss": val_loss})
    found = [a.do for a in image_advice(replace(data, search=search))]
    assert any(one.startswith(sentence) for one in found) if sentence else not found


def test_advice_names_larger_images_where_the_files_are_much_larger(tmp_path: Path) -> None:
    data = _with_images(tmp_path, [3, 16, 16], EVEN, 40, audit={"sizes": {"640x480": 500, "others": 3}})
    assert "prepare.size: 32" in image_advice(data)[0].do


@pytest.mark.parametrize(("value", "answer", "alarm"), [(0.5, "Yes, by", False), (0.999, "No:", True)])
def test_search_is_compared_with_the_reference_lines(tmp_path: Path, value: float, answer: str, alarm: bool) -> None:
    line = Line("simple", value, value, 600)
    lines = Lines("accuracy", "maximize", 80, (line,), {"pretrained": "images of 8 pixels are too small"})
    data = _with_images(tmp_path, [3, 8, 8], EVEN, 40, lines=lines)
    (card,) = [c for c in summarize(data, spent(data.search, None), NOISE).cards if "without a search" in c.question]
    assert card.answer.startswith(answer)
    assert card.alarm is alarm
    assert "not computed, images of 8 pixels" in card.lines[-1]
    assert any("lower train.learning_rate" in a.do for a in image_advice(data)) is alarm
