"""Metrics of every epoch: those that are asked for, and what happens to one that is undefined."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from podium.components import Choice
from podium.errors import InputError
from podium.metrics import scores
from podium.metrics.scores import Metric
from podium.models.networks import ImageSpec
from podium.training import epoch_metrics
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.loop import TrainingRun
from podium.training.saver import snapshot
from podium.tuning.work import TrialData

NAMED = ImageSpec(tiny.IMAGES.shape, 3, tiny.IMAGES.mean, tiny.IMAGES.std, tiny.CLASSES)


def metric(name: str, **arguments: int | str | float) -> Metric:
    return scores.of(Choice(name=name, arguments=dict(arguments)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))


def without_top(data: TrialData) -> Batches:
    return data.val.taken(torch.nonzero(data.val.labels != 2)[:, 0])


def run(objective: Metric, *more: Metric) -> TrainingRun:
    return TrainingRun(tiny.recipe(train__epochs=2), NAMED, 0, torch.device("cpu"), objective, more)


def test_every_epoch_has_the_objective_and_the_other_metrics(data: TrialData) -> None:
    some = [metric("auroc"), metric("top_k", k=2), metric("recall_at_precision", class_name="top", precision=0.5)]
    for epoch in run(metric("balanced_accuracy"), *some, metric("balanced_accuracy")).train(data.train, data.val):
        keys = {"val_balanced_accuracy", "val_auroc", "val_top_2", "val_recall_top_at_precision_0.5"}
        assert keys | {"val_accuracy", "val_loss"} <= set(epoch)


def test_other_metrics_change_no_training(data: TrialData) -> None:
    plain, measured = (
        [{k: v for k, v in e.items() if k != "seconds"} for e in one.train(data.train, data.val)]
        for one in (run(metric("accuracy")), run(metric("accuracy"), metric("auroc"), metric("mcc")))
    )
    assert [{k: v for k, v in epoch.items() if k in plain[0]} for epoch in measured] == plain


def test_undefined_objective_ends_the_training_with_the_class(data: TrialData) -> None:
    message = "search.metric: auroc is undefined on the validation images: there is no image of top. Choose another"
    with pytest.raises(InputError, match=message):
        run(metric("auroc")).train(data.train, without_top(data))


def test_other_metric_that_is_undefined_is_left_out_and_said_once(data: TrialData) -> None:
    trained = run(metric("accuracy"), metric("average_precision"), metric("mcc"))
    history = trained.train(data.train, without_top(data))
    assert all("val_average_precision" not in epoch and "val_mcc" in epoch for epoch in history)
    notes = [note for note in trained.notes if "undefined" in note]
    assert notes == [
        "val_average_precision is undefined on the validation images and left out: there is no image of top"
    ]


def test_cost_of_a_table_in_a_file_goes_with_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: TrialData
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/labels").mkdir(parents=True)
    table = tmp_path / "data/labels/costs.csv"
    table.write_text(",left,right,top\nleft,0,1,5\nright,2,0,1\ntop,1,1,0\n", encoding="utf-8")
    carried = scores.carried(Choice(name="cost", arguments={"file": "costs.csv"}))
    table.unlink()
    assert run(scores.of(carried)).train(data.train, data.val)[-1]["val_cost"] >= 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",left,right\nleft,0,1\nright,x,0\n", "line 3: a cost must be a finite number; got 'x'"),
        (",left,right\nleft,0\n", "line 2: must have 2 costs; got 1"),
        (",left,right\nleft,0,1\n", "must name every class once in its first row and once in its first column"),
        ("\n", "must have a row of predicted classes and rows of costs"),
        (",left,cat\nleft,0,1\ncat,1,0\n", "must name classes only; it names cat, there are left, right, top"),
    ],
)
def test_table_of_costs_that_does_not_fit_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/labels").mkdir(parents=True)
    (tmp_path / "data/labels/costs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        scores.of(Choice(name="cost", arguments={"file": "costs.csv"})).undefined(dict.fromkeys(tiny.CLASSES, 1))
    assert message in str(caught.value)


LOGGED = (metric("auroc"), metric("mcc"), metric("brier"), metric("calibration_error"), metric("top_k", k=2))


def later(epochs: int = 5) -> TrainingRun:
    recipe = tiny.recipe(train__epochs=epochs)
    return TrainingRun(recipe, NAMED, 0, torch.device("cpu"), metric("balanced_accuracy"), (), LOGGED)


def timeless(history: list[Epoch]) -> list[Epoch]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["each epoch", "the last one"])
def test_logged_metrics_have_the_values_of_each_epoch_whenever_they_are_computed(
    data: TrialData, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(epoch_metrics, "SECONDS", seconds)
    recipe = tiny.recipe(train__epochs=5)
    at_once = TrainingRun(recipe, NAMED, 0, torch.device("cpu"), metric("balanced_accuracy"), LOGGED)
    seen: list[int] = []
    history = later().train(data.train, data.val, on_epoch=lambda run: seen.append("val_mcc" in run.history[0]))
    assert timeless(history) == timeless(at_once.train(data.train, data.val))
    assert seen == [not seconds, not seconds, not seconds, not seconds, True]


def test_saved_training_has_the_logged_metrics_of_all_its_epochs(
    data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_metrics, "SECONDS", 1e9)
    undisturbed, states = later(), list[dict[str, Any]]()
    undisturbed.train(
        data.train, data.val, on_epoch=lambda run: states.append(snapshot(run.state())) if run.epoch == 3 else None
    )
    assert [all(f"val_{one.label}" in epoch for one in LOGGED) for epoch in states[0]["history"]] == [True] * 3
    again = later()
    again.restore(states[0])
    assert timeless(again.train(data.train, data.val)) == timeless(undisturbed.history)


def test_metric_that_may_draw_random_numbers_is_computed_at_each_epochs_end(
    data: TrialData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(epoch_metrics, "SECONDS", 1e9)
    monkeypatch.chdir(tmp_path)
    text = "import torch\n\n\ndef drawn(logits, labels):\n    return torch.rand(()).item()\n\n\n"
    Path("src").mkdir()
    Path("src/own_drawn.py").write_text(text + 'drawn.direction = "maximize"\n', encoding="utf-8")
    own = metric("own_drawn:drawn")
    recipe = tiny.recipe(train__epochs=3, model__dropout=0.3)
    of_more, of_logged = (
        timeless(
            TrainingRun(recipe, NAMED, 0, torch.device("cpu"), metric("accuracy"), *how).train(data.train, data.val)
        )
        for how in ([[own]], [[], [own]])
    )
    assert of_logged == of_more


def test_logged_metric_that_is_undefined_is_left_out_and_said_once(
    data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_metrics, "SECONDS", 1e9)
    trained = later()
    history = trained.train(data.train, without_top(data))
    assert all("val_auroc" not in epoch and "val_mcc" in epoch for epoch in history)
    assert [note.partition(":")[2] for note in trained.notes if "val_auroc" in note] == [" there is no image of top"]
