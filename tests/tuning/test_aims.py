"""A search for several metrics: what is refused, what the driver records, and what is chosen of the front."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

import tiny
from podium.components import Choice
from podium.config.aims import Aim
from podium.config.params import Params, RuntimeParams, SearchParams, SelectParams, parse
from podium.errors import InputError, PodiumError
from podium.tracking.pareto_front import best_trials
from podium.tracking.record import record_of, search_attributes
from podium.tuning.batch import BatchDriver
from podium.tuning.confirm import choose
from podium.tuning.driver import Driver
from podium.tuning.empty_study import play
from podium.tuning.feasibility import ANEW
from podium.tuning.fresh_latency import beyond, on_fresh_scale
from podium.tuning.front_choice import about_choice, about_front, by_rule, preference_of
from podium.tuning.inherit import inherit
from podium.tuning.messages import Ended, Lost, Report, Task
from podium.tuning.outcome import KEPT_IN_RANKING, importances, ranked, write
from podium.tuning.pareto import Preference, front, given_up
from podium.tuning.storage import open_storage
from podium.tuning.study import build_pruner, identity, open_study
from podium.tuning.work import run_trial
from tuning.scripted import Recorder, Script, ScriptedPool, epoch, finishes, search_params

BOTH = ["accuracy", "parameters"]
AIMS = [Aim("accuracy", "maximize", True), Aim("parameters", "minimize", False)]


@pytest.fixture
def known_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of code are not computed, which takes a second each: what is searched for is no code."""
    monkeypatch.setattr("podium.tuning.study.code_of", lambda pairs: {f"{kind} {name}": "1" for kind, name in pairs})


def _parsed(search: str, select: str = "{}") -> Params:
    return parse(f"search: {{{search}, space: {{}}}}\nselect: {select}")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("[accuracy, null]", "search.metric: must have a metric or a cost as each item; item 2 is empty (null)"),
        ("[]", "search.metric: must name a metric, or several; got []"),
        ("null", "search.metric: must be a name, a mapping of name and arguments, or a list"),
        ("latency_ms", "search for both, as in [accuracy, latency_ms]"),
        ("[latency_ms, loss]", "got latency_ms: write [loss, latency_ms]"),
        ("[accuracy, accuracy]", "must name each metric once; got accuracy twice"),
        ("[accuracy, latency]", "got 'latency'; did you mean latency_ms?"),
        ("[accuracy, Latency_MS]", "got 'Latency_MS'; did you mean latency_ms?"),
        ("[accuracy, {name: size_mb, arguments: {k: 3}}]", "size_mb takes no arguments; got {'k': 3}: remove them"),
        ("{name: latency_ms}", "search for both, as in [accuracy, latency_ms]"),
        ("[accuracy, loss, mcc, kappa, size_mb]", "must name at most 4"),
        ("[accuracy, loss], method: thaw, max_epochs: 9", "metric must be one with method: thaw"),
        ("[accuracy, loss], pruner: halving", "pruner must be left out with several metrics (accuracy, loss)"),
        ("[accuracy, loss], shared_epochs: true", "shared_epochs must be false with several metrics"),
        ("[accuracy, latency_ms], deterministic: true", "which is measured: name parameters instead"),
    ],
)
def test_metrics_that_do_not_go_together_are_refused(metric: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _parsed(f"metric: {metric}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "rule", "message"),
    [
        ("[accuracy, loss]", "best", "select.rule: must be first, knee, or {weights"),
        ("[accuracy, loss]", "{weights: {accuracy: -1, loss: 1}}", "weights must be numbers from 0 on"),
        ("[accuracy, loss]", "{weights: {accuracy: 0, loss: 0}}", "and not all of them 0"),
        ("[accuracy, loss]", "{weights: {accuracy: 1}}", "must name each of search.metric (accuracy, loss)"),
        ("accuracy", "knee", "select.rule: must be first where search.metric names one metric; got knee"),
    ],
)
def test_rule_that_can_not_choose_is_refused(metric: str, rule: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _parsed(f"metric: {metric}", f"{{rule: {rule}}}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "cost", ["{name: size_mb}", "{name: size_mb, arguments: {}}", "{name: size_mb, arguments: null}"]
)
def test_cost_may_be_named_as_a_metric_is(cost: str) -> None:
    assert _parsed(f"metric: [accuracy, {cost}]").search == _parsed("metric: [accuracy, size_mb]").search


def test_list_of_one_metric_is_that_metric(known_code: None) -> None:
    one, plain = _parsed("metric: [loss]").search, _parsed("metric: loss").search
    assert one == plain
    assert identity(one, tiny.recipe(), "d") == identity(plain, tiny.recipe(), "d")


def test_study_of_other_metrics_is_another_study_and_nothing_is_pruned(known_code: None) -> None:
    wordings = ["[accuracy, loss]", "[loss, accuracy]", "[accuracy, parameters]", "accuracy"]
    wordings += [f"[accuracy, {{name: top_k, arguments: {{k: {k}}}}}]" for k in (2, 3)]
    searches = [_parsed(f"metric: {one}").search for one in wordings]
    assert len({json.dumps(identity(one, tiny.recipe(), "d"), sort_keys=True) for one in searches}) == len(wordings)
    assert isinstance(build_pruner(searches[0]), optuna.pruners.NopPruner)
    assert not {"pruner", "pruner_startup"} & searches[0].identity().keys()


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ("first", 3),
        ("knee", 1),
        ({"weights": {"accuracy": 1.0, "parameters": 0.0}}, 3),
        ({"weights": {"accuracy": 0.0, "parameters": 1.0}}, 0),
        ({"weights": {"accuracy": 9.0, "parameters": 1.0}}, 2),
    ],
)
def test_rule_orders_the_front(rule: Any, first: int) -> None:
    front_values = [(0.60, 100), (0.90, 200), (0.96, 500), (0.98, 1100)]
    preference = Preference.of(rule, AIMS, front_values)
    ranking = [{"trial": n, "metrics": dict(zip(BOTH, row, strict=True))} for n, row in enumerate(front_values)]
    assert by_rule(ranking, preference)[0]["trial"] == first


@pytest.mark.parametrize("rule", ["first", "knee", {"weights": {"accuracy": 0, "parameters": 1}}])
def test_nothing_is_preferred_to_what_is_better_in_a_metric_that_counts_nothing(rule: Any) -> None:
    preference = Preference.of(rule, AIMS, [(0.9, 100), (0.8, 50)])
    assert preference.score([0.85, 50]) > preference.score([0.8, 50])  # on fresh seeds; as many parameters
    assert preference.score([0.9, 50]) > preference.score([0.9, 100])


@pytest.mark.parametrize("rule", ["knee", {"weights": {"accuracy": 0.0, "parameters": 1.0}}])
def test_rule_orders_values_as_far_apart_as_floats_are(rule: Any) -> None:
    values = [(0.9, 1e308), (0.89, -1.7e308), (0.5, -1.75e308)]
    scores = [Preference.of(rule, AIMS, values).score(row)[0] for row in values]
    assert all(map(math.isfinite, scores))
    assert scores.index(max(scores)) == (1 if rule == "knee" else 2)


def test_metric_that_is_equal_on_the_whole_front_decides_nothing() -> None:
    preference = Preference.of("knee", AIMS, [(0.9, 100), (0.9, 100)])
    assert preference.score([0.9, 100]) == (0.0,)


def measures(task: Task) -> Script:
    """End with an accuracy and a size that follow from the learning rate: a smaller network is a worse one."""
    size = round(1000 * task.recipe["train"]["learning_rate"], 3)
    history = [epoch(number, 0.9 - 1 / (10 + size) + number / 100) for number in (1, 2)]
    for one in history:
        if not (yield Report(task.number, task.attempt, one)):
            raise AssertionError("it was pruned")
    assert task.measured == ["parameters"]
    yield Ended(task.number, task.attempt, "finished", history, costs={"parameters": size})


def scripted(
    folder: Path, script: Callable[[Task], Script] = measures, study: optuna.Study | None = None, **fields: Any
) -> optuna.Study:
    wanted: dict[str, Any] = {"n_trials": 16, "metric": BOTH, "deterministic": True, "batch": 4, "sampler": "tpe"}
    params = search_params(**wanted | {"startup_trials": 4} | fields)
    study = study or open_study(optuna.storages.InMemoryStorage(), "search-scene", params, {})
    base, pool = tiny.recipe(train__epochs=2), ScriptedPool(2, script)
    BatchDriver(study, pool, params, RuntimeParams(), base, folder, [Recorder()]).run()
    return study


def rows(study: optuna.Study) -> list[Any]:
    return [(t.state.name, t.values, t.params) for t in study.trials]


def test_search_that_was_killed_ends_like_the_undisturbed_one(tmp_path: Path) -> None:
    whole = scripted(tmp_path)
    calls = []

    def dies_once(task: Task) -> Script:
        calls.append(task.number)
        if len(calls) == 10:
            raise OSError("the machine is gone")
        return measures(task)

    params = search_params(metric=BOTH, n_trials=16)
    study = open_study(optuna.storages.InMemoryStorage(), "search-scene", params, {})
    with pytest.raises(OSError, match="the machine is gone"):
        scripted(tmp_path, dies_once, study)
    assert any(not t.state.is_finished() for t in study.trials)
    assert rows(scripted(tmp_path, study=study)) == rows(whole)


def test_files_and_runs_say_which_trials_are_on_the_front(tmp_path: Path) -> None:
    study = scripted(tmp_path)
    settings = parse("search: {metric: [accuracy, parameters], space: {train.learning_rate: {low: 1.0e-4, high: 0.1}}}")
    best = write(tmp_path, study, settings, "")
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines()))
    on_front = {int(row["number"]) for row in rows if row["front"] == "True"}
    assert on_front == {t.number for t in study.best_trials} == front(study)
    assert float(rows[best.number]["value_parameters"]) == best.values[1]
    assert rows[0]["last_value"] == rows[0]["value"] == str(study.trials[0].values[0])
    ranking = json.loads((tmp_path / "ranking.json").read_text(encoding="utf-8"))
    assert [entry["trial"] for entry in ranking] == [t.number for t in ranked(study) if t.number in on_front]
    facts = json.loads((tmp_path / "best.json").read_text(encoding="utf-8"))
    assert Aim.read(facts) == AIMS
    assert facts["metrics"] == dict(zip(BOTH, best.values, strict=True))
    assert set(importances(study)) == {"train.learning_rate"}
    tags = {t.number: record_of(study, t, None, search_attributes).tags["podium.front"] for t in study.trials}
    assert {number for number, tag in tags.items() if tag == "yes"} == on_front
    metrics = {m.key: m.value for m in record_of(study, best, None, search_attributes).metrics}
    assert {name: metrics[name] for name in BOTH} == facts["metrics"]


def test_trial_without_one_of_the_metrics_fails_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(PodiumError, match="search.metric: its last epoch has no mcc"):
        scripted(tmp_path, finishes, metric=["accuracy", "mcc"], n_trials=30)


def test_plateau_counts_trials_since_the_last_one_that_was_new_on_the_front(tmp_path: Path) -> None:
    def alike(task: Task) -> Script:
        history = [epoch(1), epoch(2)]
        yield Ended(task.number, task.attempt, "finished", history, costs={"parameters": 7.0})

    assert len(scripted(tmp_path, alike, plateau=3, batch=1).trials) == 4


def test_limits_keep_trials_off_the_front(tmp_path: Path) -> None:
    study = scripted(tmp_path, limits={"parameters": 20, "accuracy": 0.85})
    assert study.best_trials
    assert all(t.values[1] <= 20 and t.values[0] >= 0.85 for t in study.best_trials)
    assert {t.number for t in ranked(study)} >= front(study)


def test_trials_of_another_search_for_the_same_metrics_are_taken_over(tmp_path: Path, known_code: None) -> None:
    storage, base = open_storage(tmp_path / "j"), tiny.recipe(train__epochs=2)
    first, second = (search_params(metric=BOTH, seed=seed) for seed in (0, 1))
    other = search_params(metric=["accuracy", "size_mb"])
    old = open_study(storage, "search-1", first, identity(first, base, "d"))
    attributes = {"recipe": base.flat(), "seed": 1, "history": [epoch(1), epoch(2)]}
    old.add_trial(create_trial(values=[0.5, 7.0], user_attrs=attributes))
    for name, params, taken in (("search-2", second, 1), ("search-3", other, 0)):
        new = open_study(storage, name, params, identity(params, base, "d"))
        assert inherit(new, storage, params, base).reused == taken


def test_worker_measures_what_is_searched_for(tmp_path: Path) -> None:
    data = tiny.trial_data(tiny.prepare(tmp_path / "prepared"))
    recipe = tiny.recipe(train__epochs=1).model_dump()
    task = Task(0, 1, 7, recipe, str(tmp_path / "0.ckpt"), 1e9, measured=["parameters", "size_mb"])
    ended = run_trial(task, data, lambda report: True)
    assert (ended.how, list(ended.costs)) == ("finished", ["parameters", "size_mb"])


@pytest.mark.parametrize(("sampler", "works"), [("NSGAIISampler", True), ("tpe", True), ("CmaEsSampler", False)])
def test_sampler_is_tried_on_several_metrics_before_the_search(sampler: str, works: bool) -> None:
    params = SearchParams.model_validate({"metric": BOTH, "sampler": sampler})
    if works:
        play("search.sampler", sampler, params, sampler=params.component("sampler").build(0))
        return
    with pytest.raises(InputError, match="search.sampler: CmaEsSampler fails"):
        play("search.sampler", sampler, params, sampler=params.component("sampler").build(0))


FRONT = [
    {"trial": 9, "value": 0.98, "metrics": {"accuracy": 0.98, "parameters": 900.0}, "recipe": {"model.width": 9}},
    {"trial": 5, "value": 0.96, "metrics": {"accuracy": 0.96, "parameters": 500.0}, "recipe": {"model.width": 5}},
    {"trial": 1, "value": 0.50, "metrics": {"accuracy": 0.50, "parameters": 100.0}, "recipe": {"model.width": 1}},
]
BEST = {"study": "s", "metric": "accuracy", "direction": "maximize", "recipe": {"model.width": 9}, "whole": {}} | {
    "aims": [aim.plain() for aim in AIMS]
}


def _confirmed(rule: str, top_k: int) -> dict[str, Any]:
    """The choice where each candidate's accuracy is 0.01 lower on each of two fresh seeds than in the search."""
    preference = Preference.of(rule, AIMS, [list(entry["metrics"].values()) for entry in FRONT])  # type: ignore[attr-defined]
    candidates = by_rule(FRONT, preference)[:top_k]
    study = optuna.create_study(directions=["maximize", "minimize"])
    for rank, entry in enumerate(candidates):
        for seed in range(2):
            values = [entry["metrics"]["accuracy"] - 0.01, entry["metrics"]["parameters"]]
            study.add_trial(
                create_trial(state=TrialState.COMPLETE, values=values, user_attrs={"rank": rank, "seed": seed})
            )
    chosen = choose(study, candidates, BEST, preference=preference)
    select = _parsed("metric: [accuracy, parameters]", f"{{rule: {rule}}}").select
    return chosen | about_front(select, preference, FRONT, chosen)


@pytest.mark.parametrize(
    ("rule", "top_k", "trial", "lost"),
    [
        ("first", 3, 9, [("parameters", 800.0, 1, True)]),
        ("first", 1, 9, [("parameters", 800.0, 1, False)]),
        ("knee", 3, 5, [("accuracy", 0.02, 9, True), ("parameters", 400.0, 1, True)]),
        ("knee", 2, 5, [("accuracy", 0.02, 9, True), ("parameters", 400.0, 1, False)]),
    ],
)
def test_choice_of_the_front_says_what_was_given_up(rule: str, top_k: int, trial: int, lost: list[Any]) -> None:
    chosen = _confirmed(rule, top_k)
    assert chosen["trial"] == trial
    assert chosen["search_best"] == 9
    assert [(g["metric"], pytest.approx(g["by"]), g["trial"], g["confirmed"]) for g in chosen["given_up"]] == lost
    text = "\n".join(about_choice(chosen, AIMS))
    assert f"by select.rule {rule} among {top_k} candidate" in text
    assert ("select.top_k: 3 confirms the whole front" in text) == (top_k < 3)
    assert "gate use accuracy" in text
    assert json.loads(json.dumps(chosen)) == chosen


TIMED = [Aim.of(Choice(name="accuracy")), Aim.of(Choice(name="latency_ms"))]
TIMED_BEST = {"study": "search-1", "metric": "accuracy", "direction": "maximize", "recipe": {}, "whole": {}} | {
    "aims": [aim.plain() for aim in TIMED]
}


def test_each_fresh_run_measures_its_own_latency(tmp_path: Path) -> None:
    took = iter([1.0, 3.0, 1.5])

    def script(task: Task) -> Script:
        assert (task.limits, task.costs) == ({"parameters": 9.0}, {})
        assert task.measured == ["parameters", "latency_ms"]
        one = epoch(1, 0.9)
        yield Report(task.number, task.attempt, one)
        costs = {"latency_ms": next(took), "parameters": 5.0}
        yield Ended(task.number, task.attempt, "finished", [one], costs=costs)

    fields: dict[str, Any] = {"metric": ["accuracy", "latency_ms"], "limits": {"parameters": 9.0}}
    params = search_params(n_trials=3, space={}, pruner="none", sampler="random", **fields)
    study = open_study(optuna.storages.InMemoryStorage(), "confirm-scene", params, {})
    for seed in range(3):
        about = {"recipe": tiny.recipe().flat(), "seed": seed, "rank": 0, "candidate": 7, ANEW: True}
        study.enqueue_trial({}, about)
    Driver(study, ScriptedPool(1, script), params, RuntimeParams(), tiny.recipe(), tmp_path, [Recorder()]).run()
    assert [trial.user_attrs["costs"]["latency_ms"] for trial in study.trials] == [1.0, 3.0, 1.5]
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def _timed(
    rule: str,
    fresh: list[list[float]],
    widths: list[int],
    searched: list[float],
    limits: dict[str, float] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The choice among candidates whose accuracy is 0.9, 0.8, ... and the front: one latency more was not confirmed."""
    front = [
        {
            "trial": 7 + place,
            "value": 0.9 - place / 10,
            "metrics": {"accuracy": 0.9 - place / 10, "latency_ms": latency},
            "recipe": {"model.width": width, "train.epochs": place},
        }
        for place, (width, latency) in enumerate(zip(widths, searched, strict=True))
    ]
    study = optuna.create_study(directions=["maximize", "minimize"])
    candidates = front[: len(fresh)]
    for rank, row in enumerate(fresh):
        for seed, latency in enumerate(row):
            own = {"rank": rank, "seed": seed, "costs": {"latency_ms": latency}}
            values = [0.9 - rank / 10, latency]
            study.add_trial(create_trial(state=TrialState.COMPLETE, values=values, user_attrs=own))
    preference = Preference.of(rule, TIMED, [list(entry["metrics"].values()) for entry in front])  # type: ignore[attr-defined]
    return choose(study, candidates, TIMED_BEST, limits, preference, front), front


def test_candidates_of_one_network_have_one_fresh_latency() -> None:
    chosen, _ = _timed("first", [[1.0, 3.0], [5.0], [2.0, 2.0]], [8, 4, 8], [1.0, 0.5, 1.0])
    assert [one["means"]["latency_ms"] for one in chosen["candidates"]] == [2.0, 5.0, 2.0]


def test_load_in_the_confirmation_rejects_no_candidate_for_its_latency(capsys: pytest.CaptureFixture[str]) -> None:
    limits = {"latency_ms": 1.2, "accuracy": 0.5}
    chosen, _ = _timed("first", [[2.0], [1.5]], [8, 4], [1.0, 0.8], limits)
    assert chosen["trial"] == 7
    assert not any("over_limits" in one for one in chosen["candidates"])
    assert beyond(chosen | {"means": {"latency_ms": 2.0}}, limits) == [
        "  latency_ms 2.0000 in the fresh runs: other processes lengthen it; in the search it satisfied search.limits"
        " (1.2)"
    ]
    assert beyond(chosen | {"means": {"latency_ms": 1.2}}, limits) == []


def test_latencies_of_search_and_confirmation_are_not_compared() -> None:
    """Twice as long in the fresh runs, all of them: the choice is the same as without that."""
    searched = [1.0, 0.55, 0.5, 0.1]
    for times in (1.0, 2.0):
        chosen, front = _timed("knee", [[times * one] for one in searched[:3]], [8, 4, 3, 1], searched)
        assert chosen["trial"] == 8
        preference = Preference.of("knee", TIMED, [list(entry["metrics"].values()) for entry in front])
        fresh = on_fresh_scale(preference, front, chosen["candidates"])
        assert [*fresh.best, *fresh.worst] == pytest.approx([0.9, times * 0.1, 0.6, times * 1.0])


def test_unconfirmed_trials_latency_is_not_told_as_given_up() -> None:
    chosen, front = _timed("first", [[2.0]], [8, 4], [1.0, 0.5])
    select = SelectParams.model_validate({"rule": "first"})
    preference = preference_of(select, TIMED_BEST, front)
    found = chosen | about_front(select, preference, front, chosen)
    assert found["given_up"] == []
    front[1]["metrics"]["accuracy"] = 0.95
    (lost,) = about_front(select, preference, front, chosen)["given_up"]
    assert (lost["metric"], lost["means"], lost["confirmed"]) == ("accuracy", {"accuracy": 0.95}, False)
    lines = about_choice(found | {"given_up": [lost]}, TIMED)
    assert "  given up: accuracy 0.0500 (trial 8: accuracy 0.9500 in the search, not confirmed)" in lines


def test_whole_front_is_in_the_ranking(tmp_path: Path) -> None:
    params = parse(f"search: {{metric: [accuracy, parameters], space: {{}}, n_trials: {KEPT_IN_RANKING + 30}}}")
    study = optuna.create_study(directions=["maximize", "minimize"], study_name="search-scene")
    for size in range(KEPT_IN_RANKING + 30):
        value = 1 - 1 / (size + 2)
        own = {"recipe": {"model.hidden": size}, "seed": size, "history": [epoch(1, value)]}
        study.add_trial(create_trial(values=[value, 10.0 * size], user_attrs=own))
    write(tmp_path, study, params, "run")
    ranking = json.loads((tmp_path / "ranking.json").read_text())
    assert len(ranking) == KEPT_IN_RANKING + 30
    assert ranking[-1]["metrics"]["parameters"] == 0.0, "the end of the front that is good in the other metric"
    best = json.loads((tmp_path / "best.json").read_text())
    knee = by_rule(ranking, preference_of(SelectParams(rule="knee"), best, ranking))[0]
    assert knee["trial"] == by_rule(ranking, Preference.of("knee", AIMS, [t.values for t in study.trials]))[0]["trial"]


@pytest.mark.parametrize("metrics", [2, 3])
def test_front_is_optunas_and_computed_once_for_each_number_of_ended_trials(
    monkeypatch: pytest.MonkeyPatch, metrics: int
) -> None:
    study = optuna.create_study(directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (metrics - 1)])
    random = np.random.default_rng(0)
    for place in range(150):
        values = random.integers(0, 7, metrics).astype(float).tolist()
        limited = {"constraints": [0.5 if values[0] > 5 else -0.5]} if place % 3 else {}
        study.add_trial(create_trial(values=values, system_attrs=limited))
    study.add_trial(create_trial(state=TrialState.PRUNED))
    assert [t.number for t in best_trials(study)] == sorted(t.number for t in study.best_trials)
    computed: list[int] = []

    def counts(trials: list[Any], directions: list[StudyDirection]) -> list[Any]:
        computed.append(len(trials))
        return []

    monkeypatch.setattr("podium.tracking.pareto_front._front", counts)
    monkeypatch.setattr(optuna.Study, "best_trials", property(lambda study: pytest.fail("it copies the study")))
    front(study), front(study)
    assert not computed
    study.add_trial(create_trial(values=[9.0] * metrics))
    front(study), front(study)
    assert computed == [152]


def test_loss_below_what_is_shown_is_none() -> None:
    chosen, other = {"accuracy": 0.98, "parameters": 100.0}, {"accuracy": 0.9800000004, "parameters": 90.0}
    lost = given_up({"means": chosen}, [{"trial": 1, "means": other}], AIMS)
    assert [one["metric"] for one in lost] == ["parameters"]


def test_epochs_keep_what_came_first_and_get_what_came_later(tmp_path: Path) -> None:
    """Figures that nothing is decided by come with a later report; a second attempt takes other seconds."""
    tasks: list[Task] = []

    def script(task: Task) -> Script:
        tasks.append(task)
        bare = [epoch(number) | {"val_min_recall": 0.5} for number in (1, 2, 3)]
        yield Report(task.number, task.attempt, bare[0])
        whole = [one | {"val_mcc": one["epoch"] / 10, "seconds": 0.02} for one in bare]
        if task.attempt == 1:
            yield Report(task.number, task.attempt, bare[1], [whole[0]])
            yield Lost(task.number, task.attempt, "killed")
        yield Ended(task.number, task.attempt, "finished", whole)

    params = search_params(n_trials=1, limits={"min_recall": 0.4})
    study, pool = optuna.create_study(direction="maximize"), ScriptedPool(1, script)
    logged = [Choice(name=name) for name in ("mcc", "min_recall", "accuracy")]
    driver = Driver(study, pool, params, RuntimeParams(), tiny.recipe(train__epochs=3), tmp_path, [], metrics=logged)
    assert driver.run()
    assert (tasks[0].more, tasks[0].logged) == (["min_recall"], ["mcc"])
    history = study.trials[0].user_attrs["history"]
    assert [one["val_mcc"] for one in history] == [0.1, 0.2, 0.3]
    assert [one["seconds"] for one in history] == [0.01, 0.01, 0.02]
