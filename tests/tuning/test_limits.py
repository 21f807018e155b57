"""search.limits: what breaks one is not trained where the configuration says so, and never selected."""

import csv
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import tiny
from podium.config.limits import described, excess
from podium.config.params import RuntimeParams, TrackingParams, parse
from podium.errors import InputError, PodiumError
from podium.tracking.pareto_front import is_feasible
from podium.tuning import feasibility
from podium.tuning.confirm import choose, confirm
from podium.tuning.driver import Driver
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.outcome import ranked, search, write_trials
from podium.tuning.study import open_study
from podium.tuning.work import run_trial
from tuning.scripted import Recorder, Script, ScriptedPool, epoch, finishes, search_params

LIMITS = {"parameters": 100, "accuracy": 0.6}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("{latency_ms: 5 ms}", "got '5 ms': write a number alone, without 'ms'"),
        ("{min_recall: 60%}", "got '60%': write 0.6 for 60%"),
        ("{gap: 0.2}", "gap is no limit; available: latency_ms, parameters, size_mb, accuracy"),
        ("{gap: 0.2}", "min_recall, a class of torchmetrics.classification, or your own as module:object"),
        ("{parameters: 0}", "search.limits: parameters must be above 0; got 0"),
        ("{latency: 5}", "search.limits: latency is no limit; did you mean latency_ms"),
        ("{min_recall: 1.5}", "search.limits: min_recall must be 0 to 1; got 1.5"),
        ("{min_recall: 60}", "min_recall must be 0 to 1; got 60, a fraction: 0.6 is 60%"),
        ("{calibration_error: -1, size_mb: -2}", "calibration_error must be 0 to 1; got -1; size_mb must be above 0"),
        ("{cost: 1}", "cost needs arguments, which a limit can't have: limit another"),
        ("{top_5: 0.9}", "top_5 is no limit; write top_k, which is top_5 in limits"),
        ("{val_top_5: 0.9}", "val_top_5 is no limit; write top_k, which is top_5 in limits"),
        ("{top_3: 0.9}", "top_3 is no limit; top_k is top_5 there, for a limit can't have arguments: limit top_k, or"),
        ("{val_accuracy: 0.9}", "val_accuracy is no limit; write accuracy"),
        ("[5]", "search.limits: must be"),
        ("{LATENCY_MS: 5}", "LATENCY_MS is no limit; did you mean latency_ms?"),
        ("{precision: 0.5}", "precision is no limit; did you mean MulticlassPrecision?"),
    ],
)
def test_limit_that_can_not_be_kept_is_refused(limits: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(f"search: {{limits: {limits}, space: {{}}}}")
    assert message in str(caught.value)


def test_limit_may_be_a_class_of_torchmetrics() -> None:
    limits = parse("search: {limits: {MulticlassMatthewsCorrCoef: -0.2, MulticlassHammingDistance: 0.3}}").search.limits
    broken = {"val_MulticlassMatthewsCorrCoef": -0.3, "val_MulticlassHammingDistance": 0.4}
    assert described(limits, broken) == (
        "MulticlassMatthewsCorrCoef -0.3000 (at least -0.2), MulticlassHammingDistance 0.4000 (at most 0.3)"
    )


def test_measured_latency_does_not_go_with_a_search_that_can_be_repeated() -> None:
    with pytest.raises(InputError, match="deterministic does not go with limits.latency_ms"):
        parse("search: {deterministic: true, limits: {latency_ms: 5}, space: {}}")
    assert parse("search: {deterministic: true, limits: {size_mb: 5}, space: {}}").search.limits == {"size_mb": 5}


@pytest.mark.parametrize(
    ("figures", "over"),
    [
        ({"parameters": 100, "val_accuracy": 0.6}, ""),
        ({"parameters": 150, "val_accuracy": 0.6}, "parameters 150 (at most 100)"),
        ({"parameters": 99, "val_accuracy": 0.3}, "accuracy 0.3000 (at least 0.6)"),
        ({"val_accuracy": 0.3}, "accuracy 0.3000 (at least 0.6)"),
        ({"parameters": 100.4}, "parameters 100.4000 (at most 100)"),
        ({"parameters": 100.00001}, "parameters 100.00001 (at most 100)"),
        ({"val_accuracy": 0.59999999}, "accuracy 0.59999999 (at least 0.6)"),
        ({}, ""),
    ],
)
def test_excess_is_relative_to_the_limit(figures: dict[str, float], over: str) -> None:
    assert described(LIMITS, figures) == over
    beyond = excess(LIMITS, figures)
    assert any(value > 0 for value in beyond.values()) == bool(over)
    if figures.get("parameters") == 150:
        assert beyond["parameters"] == pytest.approx(0.5)


def test_configuration_that_is_too_large_is_not_trained(tmp_path: Path) -> None:
    data = tiny.trial_data(tiny.prepare(tmp_path / "prepared"))

    def task(**limits: float) -> Task:
        recipe = tiny.recipe(train__epochs=1).model_dump()
        return Task(0, 1, 7, recipe, str(tmp_path / "0.ckpt"), 1e9, limits=limits)

    def never(report: Report) -> bool:
        raise AssertionError("it was trained")

    over = run_trial(task(parameters=10), data, never)
    assert (over.how, over.history) == ("infeasible", [])
    kept = run_trial(task(parameters=1e6, size_mb=100.0), data, lambda report: True)
    assert kept.how == "finished"
    assert kept.costs["parameters"] == over.costs["parameters"] > 10
    assert kept.costs["size_mb"] == pytest.approx(4 * kept.costs["parameters"] / 1e6, rel=0.2)
    plain = run_trial(task(), data, lambda report: True)
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in one.history] for one in (plain, kept)]
    assert timeless[0] == timeless[1]  # measuring draws nothing of the training's


def scripted(limits: dict[str, float], script: Any, folder: Path, n_trials: int = 6) -> optuna.Study:
    params = search_params(n_trials=n_trials, limits=limits)
    study = open_study(optuna.storages.InMemoryStorage(), "scene", params, {})
    base = tiny.recipe(train__epochs=2)
    pool = ScriptedPool(1, script)
    Driver(study, pool, params, RuntimeParams(), base, folder, [Recorder()]).run()
    return study


def by_turns(task: Task) -> Script:
    """Every second configuration is too large; the others end with an accuracy of their number."""
    if task.number % 2:
        yield Ended(task.number, task.attempt, "infeasible", costs={"parameters": 150.0})
        return
    history = [epoch(number, task.number / 10) for number in (1, 2)]
    for one in history:
        yield Report(task.number, task.attempt, one)
    yield Ended(task.number, task.attempt, "finished", history, costs={"parameters": 90.0})


def test_trials_that_break_a_limit_are_pruned_or_complete_and_never_ranked(tmp_path: Path) -> None:
    study = scripted({"parameters": 100, "accuracy": 0.2}, by_turns, tmp_path)
    found = {t.number: (t.state.name, is_feasible(t)) for t in study.trials}
    assert {n: found[n] for n in (1, 3, 5)} == dict.fromkeys((1, 3, 5), ("PRUNED", False))
    assert found[0] == ("COMPLETE", False)
    assert [t.number for t in ranked(study)] == [4, 2]
    assert feasibility.counted(study) == "4 over search.limits (3 of them not trained)"
    write_trials(tmp_path / "trials.csv", study)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["feasible"] for row in rows] == ["False", "False", "True", "False", "True", "False"]
    assert rows[1]["over_limits"] == "parameters 150 (at most 100)"
    assert rows[0]["over_limits"] == "accuracy 0.0000 (at least 0.2)"


def test_limit_on_a_metric_that_no_epoch_has_fails_the_trial(tmp_path: Path) -> None:
    params = {"mcc": 0.5}
    with pytest.raises(PodiumError, match="search.limits: its last epoch has no mcc"):
        scripted(params, finishes, tmp_path, n_trials=30)


def test_candidate_is_chosen_among_those_that_keep_the_limits_on_fresh_seeds() -> None:
    study = optuna.create_study(direction="maximize")
    for rank, (value, recall) in enumerate([(0.9, 0.5), (0.8, 0.7), (0.7, 0.9)]):
        for seed in range(2):
            history = [{"epoch": 1, "val_accuracy": value, "val_min_recall": recall + seed / 100}]
            attributes: dict[str, Any] = {"rank": rank, "seed": seed, "history": history}
            study.add_trial(create_trial(state=TrialState.COMPLETE, value=value, user_attrs=attributes))
    candidates = [{"trial": rank, "recipe": {"train.epochs": rank}, "value": 0.9} for rank in range(3)]
    best = {"study": "s", "metric": "accuracy", "direction": "maximize", "recipe": {}, "whole": {}}
    chosen = choose(study, candidates, best, {"min_recall": 0.6})
    assert chosen["trial"] == 1
    assert chosen["candidates"][0]["over_limits"] == "min_recall 0.5050 (at least 0.6)"
    with pytest.raises(
        PodiumError, match=r"no candidate satisfies search.limits on fresh seeds: trial 0: min_recall 0.5050"
    ):
        choose(study, candidates, best, {"min_recall": 0.95})


LIMITED = """
  n_trials: 6
  seed: {seed}
  defaults_first: false
  limits: {{parameters: 1500, min_recall: 0}}
  space: {{model.width: {{choices: [2, 4, 8, 16]}}, train.epochs: {{low: 1, high: 2}}}}"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_selected_configuration_keeps_the_limits_of_the_search(
    seed: int, tmp_path: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = tiny.prepare(tmp_path / "prepared")
    params = tiny.params(store, LIMITED.format(seed=seed))
    study = search(params, prepared, tmp_path / "search")
    over = [t for t in study.trials if not is_feasible(t)]
    large = [t for t in over if "parameters" in t.user_attrs[feasibility.OVER]]
    assert large
    assert {t.params["model.width"] for t in large} <= {8, 16}
    assert all(t.state == TrialState.PRUNED and not t.intermediate_values for t in large)
    chosen = confirm(params, prepared, tmp_path / "search", tmp_path / "selected")
    for recipe in (chosen["recipe"], json.loads((tmp_path / "search/best.json").read_text())["recipe"]):
        assert recipe["model.width"] in (2, 4)
