import json
import os
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import tiny
from own import OwnCode
from podium import closure
from podium.closure import digests_of
from podium.commands import _training
from podium.config.params import SearchParams, parse
from podium.config.recipe import Recipe
from podium.errors import InputError
from podium.stages.code import named
from podium.tracking.study_summary import title_of
from podium.tuning.search_plan import subject_of
from podium.tuning.storage import open_storage
from podium.tuning.study import ask, build_pruner, build_sampler, identity, name_of, open_study, resume_trial, suggest
from tuning.scripted import search_params

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.batch_size": {"choices": [16, 32]},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
    "train.momentum": {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}},
    "train.weight_decay": {"low": 0.0, "high": 0.1, "when": {"train.optimizer": ["sgd", "adamw"]}},
}


def _name(changes: dict[str, Any], base: Recipe | None = None, data: str = "d") -> str:
    return name_of("search", identity(search_params(**{"space": SPACE} | changes), base or tiny.recipe(), data))


@pytest.mark.parametrize(
    "changes",
    [
        {"n_trials": 999},
        {"timeout": 5.0},
        {"plateau": 7},
        {"trial_timeout": 3.0},
        {"max_failures": 2},
        {"batch": 5},
        {"space": dict(reversed(SPACE.items()))},
        {"space": SPACE | {"train.learning_rate": {"low": 1e-4, "high": 0.1, "log": True, "step": None}}},
    ],
    ids=["n_trials", "timeout", "plateau", "trial_timeout", "max_failures", "batch", "order", "spelled-out"],
)
def test_name_stays_when_only_the_length_of_the_search_changes(changes: dict[str, Any]) -> None:
    assert _name(changes) == _name({})


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"metric": "loss"},
        {"sampler": "tpe"},
        {"sampler": "tpe", "startup_trials": 11},
        {"pruner": "halving"},
        {"pruner": "median", "pruner_startup": 6},
        {"pruner": "median", "pruner_warmup": 3},
        {"pruner": "halving", "pruner_factor": 4},
        {"deterministic": True},
        {"deterministic": True, "batch": 5},
        {"defaults_first": False},
        {"space": SPACE | {"train.learning_rate": {"low": 1e-4, "high": 0.2, "log": True}}},
        {"space": SPACE | {"train.learning_rate": {"low": 1e-4, "high": 0.1}}},
        {"space": SPACE | {"train.batch_size": {"choices": [16, 32, 64]}}},
        {"space": SPACE | {"train.momentum": {"low": 0.0, "high": 0.9}}},
        {"space": SPACE | {"train.shift": {"choices": [0, 1]}}},
        {"space": {name: SPACE[name] for name in list(SPACE)[1:]}},
    ],
    ids=str,
)
def test_name_changes_with_what_decides_the_trials(changes: dict[str, Any]) -> None:
    named = {name: value for name, value in changes.items() if name in ("sampler", "pruner")}
    assert _name(changes) != _name(named if len(named) < len(changes) else {})


@pytest.mark.parametrize("changes", [{"startup_trials": 11}, {"pruner_warmup": 3}, {"pruner_factor": 4}], ids=str)
def test_name_stays_when_a_parameter_changes_that_nobody_reads(changes: dict[str, Any]) -> None:
    assert _name(changes) == _name({})  # random, none


@pytest.mark.parametrize(
    ("base", "data"),
    [
        (tiny.recipe(train__warmup=0.3), "d"),
        (tiny.recipe(train__learning_rate=0.01), "d"),  # searched, but the first trial has it
        (tiny.recipe(train__momentum=0.5), "d"),
        (tiny.recipe(train__loss="focal"), "d"),
        (None, "other"),
    ],
    ids=["fixed", "first", "conditional", "component", "data"],
)
def test_name_changes_with_recipe_and_data(base: Recipe | None, data: str) -> None:
    assert _name({}, base, data) != _name({})


def test_name_changes_with_the_code_that_its_trainings_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _name({})
    digest = closure.code_digest
    monkeypatch.setattr(closure, "code_digest", lambda name: "other" if name == closure.LOOP else digest(name))
    assert _name({}) != before


def test_name_stays_when_a_searched_field_changes_and_the_defaults_are_not_tried() -> None:
    changes = {"defaults_first": False}
    assert _name(changes, tiny.recipe(train__learning_rate=0.01)) == _name(changes)


def test_name_changes_with_the_value_of_a_conditional_dimension_that_other_trials_have() -> None:
    changes = {"defaults_first": False}
    assert _name(changes, tiny.recipe(train__momentum=0.5)) != _name(changes)


def test_name_begins_with_its_kind_and_is_short() -> None:
    assert _name({}).startswith("search-")
    assert len(_name({})) == len("search-") + 12


def test_study_opened_again_is_the_same_one(tmp_path: Path) -> None:
    params = search_params()
    first = open_study(open_storage(tmp_path / "deep" / "j.journal"), "s", params, {"a": 1})
    first.tell(ask(first, params), 0.5)
    again = open_study(open_storage(tmp_path / "deep" / "j.journal"), "s", params, {"a": 1})
    assert [t.value for t in again.trials] == [0.5]
    assert again.user_attrs["identity"] == {"a": 1}


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "MAXIMIZE"), ("loss", "MINIMIZE")])
def test_direction_follows_the_metric(tmp_path: Path, metric: str, direction: str) -> None:
    study = open_study(open_storage(tmp_path / "j"), "s", search_params(metric=metric), {})
    assert study.direction.name == direction


def test_journal_torn_in_its_last_line_is_cut_there(tmp_path: Path) -> None:
    journal, params = tmp_path / "j", search_params()
    study = open_study(open_storage(journal), "s", params, {})
    study.tell(ask(study, params), 0.5)
    whole = journal.read_bytes()
    study.set_user_attr("seconds", 1.0)
    line = journal.read_bytes()[len(whole) :]
    assert line.endswith(b"\n")
    for length in range(len(line)):
        journal.write_bytes(whole + line[:length])
        storage = open_storage(journal)
        assert journal.read_bytes() == whole
        assert [t.value for t in open_study(storage, "s", params, {}).trials] == [0.5]


@pytest.mark.parametrize("content", [b"", b"{", b"x" * 200_000], ids=["empty", "one torn line", "a long torn line"])
def test_journal_without_a_whole_line_is_begun_again(tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(content)
    study = open_study(open_storage(journal), "s", search_params(), {})
    assert study.trials == []


def test_journal_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    journal, params = tmp_path / "j", search_params()
    study = open_study(open_storage(journal), "s", params, {})
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x')  # another process died here while this one goes on
    study.tell(ask(study, params), 0.25)
    again = open_study(open_storage(journal), "s", params, {})
    assert [t.value for t in again.trials] == [0.25]


def test_journal_that_two_write_in_turn_is_the_same_to_both(tmp_path: Path) -> None:
    storages = [open_storage(tmp_path / "j") for _ in range(2)]
    studies = [open_study(storage, "s", search_params(), {}) for storage in storages]
    for turn in range(40):  # lines of the same length, read at once, later or by the other only
        studies[turn * turn // 3 % 2].set_user_attr("who", f"{turn:02d}")
        if turn % 5:
            assert studies[turn % 2].user_attrs["who"] == f"{turn:02d}"
    both = [study.user_attrs for study in studies]
    assert both[0] == both[1] == {"identity": {}, "who": "39"}


def test_journal_is_brought_to_the_disk_when_a_trial_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, journal = search_params(), tmp_path / "j"
    synced: list[int] = []
    monkeypatch.setattr("podium.tuning.storage.SYNC_SECONDS", 1e9)
    study = open_study(open_storage(journal), "s", params, {})
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(journal.stat().st_size))
    trial = ask(study, params)
    before = len(synced)
    for epoch in range(10):
        trial.report(0.5, epoch)
    assert len(synced) == before
    study.tell(trial, 0.5)
    assert synced[-1] == journal.stat().st_size


@pytest.mark.parametrize("earlier", [0, 6], ids=["random start", "tpe"])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("drawn", range(6))
def test_trial_taken_up_gets_the_parameters_it_would_have_had(
    tmp_path: Path, drawn: int, sampler: str, earlier: int
) -> None:
    params = search_params(sampler=sampler, startup_trials=3, space=SPACE)
    undisturbed, disturbed = (_study_with(tmp_path / name, params, earlier) for name in ("a", "b"))
    expected = _draw(ask(undisturbed, params), params)
    _draw_only(ask(disturbed, params), params, drawn)
    again = open_study(open_storage(tmp_path / "b"), "s", params, {})  # as another process finds it
    (left,) = again.get_trials(states=(TrialState.RUNNING,))
    assert len(left.params) == min(drawn, len(expected))
    trial = resume_trial(again, params, left)
    assert trial.number == earlier
    assert _draw(trial, params) == expected


def _study_with(journal: Path, params: SearchParams, trials: int) -> optuna.Study:
    study = open_study(open_storage(journal), "s", params, {})
    for index in range(trials):
        trial = ask(study, params)
        _draw(trial, params)
        study.tell(trial, index * 7 % 5 / 5)
    return study


def _draw(trial: optuna.Trial, params: SearchParams) -> dict[str, Any]:
    suggest(trial, params, tiny.recipe())
    return dict(trial.params)


def _draw_only(trial: optuna.Trial, params: SearchParams, count: int) -> None:
    """Have the process die after `count` of the trial's parameters are written."""
    write, written = trial.storage.set_trial_param, 0

    def write_or_die(*args: Any) -> None:
        nonlocal written
        if written == count:
            raise KeyboardInterrupt
        written += 1
        write(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial.storage, "set_trial_param", write_or_die)
        try:
            _draw(trial, params)
        except KeyboardInterrupt:
            return
    assert count >= len(trial.params)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_sampler_gives_equal_searches_for_equal_seeds_only(tmp_path: Path, sampler: str) -> None:
    def proposals(journal: str, seed: int) -> list[dict[str, Any]]:
        params = search_params(sampler=sampler, seed=seed, startup_trials=3, space=SPACE)
        return [trial.params for trial in _study_with(tmp_path / journal, params, 6).trials]

    assert proposals("a", 0) == proposals("b", 0)
    assert proposals("c", 1) != proposals("a", 0)


def test_sampler_gives_each_trial_and_each_parameter_its_own_draw() -> None:
    params = search_params()
    unit = optuna.distributions.FloatDistribution(0.0, 1.0)
    study = optuna.create_study()
    (frozen,) = [study._storage.get_trial(study.ask()._trial_id)]
    draws = {
        build_sampler(params, number).sample_independent(study, frozen, name, unit)
        for number in range(5)
        for name in "abc"
    }
    assert len(draws) == 15


def test_enqueued_trial_comes_first_and_a_new_one_takes_the_next_number(tmp_path: Path) -> None:
    params = search_params(space=SPACE)
    study = open_study(open_storage(tmp_path / "j"), "s", params, {})
    study.enqueue_trial({"train.learning_rate": 0.01, "train.batch_size": 32, "train.optimizer": "adamw"})
    first, second = ask(study, params), ask(study, params)
    assert (first.number, second.number) == (0, 1)
    assert _draw(first, params)["train.learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("pruner", "name"),
    [
        ("median", "PercentileAtShare"),
        ("halving", "SuccessiveHalvingPruner"),
        ("hyperband", "HyperbandPruner"),
        ("none", "NopPruner"),
    ],
)
def test_pruner_is_the_one_named(pruner: str, name: str) -> None:
    assert type(build_pruner(search_params(pruner=pruner, pruner_warmup=0))).__name__ == name


def test_quasi_random_points_of_a_study_are_one_sequence() -> None:
    space = {f"train.{name}": {"low": 0.0, "high": 0.9} for name in ("ema", "momentum")}
    fields = {"sampler": "QMCSampler", "pruner": "none", "space": space, "defaults_first": False}
    params = SearchParams.model_validate(fields)
    study = optuna.create_study()
    for _ in range(17):
        trial = ask(study, params)
        for name in space:
            trial.suggest_float(name, 0.0, 0.9)
        study.tell(trial, 0.0)
    for name in space:  # 16 points of a Sobol sequence: one in each sixteenth
        assert sorted(int(t.params[name] / 0.9 * 16) for t in study.trials[1:]) == list(range(16))


def test_trial_of_no_point_of_the_grid_may_end_when_one_point_is_left() -> None:
    name, rates = "train.learning_rate", [0.1, 0.2]
    sampler = {"name": "GridSampler", "arguments": {"search_space": {name: rates}}}
    fields = {"sampler": sampler, "pruner": "none", "space": {name: {"low": 0.1, "high": 0.3}}, "defaults_first": False}
    params = SearchParams.model_validate(fields)
    study = optuna.create_study()
    study.enqueue_trial({name: 0.3})
    first, second = ask(study, params), ask(study, params)
    assert first.suggest_float(name, 0.1, 0.3) == 0.3
    assert second.suggest_float(name, 0.1, 0.3) in rates
    study.tell(second, 0.0)
    study.tell(first, 0.0)


def test_new_study_has_a_title_that_stays_and_names_its_metric() -> None:
    storage, params = optuna.storages.InMemoryStorage(), SearchParams.model_validate({"space": {}})
    made = open_study(storage, "search-3f2a00112233", params, {"search": {}}, "digits")
    title = made.user_attrs["podium:title"]
    again = open_study(storage, "search-3f2a00112233", params, {"search": {}}, "another")

    assert re.fullmatch(r"digits · \d{4}-\d\d-\d\d · 3f2a", title)
    assert title_of(again) == title
    assert again.metric_names == ["accuracy"]
    assert title_of(open_study(storage, "confirm-1", params, {})) == "confirm-1"


@pytest.mark.parametrize(
    ("source", "subject"),
    [
        ("digits", "digits"),
        ("folder:data/raw/photos/", "photos"),
        ("torchvision:MNIST", "MNIST"),
        ("csv:a/b.csv", "b.csv"),
    ],
)
def test_title_begins_with_what_is_classified(source: str, subject: str) -> None:
    assert subject_of(source) == subject


@pytest.mark.parametrize(
    ("search", "logged"),
    [
        ({"limits": {"{name}": 0.5}}, []),
        ({}, ["{name}"]),
        ({"metric": "loss"}, [{"name": "{name}", "arguments": {"k": 1}}]),
    ],
    ids=["limit", "logged", "with an argument"],
)
def test_name_changes_with_an_own_metric_that_is_stored_with_the_trials(
    own: OwnCode, search: dict[str, Any], logged: list[Any]
) -> None:
    code = "def measured(logits, labels, k=1):\n    return {value}\n\n\nmeasured.direction = 'maximize'\n"
    module = own.write(code.format(value=0.25))
    search, logged = json.loads(json.dumps([search, logged]).replace("{name}", f"{module}:measured"))
    yaml = {"search": search | {"space": {}}, "evaluate": {"metrics": logged}}

    def state() -> tuple[str, dict[str, str], str]:
        params = parse(json.dumps(yaml))
        facts = identity(params.search, tiny.recipe(), "d", params.evaluate.metrics)
        return name_of("search", facts), digests_of(named(params)["training"]), _training.name_of(params, 0, "d")

    first = state()
    assert state() == first
    own.write("# a comment\n" + code.format(value=0.25), module)
    assert state() == first
    own.write(code.format(value=0.75), module)
    changed = [before != now for before, now in zip(first, state(), strict=True)]
    assert changed == [True, True, bool(logged)]  # a single training knows no limits


def test_name_changes_with_the_costs_that_a_file_of_a_logged_metric_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = parse("evaluate: {metrics: [{name: cost, arguments: {file: costs.csv}}]}")
    names = []
    for cost in (1, 2):
        path = tmp_path / "data/labels/costs.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f",a,b\na,0,{cost}\nb,1,0\n")
        facts = identity(params.search, tiny.recipe(), "d", params.evaluate.metrics)
        names.append((name_of("search", facts), _training.name_of(params, 0, "d")))
    assert names[0][0] != names[1][0]
    assert names[0][1] != names[1][1]


@pytest.mark.parametrize(
    ("dimension", "drawn", "words"),
    [
        ("train.learning_rate: {low: 0.001, high: 0.1}", "5.0", "train.learning_rate, from 0.001 to 0.1; it gave 5.0"),
        ("train.learning_rate: {low: 0.001, high: 0.1, log: true}", "1e9", "it gave 1000000000.0"),
        ("train.learning_rate: {low: 0.001, high: 0.1}", "float('nan')", "it gave nan"),
        ("train.learning_rate: {low: 0.001, high: 0.1}", "None", "it gave None"),
        ("train.label_smoothing: {low: 0.0, high: 0.2, step: 0.1}", "0.15", "from 0.0 to 0.2 in steps of 0.1; it"),
        ("train.epochs: {low: 2, high: 4}", "2.5", "train.epochs, a whole number from 2 to 4; it gave 2.5"),
        ("train.optimizer: {choices: [sgd, adamw]}", "'adam'", "one of 'sgd', 'adamw'; it gave 'adam'"),
    ],
)
def test_own_sampler_that_leaves_the_space_is_named_before_and_in_the_search(
    own: OwnCode, tmp_path: Path, dimension: str, drawn: str, words: str
) -> None:
    module = own.write(
        f"""
        import optuna


        class Astray(optuna.samplers.RandomSampler):
            def sample_independent(self, study, trial, name, distribution):
                return {drawn}
        """
    )
    params = parse(f"search: {{sampler: '{module}:Astray', space: {{{dimension}}}}}").search
    study = open_study(open_storage(tmp_path / "optuna.journal"), "search-1", params, {})
    where = f"search.sampler: src/{module}.py, line 5, Astray.sample_independent, must give a value of search.space."
    for attempt in (
        lambda: suggest(ask(study, params), params, tiny.recipe()),
        lambda: params.component("sampler").try_out(params),
    ):
        with pytest.raises(InputError, match=re.escape(where)) as caught:
            attempt()
        assert words in str(caught.value)
