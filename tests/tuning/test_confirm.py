import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import tiny
from podium.config.params import Params, TrackingParams, parse
from podium.data.dataset import write_json
from podium.errors import InputError, PodiumError
from podium.tracking.store import connect
from podium.tracking.trial_runs import runs_of
from podium.training.seeds import derive
from podium.tuning.confirm import choose, confirm, distinct, sentence
from podium.tuning.outcome import search
from podium.tuning.storage import open_storage
from tuning.scripted import states

A, B, C = ({"train.epochs": epochs} for epochs in (1, 2, 3))


@pytest.mark.parametrize(
    ("recipes", "count", "trials"),
    [
        ([A, B, C], 2, [0, 1]),
        ([A, A, B], 2, [0, 2]),
        ([A, A, A], 2, [0]),
        ([A, B], 5, [0, 1]),
        ([], 3, []),
    ],
)
def test_distinct_takes_the_best_of_equal_recipes(recipes: list[Any], count: int, trials: list[int]) -> None:
    ranking = [{"trial": number, "recipe": recipe} for number, recipe in enumerate(recipes)]
    assert [entry["trial"] for entry in distinct(ranking, count)] == trials


def _study(values: dict[int, list[float | None]], temperatures: dict[int, list[float]] | None = None) -> optuna.Study:
    """Fresh runs by rank; None is one that failed."""
    study = optuna.create_study(direction="maximize")
    for rank, row in values.items():
        for seed, value in enumerate(row):
            attributes: dict[str, Any] = {"rank": rank, "seed": 10 * rank + seed, "reason": f"no {rank}"}
            if temperatures:
                attributes["temperature"] = temperatures[rank][seed]
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            study.add_trial(create_trial(state=state, value=value, user_attrs=attributes))
    return study


DIRECTIONS = {"accuracy": "maximize", "loss": "minimize"}


def _choose(values: dict[int, list[float | None]], metric: str = "accuracy", first: float = 0.9) -> dict[str, Any]:
    candidates = [{"trial": 40 + rank, "recipe": A, "value": first - rank / 10} for rank in values]
    return choose(
        _study(values),
        candidates,
        {"study": "search-1", "metric": metric, "direction": DIRECTIONS[metric], "recipe": A, "whole": {}},
    )


@pytest.mark.parametrize(
    ("values", "metric", "trial"),
    [
        ({0: [0.8, 0.8], 1: [0.9, 0.9]}, "accuracy", 41),
        ({0: [0.9, 0.7], 1: [0.7, 0.8]}, "accuracy", 40),
        ({0: [0.8, 0.8], 1: [0.9, 0.7]}, "accuracy", 40),
        ({0: [0.2, 0.2], 1: [0.3, 0.3]}, "loss", 40),
        ({0: [0.3, 0.3], 1: [0.2, 0.2]}, "loss", 41),
        ({0: [None, None], 1: [0.5, 0.5]}, "accuracy", 41),
        ({0: [None, 0.9], 1: [0.5, 0.5]}, "accuracy", 40),
    ],
    ids=["higher", "first", "equal", "loss", "lower loss", "none of the first", "one of the first"],
)
def test_best_mean_is_chosen(values: dict[int, list[float | None]], metric: str, trial: int) -> None:
    assert _choose(values, metric)["trial"] == trial


def test_chosen_has_its_values_seeds_mean_and_spread() -> None:
    chosen = _choose({0: [0.8, 0.6, 0.7], 1: [0.5, None, 0.5]})
    assert chosen["values"] == [0.8, 0.6, 0.7]
    assert chosen["seeds"] == [0, 1, 2]
    assert chosen["mean"] == pytest.approx(0.7)
    assert chosen["std"] == pytest.approx(0.1)
    assert [entry["failed"] for entry in chosen["candidates"]] == [0, 1]
    assert json.loads(json.dumps(chosen)) == chosen


def test_one_fresh_run_has_no_spread() -> None:
    assert _choose({0: [0.8]})["std"] is None


@pytest.mark.parametrize(("metric", "first", "expected"), [("accuracy", 0.9, 0.2), ("loss", 0.5, 0.2)])
def test_optimism_is_by_how_much_the_searchs_best_was_too_good(metric: str, first: float, expected: float) -> None:
    chosen = _choose({0: [0.7, 0.7]}, metric, first)
    assert chosen["optimism"] == pytest.approx(expected)
    assert "in the search it scored 0.2000 better than the same settings on new seeds" in sentence(
        chosen | {"folds": 0}
    )


def test_optimism_of_a_best_that_cannot_be_run_again_is_not_known() -> None:
    assert _choose({0: [None], 1: [0.5]})["optimism"] is None


def test_temperature_is_the_geometric_mean_of_the_chosens_fresh_runs() -> None:
    study = _study({0: [0.8, 0.8], 1: [0.9, 0.9, None]}, {0: [9.0, 9.0], 1: [0.5, 0.32, 7.0]})
    candidates = [{"trial": rank, "recipe": A, "value": 0.9} for rank in range(2)]
    best = {"study": "search-1", "metric": "accuracy", "direction": "maximize", "recipe": A, "whole": {}}
    assert choose(study, candidates, best)["temperature"] == pytest.approx(0.4)


def test_confirmation_without_any_run_says_why() -> None:
    with pytest.raises(PodiumError, match="no candidate could be run again on a fresh seed: no 0; no 1"):
        _choose({0: [None], 1: [None]})


def test_run_that_was_tried_again_counts_as_it_ended_last() -> None:
    study = _study({0: [None, 0.7, None], 1: [0.5]})
    for seed, value in ((2, None), (0, 0.9)):
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, user_attrs={"rank": 0, "seed": seed}))
    candidates = [{"trial": rank, "recipe": A, "value": 0.9} for rank in range(2)]
    chosen = choose(
        study,
        candidates,
        {"study": "search-1", "metric": "accuracy", "direction": "maximize", "recipe": A, "whole": {}},
    )
    assert (chosen["values"], chosen["seeds"]) == ([0.9, 0.7], [0, 1])
    assert [entry["failed"] for entry in chosen["candidates"]] == [1, 0]


@pytest.mark.parametrize("missing", ["best.json", "ranking.json"])
def test_confirmation_without_a_search_names_the_stage_to_run(tmp_path: Path, missing: str) -> None:
    for name in {"best.json", "ranking.json"} - {missing}:
        write_json(tmp_path / name, {})
    params = tiny.params(TrackingParams())
    with pytest.raises(InputError, match=f"{missing} is missing: run `dvc repro search`"):
        confirm(params, tmp_path / "prepared", tmp_path, tmp_path / "selected")


@pytest.fixture
def searched(tmp_path: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A search of three trials in tmp_path/search, on the images of tmp_path/prepared."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = tiny.params(store, "n_trials: 3")
    search(params, tiny.prepare(tmp_path / "prepared"), tmp_path / "search")
    return params


def _confirm(params: Params, folder: Path) -> dict[str, Any]:
    return confirm(params, folder / "prepared", folder / "search", folder / "selected")


def _confirmed(folder: Path) -> optuna.Study:
    """The confirmation's study."""
    storage = open_storage(folder / "mlruns" / "optuna.journal")
    (name,) = (name for name in optuna.get_all_study_names(storage) if name.startswith("confirm"))
    return optuna.load_study(study_name=name, storage=storage)


def test_best_configurations_are_run_again_on_fresh_seeds(searched: Params, tmp_path: Path) -> None:
    chosen = _confirm(searched, tmp_path)
    assert json.loads((tmp_path / "selected" / "config.json").read_text(encoding="utf-8")) == chosen
    assert len(chosen["candidates"]) == 2
    seeds = [seed for entry in chosen["candidates"] for seed in entry["seeds"]]
    trials = [entry["trial"] for entry in chosen["candidates"]]
    assert seeds == [derive(0, "confirm", trial, index) for trial in trials for index in range(2)]
    assert not set(seeds) & {derive(0, "trial", number) for number in range(3)}


def test_confirmation_is_on_the_searchs_parent_run(searched: Params, tmp_path: Path) -> None:
    chosen = _confirm(searched, tmp_path)
    tracking = connect(searched.tracking)
    best = json.loads((tmp_path / "search" / "best.json").read_text(encoding="utf-8"))
    parent = tracking.client.get_run(best["parent_run_id"])
    assert parent.data.metrics["confirmed_mean"] == chosen["mean"]
    assert parent.data.metrics["optimism"] == chosen["optimism"]
    assert parent.data.tags["podium.selected_trial"] == str(chosen["trial"])
    assert parent.info.status == "FINISHED"
    assert len(runs_of(tracking, chosen["study"])) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("calibrate", "fitted"), [("true", True), ("false", False)])
def test_chosen_has_a_temperature_where_it_is_to_be_calibrated(
    searched: Params, tmp_path: Path, calibrate: str, fitted: bool
) -> None:
    select = searched.select.model_copy(update={"calibrate": calibrate == "true"})
    chosen = _confirm(searched.model_copy(update={"select": select}), tmp_path)
    assert (chosen["temperature"] != 1.0) == fitted
    assert all(0.2 <= entry["temperature"] <= 5.0 for entry in chosen["candidates"])


@pytest.mark.parametrize(("whole", "epochs"), [("true", 5), ("false", 2)])
def test_search_at_a_fraction_is_confirmed_and_retrained_as_a_whole(
    store: TrackingParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: str,
    epochs: int,
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    text = tiny.params_yaml(
        store,
        """n_trials: 2
        overrides: {train.epochs: 2, train.data_fraction: 0.5}
        space: {train.learning_rate: {low: 0.001, high: 0.01}}""",
    )
    text = text.replace("train: {epochs: 3", "train: {epochs: 5")
    text = text.replace("seeds: 2}", f"seeds: 1, full_fidelity: {whole}}}")
    params = parse(text)
    study = search(params, tiny.prepare(tmp_path / "prepared"), tmp_path / "search")
    chosen = _confirm(params, tmp_path)
    assert {t.user_attrs["recipe"]["train.epochs"] for t in study.trials} == {2}
    assert {t.user_attrs["recipe"]["train.data_fraction"] for t in study.trials} == {0.5}
    assert (chosen["recipe"]["train.epochs"], chosen["recipe"]["train.data_fraction"]) == (5, 1.0)
    assert chosen["recipe"]["train.learning_rate"] == study.trials[chosen["trial"]].params["train.learning_rate"]
    assert (chosen["optimism"] is None) == (whole == "true")
    assert (chosen["temperature"] == 1.0) == (whole == "false")
    assert ("select.calibrate: the probabilities stay as they are" in capsys.readouterr().out) == (whole == "false")
    assert {t.user_attrs["recipe"]["train.epochs"] for t in _confirmed(tmp_path).trials} == {epochs}


@pytest.mark.slow
def _no_luck(*_: Any) -> Any:
    raise ValueError("no luck")


def test_confirmation_of_which_all_failed_is_run_again_once_that_is_mended(searched: Params, tmp_path: Path) -> None:
    images = tmp_path / "prepared" / "val" / "images.npy"
    away = images.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(PodiumError, match=r"no worker can begin a trial .*images.npy.*`dvc repro` resumes from"):
            _confirm(searched, tmp_path)
    away.rename(images)
    assert "FAIL" not in states(_confirmed(tmp_path))  # images that are away are no run's failure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podium.tuning.work._open", _no_luck)
        for _ in range(2):
            with pytest.raises(
                PodiumError, match=r"could be run again .*no luck\. Fix that and run `dvc repro`: "
            ) as e:
                _confirm(searched, tmp_path)
            assert "max_failures" not in str(e.value)
    chosen = _confirm(searched, tmp_path)
    assert [(len(entry["values"]), entry["failed"]) for entry in chosen["candidates"]] == [(2, 0), (2, 0)]
    assert states(_confirmed(tmp_path)) == ["FAIL"] * 8 + ["COMPLETE"] * 4
    again = _confirm(searched, tmp_path)
    assert again == chosen
    assert len(_confirmed(tmp_path).trials) == 12


@pytest.mark.slow
def test_run_that_failed_is_tried_again_when_the_confirmation_is_run_again(
    searched: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def breaks(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no space left")
        return 1.0

    with monkeypatch.context() as patch:
        patch.setattr("podium.tuning.work.temperature_of", breaks)
        first = _confirm(searched, tmp_path)
    assert [entry["failed"] for entry in first["candidates"]] == [1, 0]
    second = _confirm(searched, tmp_path)
    assert [entry["failed"] for entry in second["candidates"]] == [0, 0]
    assert second["candidates"][0]["values"][0] == first["candidates"][0]["values"][0]
    assert states(_confirmed(tmp_path)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_run_that_diverged_is_not_tried_again(
    searched: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("podium.training.schedules.one_cycle.OneCycle.factor", lambda *_: float("nan"))
        with pytest.raises(PodiumError, match=r"became nan in epoch 1.* Every try ends so: raise select.top_k"):
            _confirm(searched, tmp_path)
    with pytest.raises(PodiumError, match="became nan in epoch 1"):
        _confirm(searched, tmp_path)
    assert states(_confirmed(tmp_path)) == ["FAIL"] * 4


def test_confirmation_has_no_time_limit_of_the_searchs(searched: Params, tmp_path: Path) -> None:
    hasty = searched.search.model_copy(update={"trial_timeout": 1e-9})
    chosen = _confirm(searched.model_copy(update={"search": hasty}), tmp_path)
    assert [entry["failed"] for entry in chosen["candidates"]] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "again"),
    [("podium.training.prediction", True), ("podium.training.loop", True), ("podium.report.page", False)],
)
def test_changed_code_of_training_or_of_the_temperature_confirms_again(
    searched: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, again: bool
) -> None:
    from podium import closure

    _confirm(searched, tmp_path)
    digest = closure.code_digest

    def changed(name: str) -> str:
        return digest(name) + "changed" * (name == module)

    monkeypatch.setattr(closure, "code_digest", changed)
    monkeypatch.setattr("podium.tuning.confirm.code_digest", changed)
    _confirm(searched, tmp_path)
    names = optuna.get_all_study_names(open_storage(tmp_path / "mlruns" / "optuna.journal"))
    assert sum(name.startswith("confirm") for name in names) == 1 + again


@pytest.mark.slow
def test_confirmation_run_again_trains_nothing_and_says_the_same(
    searched: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = _confirm(searched, tmp_path)
    monkeypatch.setattr("podium.tuning.session.open_pool", None)
    assert _confirm(searched, tmp_path) == chosen


@pytest.mark.slow
def test_confirmed_study_and_mlflow_agree(searched: Params, tmp_path: Path) -> None:
    from podium.tuning.upkeep import sync_all

    _confirm(searched, tmp_path)
    found = sync_all(searched.tracking, repair=False)
    assert len(found) == 2
    assert set(map(len, found.values())) == {0}


@pytest.mark.slow
def test_more_seeds_confirm_again(searched: Params, tmp_path: Path) -> None:
    _confirm(searched, tmp_path)
    more = searched.model_copy(update={"select": searched.select.model_copy(update={"seeds": 3})})
    assert [len(entry["seeds"]) for entry in _confirm(more, tmp_path)["candidates"]] == [3, 3]
