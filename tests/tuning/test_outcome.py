import csv
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

import tiny
import trials
from podium.config.params import Params, TrackingParams, parse
from podium.config.search_section import SearchParams
from podium.data.dataset import DatasetInfo
from podium.errors import InputError, PodiumError
from podium.tuning.outcome import _best, about, importances, ranked, write_trials
from podium.tuning.pools.placement import Device
from podium.tuning.search_plan import plan_of
from tuning.scripted import search_params

SPACE: dict[str, BaseDistribution] = {
    "train.learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "train.optimizer": CategoricalDistribution(["sgd", "adamw"]),
}


def _study(*rows: tuple[str, float, float], direction: Any = "maximize") -> optuna.Study:
    """A trial for each (state, value, validation loss)."""
    study = optuna.create_study(study_name="search-1", direction=direction)
    for number, (state, value, loss) in enumerate(rows):
        epochs = trials.history(number)
        epochs[-1] |= {"val_accuracy": value, "val_loss": loss}
        study.add_trial(
            create_trial(
                state=TrialState[state],
                value=value if state == "COMPLETE" else None,
                params={"train.learning_rate": 0.1 / (number + 1), "train.optimizer": "adamw"},
                distributions=SPACE,
                intermediate_values={int(epoch["epoch"]): epoch["val_accuracy"] for epoch in epochs},
                user_attrs={"history": epochs, "seed": number, "recipe": {"train.epochs": 3}, "reason": f"no {number}"},
            )
        )
    return study


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_trials_csv_begins_with_number_state_and_value(tmp_path: Path) -> None:
    write_trials(tmp_path / "t.csv", _study(("COMPLETE", 0.9, 0.1)))
    header = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "number,state,value,last_value,epochs,seed,train.learning_rate,train.optimizer,inherited_from"


def test_trials_csv_has_every_ended_trial_by_number(tmp_path: Path) -> None:
    study = _study(("COMPLETE", 0.9, 0.1), ("PRUNED", 0.5, 0.5), ("FAIL", 0.4, 0.6), ("COMPLETE", 0.7, 0.3))
    study.ask()
    study.enqueue_trial({})
    write_trials(tmp_path / "t.csv", study)
    rows = [(row["number"], row["state"], row["value"], row["last_value"]) for row in _rows(tmp_path / "t.csv")]
    assert rows == [
        ("0", "COMPLETE", "0.9", "0.9"),
        ("1", "PRUNED", "", "0.5"),
        ("2", "FAIL", "", "0.4"),
        ("3", "COMPLETE", "0.7", "0.7"),
    ]


def test_trials_csv_of_equal_searches_is_equal_whenever_they_ran(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_trials(tmp_path / name, _study(("COMPLETE", 0.9, 0.1), ("PRUNED", 0.5, 0.5)))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_field_that_a_trial_does_not_have_is_left_empty(tmp_path: Path) -> None:
    study = _study(("COMPLETE", 0.9, 0.1))
    extra: dict[str, BaseDistribution] = {"train.momentum": FloatDistribution(0.0, 1.0)}
    attributes = {"history": trials.history(1), "seed": 1}
    study.add_trial(create_trial(value=0.5, params={"train.momentum": 0.5}, distributions=extra, user_attrs=attributes))
    write_trials(tmp_path / "t.csv", study)
    assert [row["train.momentum"] for row in _rows(tmp_path / "t.csv")] == ["", "0.5"]
    assert [row["train.optimizer"] for row in _rows(tmp_path / "t.csv")] == ["adamw", ""]


@pytest.mark.parametrize(
    ("rows", "direction", "order"),
    [
        ([("COMPLETE", 0.5, 0.5), ("COMPLETE", 0.9, 0.9), ("COMPLETE", 0.7, 0.7)], "maximize", [1, 2, 0]),
        ([("COMPLETE", 0.5, 0.5), ("COMPLETE", 0.9, 0.9), ("COMPLETE", 0.7, 0.7)], "minimize", [0, 2, 1]),
        ([("COMPLETE", 0.9, 0.3), ("COMPLETE", 0.9, 0.1), ("COMPLETE", 0.9, 0.2)], "maximize", [1, 2, 0]),
        ([("COMPLETE", 0.9, 0.3), ("COMPLETE", 0.9, 0.3)], "maximize", [0, 1]),
        ([("PRUNED", 0.99, 0.0), ("COMPLETE", 0.5, 0.5), ("FAIL", 1.0, 0.0)], "maximize", [1]),
    ],
    ids=["highest first", "lowest first", "equal values by loss", "equal losses by number", "complete ones only"],
)
def test_ranking_is_by_value_then_loss_then_number(
    rows: list[tuple[str, float, float]], direction: str, order: list[int]
) -> None:
    assert [trial.number for trial in ranked(_study(*rows, direction=direction))] == order


def test_ranking_says_what_a_trial_was() -> None:
    (trial,) = ranked(_study(("COMPLETE", 0.9, 0.1)))
    assert about(trial) == {
        "trial": 0,
        "value": 0.9,
        "val_loss": 0.1,
        "trial_seed": 0,
        "recipe": {"train.epochs": 3},
    }
    assert json.loads(json.dumps(about(trial))) == about(trial)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("PRUNED", 0.5, 0.5)], "every trial was pruned"),
        ([("PRUNED", 0.5, 0.5), ("FAIL", 0.5, 0.5)], "no 1"),
    ],
)
def test_search_without_a_completed_trial_is_an_error_that_says_why(
    rows: list[tuple[str, float, float]], reason: str
) -> None:
    with pytest.raises(PodiumError, match=rf"no trial of search-1 was completed \({reason}\); raise search.n_trials"):
        _best(_study(*rows), search_params(n_trials=len(rows)))


def _without_result(**ended: Any) -> optuna.Study:
    """A study whose one trial is as `ended` says, and which took 60 s."""
    study = optuna.create_study(study_name="search-1")
    study.add_trial(create_trial(**{"state": TrialState.PRUNED, **ended}))
    study.set_user_attr("seconds", 60.0)
    return study


EPOCHS_OF_3 = {"intermediate_values": {1: 0.1, 2: 0.2, 3: 0.3}}


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"max_epochs": 3}, r"raise search.max_epochs \(3\) or widen"),
        ({"max_epochs": 4, "timeout": 60.0}, r"raise search.timeout \(60\) or widen"),
        ({"max_epochs": 3, "timeout": 61.5}, r"raise search.max_epochs \(3\) or widen"),
        ({"max_epochs": 3, "timeout": 59.5}, r"raise search.max_epochs \(3\) and search.timeout \(59.5\) or widen"),
        ({"max_epochs": 2_000_000, "n_trials": 1}, r"raise search.n_trials \(1, all of which have begun\) or widen"),
        ({"max_epochs": 4, "limits": {"min_recall": 1}}, r"relax search.limits \(min_recall: 1\) or widen"),
        ({"max_epochs": 4}, "widen search.space"),
    ],
)
def test_remedy_of_a_thaw_search_without_a_result_is_what_is_spent(fields: dict[str, Any], remedy: str) -> None:
    params = SearchParams.model_validate({"method": "thaw", "n_trials": 1000} | fields)
    with pytest.raises(PodiumError, match=rf"no trial of search-1 was completed \(every trial was pruned\); {remedy}"):
        _best(_without_result(**EPOCHS_OF_3), params)


def test_limits_are_to_blame_where_every_trial_breaks_one() -> None:
    """Not where others were pruned or are complete. One that failed was not judged, and hides no nearest trial."""
    over = {"system_attrs": {"constraints": [0.5]}, "user_attrs": {"over_limits": "parameters 150 (at most 100)"}}
    study = _without_result(**over)
    params = search_params(n_trials=2, limits={"parameters": 100})
    with pytest.raises(
        PodiumError, match=r"no trial of search-1 satisfies search.limits: 1 over .*trial 0: parameters 150"
    ):
        _best(study, params)
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"reason": "no images"}))
    message = (
        r"satisfies search.limits: 1 over .*; 1 failed, trial 1 because: no images."
        r" The nearest is trial 0: parameters 1"
    )
    with pytest.raises(PodiumError, match=message):
        _best(study, params)
    study.add_trial(create_trial(state=TrialState.PRUNED))
    message = r"no trial of search-1 is complete and satisfies search.limits \(1 over search.limits .*; no images\);"
    with pytest.raises(PodiumError, match=message + r" raise search.n_trials \(2, all"):
        _best(study, params)


@pytest.mark.parametrize("count", [1, 3])
def test_search_of_failed_trials_ends_with_the_first_ones_reason(count: int) -> None:
    study = _study(*[("FAIL", 0.5, 0.5)] * count)
    with pytest.raises(PodiumError) as caught:
        _best(study, search_params())
    words = f"{count} trial{'s' if count > 1 else ''} failed, trial 0 because: no 0. Fix that and run `dvc repro`"
    assert words in str(caught.value)
    assert "widen" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_importances_of_few_trials_are_left_out(count: int) -> None:
    assert importances(_study(*[("COMPLETE", n / 10, 0.5) for n in range(count)])) == {}


def test_importances_of_one_value_are_left_out() -> None:
    assert importances(_study(*[("COMPLETE", 0.5, 0.5)] * 10)) == {}


def test_importances_are_shares_and_the_same_each_time() -> None:
    rows = [("COMPLETE", n / 20, 0.5) for n in range(12)]
    first = importances(_study(*rows))
    assert first["train.learning_rate"] > 0.5
    assert first == importances(_study(*rows))


def _params(search: str = "") -> Params:
    return tiny.params(TrackingParams(), search)


def _info(**changes: Any) -> DatasetInfo:
    fields = {
        "source": "tiny",
        "classes": list(tiny.CLASSES),
        "shape": [3, 8, 8],
        "counts": {},
        "mean": [0.3] * 3,
        "std": [0.3] * 3,
        "digest": "d",
    }
    return DatasetInfo(**fields | changes)


def test_plan_tries_the_defaults_first() -> None:
    ((parameters, attributes),) = plan_of(_params(), _info()).enqueued
    assert parameters == {"train.learning_rate": 0.01, "train.epochs": 3, "train.optimizer": "adamw"}
    assert attributes == {}


def test_plan_whose_defaults_are_no_point_of_the_space_is_refused() -> None:
    params = _params().model_copy(update={"train": _params().train.model_copy(update={"epochs": 9})})
    with pytest.raises(
        InputError, match=r"^search\.defaults_first: train\.epochs 9 is outside of 2 to 4: your own set"
    ):
        plan_of(params, _info())


def test_plan_has_the_defaults_with_what_they_leave_switched_off() -> None:
    params = _params("space: {train.cutout: {choices: [0, 4]}, train.flip: {choices: [true, false]}}")
    assert plan_of(params, _info()).enqueued == [({"train.cutout": 0, "train.flip": False}, {})]


def test_plan_without_defaults_first_enqueues_nothing() -> None:
    assert plan_of(_params("defaults_first: false"), _info()).enqueued == []


def test_plan_keeps_its_name_with_a_longer_search_and_changes_it_with_the_data() -> None:
    name = plan_of(_params(), _info()).name
    assert plan_of(_params("n_trials: 77"), _info()).name == name
    assert plan_of(_params(), _info(source="elsewhere")).name == name
    assert plan_of(_params(), _info(digest="e")).name != name


@pytest.mark.parametrize(("variable", "tags"), [("", {}), ("brave-otter", {"podium.experiment": "brave-otter"})])
def test_plan_carries_the_name_of_a_dvc_experiment(
    monkeypatch: pytest.MonkeyPatch, variable: str, tags: dict[str, str]
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", variable)
    assert plan_of(_params(), _info()).parent.tags == {"podium.data_digest": "d", "podium.source": "tiny"} | tags


def test_driver_starts_without_what_only_workers_and_the_mirror_need() -> None:
    code = "import sys, podium.tuning.outcome; print({'torch', 'mlflow', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


OPTIMIZER = "train.optimizer: {choices: [sgd, adamw]}"


@pytest.mark.parametrize(
    ("train", "space", "refused"),
    [
        ("bfloat16", "", "bfloat16"),
        ("float16", "", "float16"),
        ("float32", "train.precision: {choices: [float32, bfloat16, float16]}", "bfloat16 or float16"),
        ("bfloat16", "train.precision: {choices: [float32, auto]}", ""),
        (
            "bfloat16",
            f"train.precision: {{choices: [float32], when: {{train.optimizer: [sgd]}}}}, {OPTIMIZER}",
            "bfloat16",
        ),
        ("auto", f"train.precision: {{choices: [float32], when: {{train.optimizer: [sgd]}}}}, {OPTIMIZER}", ""),
        ("auto", "", ""),
    ],
)
def test_deterministic_search_on_a_cpu_takes_no_precision_that_each_worker_times(
    train: str, space: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.tuning.pools.placement.find_devices", list)
    text = f"search: {{deterministic: true, pruner: none, space: {{{space}}}, defaults_first: false}}\n"
    params = parse(text + f"train: {{precision: {train}}}")
    message = rf"search\.deterministic: does not go with train\.precision {refused} on a CPU.*train\.precision: float32"
    with pytest.raises(InputError, match=message) if refused else nullcontext():
        plan_of(params, _info())


@pytest.mark.parametrize(
    ("kind", "kernels", "space", "remedy"),
    [
        ("cuda", False, "", r"Set train\.deterministic: true"),
        ("mps", False, "", r"Set runtime\.device: cpu"),
        ("cuda", True, "", ""),
        ("cuda", True, "train.deterministic: {choices: [true, false]}", r"may be false\..*, leave false out"),
        ("cuda", False, "train.deterministic: {choices: [true]}", ""),
        (None, False, "", ""),
    ],
)
def test_deterministic_search_on_a_gpu_needs_deterministic_kernels(
    kind: str | None, kernels: bool, space: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [Device("GPU", 1, kind)] if kind else []
    monkeypatch.setattr("podium.tuning.pools.placement.find_devices", lambda: devices)
    search = f"{{deterministic: true, pruner: none, space: {{{space}}}, defaults_first: false}}"
    params = parse(f"search: {search}\ntrain: {{deterministic: {str(kernels).lower()}}}")
    with pytest.raises(InputError, match=f"search.deterministic: .*{remedy}") if remedy else nullcontext():
        plan_of(params, _info())
