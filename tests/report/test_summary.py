"""The sentences on top of the report, and what it proposes."""

from dataclasses import replace
from pathlib import Path

import pytest

from podium.report.cost import Outlook, spent
from podium.report.report_data import gather
from podium.report.summary import advice
from podium.report.trials import Search
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
