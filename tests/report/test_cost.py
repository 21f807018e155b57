"""What a search cost and what more of it could bring."""

from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import pytest

from podium.report.cost import best_of, outlook, pooled_std, spent
from podium.report.report_data import gather
from report import sample


@pytest.mark.parametrize("values", [[1.0], [3.0, 1.0], [0.2, 0.9, 0.9], [5.0, 1.0, 4.0, 2.0, 3.0]])
def test_best_of_half_is_the_mean_over_all_halves(values: list[float]) -> None:
    halves = list(combinations(values, (len(values) + 1) // 2))
    assert best_of(values) == pytest.approx(fmean(max(half) for half in halves))


def test_best_of_half_of_many_is_finite_and_below_the_best() -> None:
    assert 0.95 < best_of([k / 5000 for k in range(5000)]) < 0.9998


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], None),
        ([[1.0], [2.0]], None),
        ([[1.0, 3.0]], stdev([1, 3])),
        ([[1.0, 3.0], [5.0], [7.0, 9.0]], stdev([1, 3])),
    ],
)
def test_pooled_std_is_that_within_groups(groups: list[list[float]], expected: float | None) -> None:
    assert pooled_std(groups) == (None if expected is None else pytest.approx(expected))


def test_spent_counts_what_this_study_ran(tmp_path: Path) -> None:
    study = sample.write_search(tmp_path, 40)
    data = gather(sample.folders(tmp_path))
    cost = spent(data.search, data.timing)
    trials = study.get_trials()
    states = [t.state.name for t in trials]
    assert (cost.complete, cost.pruned, cost.failed) == tuple(map(states.count, ("COMPLETE", "PRUNED", "FAIL")))
    assert cost.epochs == sum(len(t.user_attrs["history"]) for t in trials)
    saved = [t.user_attrs["recipe"]["train.epochs"] - 2 for t in trials if t.state.name == "PRUNED"]
    assert cost.epochs_saved == sum(saved)
    assert cost.seconds_saved == pytest.approx(0.05 * sum(saved))
    assert cost.seconds == 24.0
    assert cost.busy == pytest.approx(40 * 0.9 / (2 * 24.0))


def test_spent_without_the_study_has_no_times(tmp_path: Path) -> None:
    sample.write_search(tmp_path, 8)
    (tmp_path / "optuna.journal").unlink()
    data = gather(sample.folders(tmp_path))
    assert data.timing is None
    assert spent(data.search, None).seconds is None
    assert spent(data.search, None).epochs > 0


@pytest.mark.parametrize(("values", "worth_it"), [([0.5, 0.5001], True), ([0.1, 0.9], False)])
def test_outlook_compares_the_gain_with_the_deviation_over_seeds(
    tmp_path: Path, values: list[float], worth_it: bool
) -> None:
    sample.write_search(tmp_path, 40)
    found = outlook(gather(sample.folders(tmp_path)).search, [{"values": values}])
    assert found.gain > 0.0005
    assert found.worth_it is worth_it


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_outlook_gain_is_never_negative(tmp_path: Path, metric: str) -> None:
    sample.write_search(tmp_path, 30, sample.params(metric))
    assert outlook(gather(sample.folders(tmp_path)).search, []).gain > 0
