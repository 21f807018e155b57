"""Own training loops: what they are given, what they report and save, and what each mistake is called."""

import copy
import io
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from own import OwnCode
from podium import own_code
from podium.components import Choice
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.metrics.scores import Metric
from podium.training import checkpoint
from podium.training.epochs import Epoch
from podium.training.loop import DivergedError, TrainingRun
from podium.training.program import ProgramRun, training
from podium.training.saver import snapshot
from podium.training.trained import GRAPH, TrainedModel, digest_of, save_graph
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.work import TrialData, run_trial

CPU = torch.device("cpu")
EPOCHS = 3
LOOP = """
import torch


def program(config, train_set, val_set, network, device, seed, run, momentum: float = 0.9):
    model = network().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["train.learning_rate"], momentum=momentum)
    first = 1
    if saved := run.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"] + 1
    for epoch in range(first, config["train.epochs"] + 1):
        model.train()
        for images, labels in train_set.batches(16, epoch):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(epoch, train_loss=float(loss.detach()), val_accuracy=accuracy(model, val_set))
        run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch})
    return model


def accuracy(model, data):
    model.eval()
    with torch.no_grad():
        right = [model(images).argmax(1) == labels for images, labels in data.batches(64)]
    return float(torch.cat(right).float().mean())
"""
SHORT = """
import numpy
import torch


def program(network, run, val_set):
    {body}
    return network()
"""
"""A loop that does one thing."""


@pytest.fixture(scope="module")
def trial_data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))


def _recipe(module: str, **changes: Any) -> Recipe:
    loop = {"train__program": f"{module}:program", "train__epochs": EPOCHS, "train__learning_rate": 0.05}
    return tiny.recipe(**loop | changes)


def _run(recipe: Recipe, metric: Metric | None = None) -> ProgramRun:
    run = training(recipe, tiny.IMAGES, 0, CPU, metric)
    assert isinstance(run, ProgramRun)
    return run


def _task(recipe: Recipe, folder: Path, **fields: Any) -> Task:
    often = {"checkpoint_seconds": 1e-9, "timeout": None, "calibrate": False}
    return Task(3, 1, 0, recipe.nested(), str(folder / "3.pt"), **often | fields)


def _timeless(history: list[Epoch]) -> list[Epoch]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


def _short(own: OwnCode, body: str) -> Recipe:
    return _recipe(own.write(SHORT.format(body="\n    ".join(body.splitlines()))))


def test_recipe_without_a_program_has_podiums_loop() -> None:
    assert isinstance(training(tiny.recipe(), tiny.IMAGES, 0, CPU), TrainingRun)


def test_own_loop_trains_and_its_reports_are_the_history(own: OwnCode, trial_data: TrialData) -> None:
    run = _run(_recipe(own.write(LOOP), train__epochs=8))
    seen: list[int] = []
    history = run.train(trial_data.train, trial_data.val, on_epoch=lambda run: seen.append(run.epoch))
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [set(epoch) for epoch in history] == [{"epoch", "train_loss", "val_accuracy", "seconds"}] * 8
    assert history[-1]["val_accuracy"] > 0.6
    assert run.notes == []
    assert run.measured["val_accuracy"] == pytest.approx(history[-1]["val_accuracy"])
    logits = run.result(trial_data.val.images[torch.arange(20)])
    assert float((logits.argmax(1) == trial_data.val.labels).float().mean()) == history[-1]["val_accuracy"]


def test_own_loop_without_validation_images_runs_on_the_training_images(own: OwnCode, trial_data: TrialData) -> None:
    assert len(_run(_recipe(own.write(LOOP))).train(trial_data.train, None)) == EPOCHS


def test_own_loops_arguments_are_settings(own: OwnCode, trial_data: TrialData) -> None:
    module = own.write(LOOP)
    histories = [
        _timeless(_run(_recipe(module, **changes)).train(trial_data.train, trial_data.val))
        for changes in ({}, {"train__program.arguments.momentum": 0.9}, {"train__program.arguments.momentum": 0.0})
    ]
    assert histories[0] == histories[1] != histories[2]


def test_own_loop_is_given_normalised_images_as_a_set_and_as_batches(own: OwnCode, trial_data: TrialData) -> None:
    body = """
assert len(val_set) == 20
image, label = val_set[3]
assert (image.shape, image.dtype) == ((3, 8, 8), torch.float32)
batches = list(val_set.batches(8))
assert [len(labels) for _, labels in batches] == [8, 8, 4]
assert torch.equal(batches[0][0][3], image)
assert int(batches[0][1][3]) == label == int(val_set.labels[3])
orders = [torch.cat([labels for _, labels in val_set.batches(8, epoch)]).tolist() for epoch in (1, 1, 2)]
assert orders[0] == orders[1] != orders[2]
assert sorted(orders[0]) == sorted(val_set.labels.tolist())
assert sum(1 for _ in torch.utils.data.DataLoader(val_set, 4, shuffle=True)) == 5
run.report(1, val_accuracy=0.0)"""
    _run(_short(own, body.strip())).train(trial_data.train, trial_data.val)


def test_row_that_is_not_there_is_an_index_error(own: OwnCode, trial_data: TrialData) -> None:
    with pytest.raises(InputError, match=r"IndexError: row 20 of 20"):
        _run(_short(own, "val_set[20]")).train(trial_data.train, trial_data.val)


def _reporting(stop_after: int, seen: list[int]) -> Callable[[Report], bool]:
    def report(message: Report) -> bool:
        seen.append(int(message.epoch["epoch"]))
        return len(seen) < stop_after

    return report


CATCHING = LOOP.replace(
    "        run.report(epoch, train",
    "        try:\n            run.report(epoch, val_accuracy=0.5)\n        except Exception:\n            pass\n"
    "        continue\n        run.report(epoch, train",
)


@pytest.mark.parametrize("text", [LOOP, CATCHING], ids=["plain", "catches every Exception"])
def test_own_loop_is_stopped_by_the_search(own: OwnCode, trial_data: TrialData, tmp_path: Path, text: str) -> None:
    seen: list[int] = []
    task = _task(_recipe(own.write(text)), tmp_path)
    ended = run_trial(task, trial_data, _reporting(2, seen))
    assert seen == [1, 2]
    assert ended.how == "stopped"
    assert [epoch["epoch"] for epoch in ended.history] == [1, 2]


def test_own_loop_that_catches_everything_is_stopped_all_the_same(
    own: OwnCode, trial_data: TrialData, tmp_path: Path
) -> None:
    text = CATCHING.replace("except Exception:", "except BaseException:")
    ended = run_trial(_task(_recipe(own.write(text)), tmp_path), trial_data, _reporting(2, []))
    assert ended.how == "stopped"


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_own_loop_that_was_interrupted_goes_on_bit_for_bit(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, at: int
) -> None:
    recipe = _recipe(own.write(LOOP))
    undisturbed = _run(recipe)
    expected = _timeless(undisturbed.train(trial_data.train, trial_data.val))
    calls = 0

    def pausing() -> bool:
        nonlocal calls
        calls += 1
        return calls == at

    task = _task(recipe, tmp_path)
    assert run_trial(task, trial_data, lambda report: True, pausing).how == "interrupted"
    torch.rand(5)  # another process draws other numbers
    ended = run_trial(task, trial_data, lambda report: True)
    assert ended.how == "finished"
    assert _timeless(ended.history) == expected


def test_own_loop_restored_has_the_weights_that_it_would_have_had(own: OwnCode, trial_data: TrialData) -> None:
    recipe = _recipe(own.write(LOOP))
    undisturbed, saved = _run(recipe), list[bytes]()

    def store(run: Any) -> None:
        buffer = io.BytesIO()
        torch.save(run.state(), buffer)
        saved.append(buffer.getvalue())

    undisturbed.train(trial_data.train, trial_data.val, on_step=store)
    assert len(saved) == 2 * EPOCHS  # a report and a save each epoch
    for state in saved:
        resumed = _run(recipe)
        resumed.restore(torch.load(io.BytesIO(state), weights_only=True))
        resumed.train(trial_data.train, trial_data.val)
        assert digest_of(resumed.result.state_dict()) == digest_of(undisturbed.result.state_dict())


def test_loop_that_does_not_load_begins_at_the_beginning(own: OwnCode, trial_data: TrialData, tmp_path: Path) -> None:
    recipe = _recipe(own.write(LOOP.replace("saved := run.load()", "saved := None")))
    task, calls = _task(recipe, tmp_path), iter([False, False, False, True])
    assert run_trial(task, trial_data, lambda report: True, lambda: next(calls)).how == "interrupted"
    seen: list[int] = []
    assert run_trial(task, trial_data, _reporting(99, seen)).how == "finished"
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    "value", ["float('nan')", "float('inf')", "numpy.float32('nan')", "torch.tensor(float('nan'))"]
)
def test_metric_that_is_not_finite_fails_the_trial_as_diverged(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, value: str
) -> None:
    recipe = _short(own, f"run.report(1, val_accuracy=0.5)\nrun.report(2, val_accuracy=0.5, train_loss={value})")
    ended = run_trial(_task(recipe, tmp_path), trial_data, lambda report: True)
    assert (ended.how, ended.diverged) == ("failed", True)
    assert ended.reason in ("train_loss became nan in epoch 2", "train_loss became inf in epoch 2")
    with pytest.raises(DivergedError, match="in epoch 2"):
        _run(recipe).train(trial_data.train, trial_data.val)


MISTAKES = {
    "order": (
        "run.report(2, val_accuracy=0.5)",
        "run.report: epochs follow one another; expected 1, got 2",
    ),
    "twice": (
        "run.report(1, val_accuracy=0.5)\nrun.report(1, val_accuracy=0.5)",
        "run.report: epochs follow one another; expected 2, got 1",
    ),
    "missing metric": (
        "run.report(1, accuracy=0.5)",
        "run.report: val_accuracy must be among the metrics, for search.metric is accuracy; got accuracy",
    ),
    "no metric": ("run.report(1)", "run.report: val_accuracy must be among the metrics, for .*; got none"),
    "no number": ("run.report(1, val_accuracy='good')", "run.report: val_accuracy must be a number; got 'good'"),
    "state": (
        "run.report(1, val_accuracy=0.5)\nrun.save({'epoch': 1, 'deep': [1, {'array': object()}]})",
        r"run.save: takes tensors, numbers, .*; the state\['deep'\]\[1\]\['array'\] is object",
    ),
    "named tuple": (
        "run.report(1, val_accuracy=0.5)\nimport collections\nPair = collections.namedtuple('Pair', 'a b')\n"
        "run.save({'pair': Pair(1, 2)})",
        r"run.save: takes .*; the state\['pair'\] is Pair, derived from tuple: save tuple\(...\) of it .*",
    ),
    "own list": (
        "run.report(1, val_accuracy=0.5)\nclass Rows(list): pass\nrun.save({'rows': [Rows([1])]})",
        r"run.save: takes .*; the state\['rows'\]\[0\] is Rows, derived from list: save list\(...\) of it .*",
    ),
    "own tensor": (
        "run.report(1, val_accuracy=0.5)\nclass Mine(torch.Tensor): pass\n"
        "run.save({'mean': torch.ones(2).as_subclass(Mine)})",
        r"run.save: takes .*; the state\['mean'\] is Mine: save it .as_subclass\(torch.Tensor\)",
    ),
    "state's key": (
        "run.save({(1, object()): 3})",
        r"run.save: takes .*; a key of the state\[1\] is object",
    ),
    "nothing returned": (
        "run.report(1, val_accuracy=0.5)\nreturn",
        "train.program: .*:program must return a torch.nn.Module; it returned NoneType",
    ),
    "no module": (
        "run.report(1, val_accuracy=0.5)\nreturn {'model': network()}",
        "train.program: .*:program must return a torch.nn.Module; it returned dict",
    ),
    "no report": ("", "train.program: .*:program returned without a report; call run.report after each epoch"),
    "other logits": (
        "run.report(1, val_accuracy=0.5)\nreturn torch.nn.Flatten()",
        r"train.program: .*:program must give logits, .*, here \(4, 3\); it gave \(4, 192\) of torch.float32",
    ),
    "error": (
        "raise KeyError('lr')",
        r"train.program: (.*):program failed: src/\1.py, line 6, in program: KeyError: 'lr'",
    ),
}


@pytest.mark.parametrize(("body", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_of_an_own_loop_is_called_by_its_name(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, body: str, problem: str
) -> None:
    recipe, accuracy = _short(own, body or "pass"), SearchParams().component("metric")
    with pytest.raises(InputError, match=rf"^{problem}( \(src/own_module_\d+\.py, line \d+.*\))?$") as caught:
        _run(recipe, accuracy).train(trial_data.train, trial_data.val)
    assert re.search(r"src/own_module_\d+\.py, line \d+", str(caught.value))
    ended: Ended = run_trial(_task(recipe, tmp_path), trial_data, lambda report: True)
    assert (ended.how, ended.diverged) == ("failed", False)


def test_result_before_the_end_is_refused(own: OwnCode) -> None:
    with pytest.raises(InputError, match="has returned no module yet"):
        _ = _run(_recipe(own.write(LOOP))).result


def test_other_metric_of_the_search_has_to_be_reported(own: OwnCode, trial_data: TrialData) -> None:
    metric = SearchParams(metric=Choice(name="balanced_accuracy")).component("metric")
    with pytest.raises(InputError, match="val_balanced_accuracy must be among the metrics, for search.metric is bal"):
        _run(_short(own, "run.report(1, val_accuracy=0.5)"), metric).train(trial_data.train, trial_data.val)


@pytest.mark.parametrize(
    ("reports", "notes"),
    [
        ("val_accuracy=0.99", ["reported val_accuracy 0.9900 last; the module that it returned has 0."]),
        ("val_accuracy=0.99, val_loss=0.001", ["reported val_accuracy 0.9900 last; the module"]),
        ("val_accuracy=0.99, val_min_recall=1.0", ["val_accuracy 0.9900 last", "val_min_recall 1.0000 last"]),
        ("val_accuracy=0.99, val_f2=3.0, train_loss=-1.0", ["val_accuracy 0.9900 last"]),
    ],
)
def test_reported_metric_that_the_returned_module_does_not_have_is_noted_and_does_not_count(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, reports: str, notes: list[str]
) -> None:
    task = _task(_short(own, f"run.report(1, {reports})"), tmp_path, more=["min_recall"])
    ended = run_trial(task, trial_data, lambda report: True)
    assert ended.how == "finished"
    assert len(ended.notes) == len(notes)
    assert all(words in note and "which counts" in note for words, note in zip(notes, ended.notes, strict=True))
    assert ended.history[-1]["val_accuracy"] == 0.99
    assert set(ended.measured) == {"val_loss", "val_accuracy", "val_min_recall"}
    assert ended.measured["val_accuracy"] < 0.7


FRACTION = "from 0 to 1; got {} in epoch 1: report it as Podium measures it (a fraction, no percentage)"
REPORTS = {
    "a percentage": ("accuracy", [], "val_accuracy=45.0", FRACTION.format(45)),
    "below": ("accuracy", [], "val_accuracy=-0.1", FRACTION.format(-0.1)),
    "rounded": ("accuracy", [], "val_accuracy=1.0000001", ""),
    "a figure of its own": ("accuracy", [], "val_accuracy=0.5, val_percent=45.0, train_loss=-3.0", ""),
    "one of the limits": (
        "accuracy",
        ["min_recall"],
        "val_accuracy=0.5, val_min_recall=2",
        FRACTION.format(2) + ", or under another name",
    ),
    "not what the search looks at": (
        "mcc",
        [],
        "val_mcc=0.5, val_accuracy=5",
        FRACTION.format(5) + ", or under another name",
    ),
    "a correlation": (
        "accuracy",
        ["mcc"],
        "val_accuracy=0.5, val_mcc=-1.2",
        "from -1 to 1; got -1.2 in epoch 1: report it as Podium measures it, or under another name",
    ),
    "torchmetrics' below 0": ("MulticlassMatthewsCorrCoef", [], "val_MulticlassMatthewsCorrCoef=-0.2", ""),
    "a loss of its own, below 0": ("accuracy", ["loss"], "val_accuracy=0.5, val_loss=-3.0", ""),
    "the loss of the search, below 0": (
        "loss",
        [],
        "val_loss=-0.2",
        "at least 0; got -0.2 in epoch 1: report it as Podium measures it (the mean negative log likelihood)",
    ),
    "the loss of the search, large": ("loss", [], "val_loss=45.0", ""),
}


@pytest.mark.parametrize(("metric", "more", "reports", "problem"), REPORTS.values(), ids=REPORTS)
def test_report_outside_of_the_metrics_range_fails_the_trial_with_the_remedy(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, metric: str, more: list[str], reports: str, problem: str
) -> None:
    recipe = _short(own, f"run.report(1, {reports})")
    task = _task(recipe, tmp_path, metric={"name": metric}, more=more)
    ended = run_trial(task, trial_data, lambda report: True)
    place = recipe.train.component("program").chosen.name.partition(":")[0]
    wanted = f"{problem} (src/{place}.py, line 6, in program)" if problem else ""
    assert (ended.how, ended.reason.partition(" must be ")[2]) == ("failed" if problem else "finished", wanted)


@pytest.mark.parametrize("reports", ["val_balanced_accuracy=0.5", "val_loss=0.5", "train_loss=0.1", ""])
def test_retraining_asks_for_no_metric(own: OwnCode, trial_data: TrialData, reports: str) -> None:
    run = _run(_short(own, f"run.report(1, {reports})"))
    assert len(run.train(trial_data.train, None)) == 1
    assert run.measured == {}


RETURNED = """
import torch


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(192, 3)

    def forward(self, images):
        x = images.flatten(1)
        {forward}


def program(run):
    run.report(1, val_accuracy=0.5)
    return Head()
"""
MODULES = {  # one of each check; what the checks find is in NETWORKS of test_rehearsal.py
    "looks at the batch": ("return self.layer(x) - self.layer(x).mean(0)", "it looks at the other images of the batch"),
    "branches": (
        "return self.layer(x) if x.sum().item() > 0 else -self.layer(x)",
        "can't be exported, so it could not be registered: src/{m}.py, line 11, in forward: ",
    ),
    "fails": (
        "return self.layer(x[:, 1:])",
        "returned fails on 4 images: src/{m}.py, line 11, in forward: RuntimeError",
    ),
    "exits": ("raise SystemExit(0)", "returned fails on 4 images: src/{m}.py, line 11, in forward: SystemExit: 0"),
    "good": ("return self.layer(x)", ""),
}


@pytest.mark.parametrize(("forward", "problem"), MODULES.values(), ids=MODULES)
def test_module_that_could_not_be_registered_fails_its_trial(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, forward: str, problem: str
) -> None:
    module = own.write(RETURNED.replace("{forward}", forward))
    ended = run_trial(_task(_recipe(module), tmp_path), trial_data, lambda report: True)
    assert (ended.how, ended.suspicious) == ("failed" if problem else "finished", False), ended.reason
    assert problem.format(m=module) in ended.reason
    assert not problem or f"src/{module}.py, line " in ended.reason


def test_export_is_tried_once_for_a_programs_module(
    own: OwnCode, trial_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr("podium.training.program.check_export", lambda *about: tried.append(about[-1]))
    recipe = _short(own, "run.report(1, val_accuracy=0.5)")
    for _ in range(3):
        _run(recipe).train(trial_data.train, trial_data.val)
    assert tried == [recipe.train.component("program").chosen.name]


BRANCHES = """
import torch


class Head(torch.nn.Module):
    def __init__(self, branches):
        super().__init__()
        self.layer = torch.nn.Linear(192, 3)
        self.settings = {"branches": [branches]}

    def forward(self, images):
        x = images.flatten(1)
        if self.settings["branches"][0] and x.sum() > 0:
            return -self.layer(x)
        return self.layer(x)


class Calling(Head):
    def __init__(self, after):
        super().__init__(False)
        self.after = after

    def forward(self, images):
        return self.after(super().forward(images))


def branching(logits):
    return -logits if logits.sum() > 0 else logits


class Branching(Head):
    def extra_repr(self):
        return "branching"


def program(run, config, branches: bool = False):
    run.report(1, val_accuracy=0.5)
    return {made}
"""
WHERE: dict[str, tuple[str, dict[str, Any]]] = {
    "the program's argument": ("Head(branches)", {"train.program.arguments.branches": True}),
    "the network": ("Head(config['model.hidden'] == 4)", {"model.hidden": 4}),
    "another setting": ("Head(config['train.batch_size'] == 8)", {"train.batch_size": 8}),
    "a function": ("Calling(branching if config['train.batch_size'] == 8 else torch.neg)", {"train.batch_size": 8}),
    "a lambda": (
        "Calling((lambda x: -x if x.sum() > 0 else x) if config['train.batch_size'] == 8 else (lambda x: x))",
        {"train.batch_size": 8},
    ),
    "its layers": (
        "torch.nn.Sequential(Branching(True) if config['train.batch_size'] == 8 else Head(False))",
        {"train.batch_size": 8},
    ),
}


@pytest.mark.parametrize("order", ["the good one first", "the bad one first"])
@pytest.mark.parametrize(("made", "changes"), WHERE.values(), ids=WHERE)
def test_module_that_can_not_be_exported_fails_whatever_was_exported_before(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, made: str, changes: dict[str, Any], order: str
) -> None:
    module = own.write(BRANCHES.replace("{made}", made))
    good = _recipe(module)
    ways = {"finished": good, "failed": good.replace(changes)}
    for how in sorted(ways, reverse=order == "the good one first"):
        ended = run_trial(_task(ways[how], tmp_path), trial_data, lambda report: True)
        assert ended.how == how, ended.reason
        assert how == "finished" or "can't be exported" in ended.reason


def test_graph_that_can_not_be_exported_is_refused_with_the_program(own: OwnCode, tmp_path: Path) -> None:
    module = own.write(RETURNED.replace("{forward}", MODULES["branches"][0]))
    function = own_code.load(f"{module}:Head", "")
    with pytest.raises(InputError, match=rf"^train.program: the module that {module}:program returned can't be exp"):
        save_graph(function(), tiny.IMAGES.shape, tmp_path / GRAPH, Choice(name=f"{module}:program"))


EXITS = {
    "a program": ("def f(run):\n    raise SystemExit(0)\n", "train.program", "line 2, in f: SystemExit: 0"),
    "a program's module": (
        "import sys\n\n\ndef f(network, run):\n    sys.exit('enough')\n",
        "train.program",
        "line 5, in f: SystemExit: enough",
    ),
    "a loss": ("def f(logits, targets):\n    raise SystemExit(3)\n", "train.loss", "line 2, in f: SystemExit: 3"),
    "an augmentation": ("def f(images):\n    raise SystemExit\n", "train.augment", "line 2, in f: SystemExit"),
    "an optimizer": ("def f(params, lr):\n    raise SystemExit\n", "train.optimizer", "line 2, in f: SystemExit"),
}


@pytest.mark.parametrize(("text", "place", "reason"), EXITS.values(), ids=EXITS)
def test_code_that_ends_the_program_has_failed_with_its_line(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, text: str, place: str, reason: str
) -> None:
    module = own.write(text)
    named: Any = [f"{module}:f"] if place == "train.augment" else f"{module}:f"
    recipe = tiny.recipe(**{place: named})
    ended = run_trial(_task(recipe, tmp_path), trial_data, lambda report: True)
    assert (ended.how, ended.suspicious) == ("failed", False)
    assert ended.reason.endswith(f"src/{module}.py, {reason}")


def test_saved_state_is_a_copy(own: OwnCode, trial_data: TrialData) -> None:
    body = """
state = {"weights": torch.zeros(2), "list": [torch.zeros(2)], "pair": (1, "a")}
run.report(1, val_accuracy=0.5)
run.save(state)
state["weights"] += 1
state["list"][0] += 1
loaded = run.load()
assert loaded["weights"].tolist() == loaded["list"][0].tolist() == [0, 0]
assert loaded["pair"] == (1, "a")
loaded["weights"] += 1
assert run.load()["weights"].tolist() == [0, 0]"""
    _run(_short(own, body.strip())).train(trial_data.train, trial_data.val)


GIVES = {
    "an object with logits": "Object(network())",
    "a dict with logits": "Dict(network())",
    "a tuple of one": "Tuple(network())",
    "a named tuple, as networks with auxiliary heads of torchvision": "Named(network())",
    "a row of layers that ends with an object": "torch.nn.Sequential(torch.nn.Identity(), Object(network()))",
    "several devices": "torch.nn.DataParallel(network())",
    "an object with a lock": "trained(Object(network()))",
    "a moving average": "torch.optim.swa_utils.AveragedModel(network())",
}
OUTPUTS = """
import threading
from collections import namedtuple
from types import SimpleNamespace

import torch


class Object(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, pixel_values=None, labels=None):
        return self.give(self.body(pixel_values))

    def give(self, logits):
        return SimpleNamespace(loss=None, logits=logits)


class Trainer:
    def __init__(self, module):
        self.lock, self.module = threading.Lock(), module


def trained(module):
    module.trainer = Trainer(module)
    return module


class Dict(Object):
    def give(self, logits):
        return {"loss": logits.mean(), "logits": logits}


class Tuple(Object):
    def give(self, logits):
        return (logits,)


class Named(Object):
    def give(self, logits):
        return namedtuple("Outputs", "logits aux_logits")(logits, logits * 2)


def program(network, run):
    run.report(1, val_accuracy=0.5)
    return MODULE
"""


@pytest.mark.parametrize("module", GIVES.values(), ids=GIVES)
def test_module_whose_logits_are_inside_of_what_it_gives_is_registered(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, module: str
) -> None:
    run = _run(_recipe(own.write(OUTPUTS.replace("MODULE", module))))
    run.train(trial_data.train, trial_data.val)
    assert set(run.measured) >= {"val_loss", "val_accuracy"}
    save_graph(run.result, (3, tiny.SIZE, tiny.SIZE), tmp_path / "one.pt2", run.recipe.train.program)
    images = trial_data.val.images[torch.arange(4)]
    with torch.inference_mode():
        torch.testing.assert_close(torch.export.load(tmp_path / "one.pt2").module()(images), run.result.eval()(images))


def test_loop_that_changes_the_process_changes_it_for_itself_alone(own: OwnCode, trial_data: TrialData) -> None:
    text = """
import argparse
import os
import signal

import torch


def program(network, run):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=0.5)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_default_dtype(torch.float64)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.chdir("..")
    run.report(1, val_accuracy=parser.parse_args().rate)
    return network().float()
"""

    def state() -> list[Any]:
        return [
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_anomaly_enabled(),
            torch.get_default_dtype(),
            signal.getsignal(signal.SIGTERM),
            Path.cwd(),
            sys.argv,
        ]

    before = state()
    _run(_recipe(own.write(text))).train(trial_data.train, trial_data.val)
    assert state() == before


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_module_of_another_type_is_refused_with_the_remedy(own: OwnCode, trial_data: TrialData, kind: str) -> None:
    body = f"run.report(1, val_accuracy=0.5)\nreturn network().to(torch.{kind})"
    with pytest.raises(InputError, match=rf"Its weights are torch\.{kind}, images float32: return it\.float\(\)$"):
        _run(_short(own, body)).train(trial_data.train, trial_data.val)


def test_loop_that_leaves_a_thread_is_noted(own: OwnCode, trial_data: TrialData) -> None:
    text = """
import threading

ended = threading.Event()


def program(network, run):
    threading.Thread(target=ended.wait, name="mine").start()
    threading.Thread(target=ended.wait, daemon=True).start()
    run.report(1, val_accuracy=0.5)
    return network()
"""
    name = own.write(text)
    run = _run(_recipe(name))
    run.train(trial_data.train, trial_data.val)
    own_code.load(f"{name}:ended", "").set()
    assert run.notes[0] == (
        f"{name}:program left threads running (mine), for which the end of a process waits: end them, or make them with"
        " daemon=True"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, where such a loop works")
def test_loop_that_wants_a_gpu_on_the_cpu_is_told_where_the_device_is(own: OwnCode, trial_data: TrialData) -> None:
    with pytest.raises(InputError, match="line 6, in program: .* This training is on the CPU: take the argument `dev"):
        _run(_short(own, "network().cuda()")).train(trial_data.train, trial_data.val)


COLLECTIONS = {
    "OrderedDict": "OrderedDict(network().state_dict())",
    "Counter": "Counter('abca')",
    "defaultdict": "defaultdict(list, {'val': [0.5, torch.ones(1)]})",
    "defaultdict of none": "defaultdict(None, {1: 2})",
    "deque": "deque([1, 2, 3], maxlen=3)",
    "set": "{'a', ('b', 1)}",
    "keys of numpy": "{np.int64(3): np.float32(0.5), np.str_('a'): 1}",
    "array": "{'a': np.arange(6, dtype=np.uint16).reshape(2, 3), 'none': np.zeros((0, 2))}",
    "key that marks": "{'podium:type': 'set', 'items': [1]}",
    "states of random numbers": "[np.random.default_rng(1).bit_generator.state, __import__('random').getstate()]",
    "size and type": "[torch.zeros(2, 3).shape, torch.float16, torch.device('cpu')]",
}


@pytest.mark.parametrize("value", COLLECTIONS.values(), ids=COLLECTIONS)
def test_saved_collection_is_read_back_as_what_it_was(
    own: OwnCode, trial_data: TrialData, tmp_path: Path, value: str
) -> None:
    head = "from collections import *\n\nimport numpy as np\nimport torch\n\n\n"
    text = f"""
def same(one, other):
    assert type(one) is type(other), (type(one), type(other))
    if isinstance(one, dict):
        one, other = [[*one.items(), one.__dict__ if hasattr(one, "__dict__") else 0] for one in (one, other)]
    if isinstance(one, (torch.Tensor, np.ndarray)):
        assert one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    elif isinstance(one, (list, tuple)) and type(one) is not torch.Size:
        assert len(one) == len(other) and all(same(*pair) for pair in zip(one, other))
    else:
        assert one == other
    return True


def program(network, run):
    torch.manual_seed(0)
    value = {value}
    loaded = run.load()
    if loaded is None:
        run.report(1, val_accuracy=0.5)
        run.save({{"value": value}})
        raise KeyboardInterrupt
    same(loaded["value"], value)
    if isinstance(value, defaultdict):
        assert loaded["value"].default_factory is value.default_factory
    if isinstance(value, deque):
        assert loaded["value"].maxlen == value.maxlen
    return network()
"""
    recipe = _recipe(own.write(head + text))
    first = _run(recipe)
    with pytest.raises(KeyboardInterrupt):
        first.train(trial_data.train, trial_data.val)
    checkpoint.save(tmp_path / "one", "one", snapshot(first.state()))
    again = _run(recipe)
    again.restore(checkpoint.load(tmp_path / "one", "one") or {})
    again.train(trial_data.train, trial_data.val)


NOT_KEPT = {
    "derived from list": ("type('Mine', (list,), {})()", "derived from list: save list(...) of it and build it again"),
    "array of objects": ("np.array([None])", "ndarray of object: save numpy.asarray(...) of it"),
    "generator": ("np.random.default_rng(0)", "save its .bit_generator.state, and set that after run.load"),
    "torch's generator": ("torch.Generator()", "save its .get_state(), and .set_state(...) after run.load"),
    "module": ("network()", "Sequential: save its state_dict()"),
}


@pytest.mark.parametrize(("value", "remedy"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_can_not_be_read_back_is_refused_with_what_to_save(
    own: OwnCode, trial_data: TrialData, value: str, remedy: str
) -> None:
    body = "from collections import defaultdict\nimport numpy as np\nrun.report(1, val_accuracy=0.5)\n"
    body += f"run.save({{'a': {value}}})"
    with pytest.raises(InputError, match=re.escape(remedy)) as caught:
        _run(_short(own, body)).train(trial_data.train, trial_data.val)
    assert "run.save: takes tensors" in str(caught.value)
    assert "the state['a'] is " in str(caught.value)


def test_dict_of_another_type_is_read_back_as_a_dict(own: OwnCode, trial_data: TrialData) -> None:
    body = "from collections import defaultdict\nrun.report(1, val_accuracy=0.5)\nlosses = defaultdict(lambda: 0.0)\n"
    body += "losses['a'] += 1.5\nmine = type('Mine', (dict,), {})({1: [losses]})\n"
    body += "run.save({'losses': losses, 'mine': mine})\n"
    body += "loaded = run.load()\nassert loaded == {'losses': {'a': 1.5}, 'mine': {1: [{'a': 1.5}]}}, loaded\n"
    body += "assert type(loaded['losses']) is type(loaded['mine']) is dict"
    _run(_short(own, body)).train(trial_data.train, trial_data.val)


def test_random_numbers_go_on_where_a_state_was_saved(own: OwnCode, trial_data: TrialData) -> None:
    text = """
import random

import numpy as np
import torch


def program(network, run):
    model = network()
    drawn = (run.load() or {"drawn": []})["drawn"]
    for epoch in range(len(drawn) + 1, 4):
        drawn.append([random.random(), np.random.rand(), torch.rand(()).item(), random.gauss(0, 1)])
        run.report(epoch, val_accuracy=0.5, drawn=sum(drawn[-1]))
        run.save({"drawn": drawn})
    return model
"""
    recipe = _recipe(own.write(text))
    states: list[Any] = []
    whole = _run(recipe)
    whole.train(trial_data.train, trial_data.val, on_step=lambda run: states.append(copy.deepcopy(run.state())))
    for state in states:
        again = _run(recipe)
        again.restore(state)
        again.train(trial_data.train, trial_data.val)
        assert [one["drawn"] for one in again.history] == [one["drawn"] for one in whole.history]


def test_trained_model_of_an_own_loop_is_its_graph(own: OwnCode, trial_data: TrialData, tmp_path: Path) -> None:
    recipe = _recipe(own.write(LOOP))
    run = _run(recipe)
    run.train(trial_data.train, trial_data.val)
    about = TrainedModel(
        recipe=recipe.nested(),
        classes=list(tiny.CLASSES),
        shape=[3, tiny.SIZE, tiny.SIZE],
        mean=list(tiny.IMAGES.mean),
        std=list(tiny.IMAGES.std),
        seed=0,
        device="cpu",
        data_digest="",
        study="",
        trial=0,
        confirmation_seeds=[],
        run_id="",
        temperature=2.0,
    )
    written = about.save(tmp_path / "trained", run.result)
    own.source.rename(own.source.with_name("gone"))  # the person's code is needed no more
    found, model = TrainedModel.load(tmp_path / "trained")
    images = trial_data.val.images[torch.arange(5)]
    assert found == written
    assert found.graph
    torch.testing.assert_close(model(images), run.result.eval()(images) / 2)
    torch.testing.assert_close(model.train()(images[:1]), model(images)[:1])
    (tmp_path / "trained" / GRAPH).write_bytes(b"other")
    with pytest.raises(
        InputError, match=rf"{GRAPH} is missing or not the one that was written: run `dvc repro retrain`"
    ):
        TrainedModel.load(tmp_path / "trained")
