"""The registry: names become components, and a new component is one file and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import tiny
from podium import components
from podium.config.params import parse
from podium.errors import InputError

SOURCE = Path(components.__file__).resolve().parent
KINDS = ("network", "loss", "optimizer", "schedule", "augmentation", "sampler", "pruner", "metric")


@pytest.mark.parametrize(
    ("kind", "name", "component"),
    [
        ("network", "cnn", "Cnn"),
        ("network", "resnet", "Resnet"),
        ("network", "torchvision:resnet18", "Torchvision"),
        ("network", "timm:resnet18", "Timm"),
        ("network", "my_net:Net", None),
        ("loss", "cross_entropy", "CrossEntropy"),
        ("loss", "focal", "Focal"),
        ("loss", "bce", "BinaryCrossEntropy"),
        ("loss", "torch.nn:HuberLoss", None),
        ("optimizer", "sgd", "Sgd"),
        ("optimizer", "adamw", "AdamW"),
        ("optimizer", "muon", "Muon"),
        ("optimizer", "timm:lamb", "TimmOptimizer"),
        ("optimizer", "NAdam", None),
        ("optimizer", "AdamW", None),
        ("schedule", "constant", "Constant"),
        ("schedule", "cosine", "Cosine"),
        ("schedule", "one_cycle", "OneCycle"),
        ("schedule", "timm:cosine", "TimmSchedule"),
        ("schedule", "StepLR", None),
        ("augmentation", "shift", "Shift"),
        ("augmentation", "cutmix", "Cutmix"),
        ("augmentation", "GaussianBlur", None),
        ("sampler", "tpe", "Tpe"),
        ("sampler", "random", "Random"),
        ("sampler", "CmaEsSampler", None),
        ("pruner", "median", "Median"),
        ("pruner", "none", "NoPruning"),
        ("pruner", "PatientPruner", None),
        ("metric", "accuracy", "Accuracy"),
        ("metric", "balanced_accuracy", "BalancedAccuracy"),
        ("metric", "my_metrics.deep:f1", None),
        ("program", "my_loop:train", None),
        ("tracker", "tensorboard", "TensorBoard"),
        ("tracker", "my_tracker:Tracker", None),
    ],
)
def test_name_is_one_of_ours_or_somebody_elses(kind: str, name: str, component: str | None) -> None:
    assert components.check_name(kind, name) == name
    found = components.find(kind, name)
    assert (found.__name__ if found else None) == component


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("network", "rsnet", "did you mean resnet?"),
        ("network", "resnet18", "did you mean torchvision:resnet18?"),
        ("network", "torchvision:resnet81", "must be torchvision:<model>; got 'torchvision:resnet81'; did you mean"),
        ("network", "", "must be cnn, resnet, timm:<name>, torchvision:<name> or your own as module:object; got ''"),
        ("loss", "cross_entropi", "did you mean cross_entropy?"),
        ("loss", "focl", "did you mean focal?"),
        ("loss", "zzz", "must be bce, cross_entropy, focal or your own as module:object; got 'zzz'"),
        ("optimizer", "adam", "did you mean Adam?"),
        ("optimizer", "nadam", "did you mean NAdam?"),
        ("optimizer", "torch.optim.Adam", "did you mean Adam?"),
        ("optimizer", "sdg", "did you mean sgd?"),
        ("optimizer", "Lion", "did you mean timm:lion?"),
        (
            "optimizer",
            "Optimizer",
            "must be adamw, muon, sgd, timm:<name>, a class of torch.optim such as ASGD or your own as mod",
        ),
        ("schedule", "cosin", "did you mean cosine?"),
        ("schedule", "steplr", "did you mean StepLR?"),
        (
            "schedule",
            "ReduceLROnPlateau",
            "must be constant, cosine, one_cycle, timm:<name>, a class of torch.optim.lr",
        ),
        ("augmentation", "mixp", "did you mean mixup?"),
        ("augmentation", "gaussianblur", "did you mean GaussianBlur?"),
        ("augmentation", "Transform", ", a class of torchvision.transforms.v2 such as "),
        ("sampler", "TPE", "did you mean tpe?"),
        ("sampler", "CmaEs", "did you mean CmaEsSampler?"),
        ("sampler", "BaseSampler", "must be random, tpe, a class of optuna.samplers such as "),
        ("pruner", "medain", "did you mean median?"),
        ("pruner", "Patient", "did you mean PatientPruner?"),
        ("metric", "acuracy", "did you mean accuracy?"),
        (
            "metric",
            "jaccard",
            "a class of torchmetrics.classification such as MulticlassAUROC or your own as module:object",
        ),
        ("metric", "macro_f2", "did you mean macro_f1?"),
        ("program", "train", "must be your own as module:object; got 'train'"),
        ("tracker", "tensorbord", "must be tensorboard or your own as module:object; got 'tensorbord'; did you mean"),
    ],
)
def test_other_name_is_refused_with_the_one_that_was_meant_or_all(kind: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        components.check_name(kind, name)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("src/nets/small.py:Net", "nets.small:Net"),
        ("nets.small.Net", "nets.small:Net"),
        ("nets/small::Net", "nets.small:Net"),
        ("./src/nets/small.py", "nets.small:<object>"),
        ("src/nets:Net", "nets:Net"),
        ("nets.small:Net()", "nets.small:Net"),
        ("nets.small: Net(10)", "nets.small:Net"),
        ("nets.small:make-net", "nets.small:<object>"),
        ("{folder}/src/nets/small.py:Net", "nets.small:Net"),
        ("src/nets/small.py::Net::make", "nets.small:Net.make"),
        ("src.nets.small.Net.make", "nets.small:Net.make"),
        ("src/nets/__init__.py:Net", "nets:Net"),
        ("nets", "nets:<object>"),
    ],
)
def test_own_object_in_another_form_is_refused_with_the_right_one(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/nets").mkdir(parents=True)
    for file in ("__init__.py", "small.py"):
        (tmp_path / "src/nets" / file).touch()
    with pytest.raises(ValueError, match=rf"did you mean {re.escape(meant)}\?"):
        components.check_name("network", name.format(folder=tmp_path))


def test_file_that_can_not_be_imported_is_to_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/my-net.py").touch()
    for name in ("my-net:Net", "src/my-net.py:Net", "my-net"):
        with pytest.raises(ValueError, match=r"; rename src/my-net\.py: what is imported"):
            components.check_name("network", name)


@pytest.mark.parametrize("name", ["x" * 300 + ".Net", "..:Net", ":", "(", "/", "", "a\0b.Net"])
def test_name_that_no_file_can_have_is_refused_as_any_other(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be cnn, resnet, .*; got "):
        components.check_name("network", name)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("augmentation", "torchvision.transforms.v2.Normalize", "Normalize is not needed: images stay uint8"),
        ("augmentation", "v2.MixUp", "MixUp blends labels too"),
        ("schedule", "torch.optim.lr_scheduler.LambdaLR", "LambdaLR needs a function"),
        ("optimizer", "optim.Adam", "did you mean Adam?"),
    ],
)
def test_class_with_its_library_before_it_is_answered_as_the_class_is(kind: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        components.check_name(kind, name)


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("optimizer", "torch.optim"),
        ("schedule", "torch.optim.lr_scheduler"),
        ("augmentation", "torchvision.transforms.v2"),
        ("sampler", "optuna.samplers"),
        ("pruner", "optuna.pruners"),
    ],
)
def test_names_of_a_library_are_classes_of_it(kind: str, library: str) -> None:
    names = components.library_names(kind)
    assert len(names) > 5
    for name in names:
        assert isinstance(components.load(kind, name), type), f"{library} has no class {name}"


@pytest.mark.parametrize("kind", KINDS)
def test_component_is_one_file_with_a_docstring_for_each_parameter(kind: str) -> None:
    found = components.declared(kind)
    files = len({one.__module__ for one in found.values()})
    assert files == len(found) if kind != "metric" else 1 < files <= len(found)  # of metrics a file is a family
    for name, component in found.items():
        assert name == component.NAME
        assert component.__doc__
        for field, info in component.model_fields.items():
            assert field == "chosen" or info.description, f"{name}.{field}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train: {momentum: 1.5}", "train.momentum: must be less than 1; got 1.5"),  # although adamw does not read it
        ("train: {optimizer: 3}", "train.optimizer: must be a name, or a mapping of name and arguments; got 3"),
        (
            "train: {optimizer: {nam: sgd}}",
            "train.optimizer: must be a name, or a mapping of name and arguments; got {'",
        ),
        (
            "train: {loss: {name: focal, arguments: 3}}",
            "train.loss: arguments must be a mapping of names to values; got",
        ),
        ("train: {loss: {name: focal, arguments: {gama: 3}}}", "train.loss.arguments.gama: is no argument of focal"),
        (
            "search: {metric: {name: top_k, k: 3}}",
            "search.metric: must be a name, or a mapping of name and arguments; got {'name': 'top_k', 'k': 3}:"
            " write {name: top_k, arguments: {k: 3}}",
        ),
        (
            "search: {metric: {recall_at_precision: {class_name: cat, precision: 0.8}}}",
            "search.metric: must be a name, or a mapping of name and arguments; got {'recall_at_precision':"
            " {'class_name': 'cat', 'precision': 0.8}}: write {name: recall_at_precision,"
            ' arguments: {class_name: "cat", precision: 0.8}}',
        ),
        (
            "gate: {metric: [auroc]}",
            "gate.metric: must be a name, or a mapping of name and arguments; got ['auroc']: write auroc",
        ),
        ("evaluate: {metrics: auroc}", "evaluate.metrics: must be a valid list; got 'auroc': write [auroc]"),
        (
            "train: {augment: cutput}",
            "train.augment.0: must be color_jitter, cutmix, cutout, erasing, flip, mixup, rand_augment, random",
        ),
        (
            "search: {pruner: hyperband, deterministic: true}",
            "search: deterministic does not go with a pruner that looks",
        ),
    ],
)
def test_component_with_a_problem_is_refused_in_params(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    (line,) = str(caught.value).splitlines()[1:]
    assert line.strip().startswith(problem)


def test_arguments_are_kept_and_shown_by_their_dotted_names() -> None:
    params = parse("train: {optimizer: {name: NAdam, arguments: {eps: 1.0e-6}}, augment: [{name: GaussianBlur}, flip]}")
    flat = params.recipe().flat()
    assert flat["train.optimizer"] == "NAdam"
    assert flat["train.optimizer.arguments.eps"] == 1e-6
    assert flat["train.augment"] == "GaussianBlur, flip"


# What somebody would add: one file of each kind, which notes that it was used.
NOTE = 'open("used.txt", "a").write("{kind}\\n")'
FILES = {
    "network": (
        "models/networks/mlp.py",
        '''
        """A perceptron."""

        from typing import TYPE_CHECKING, ClassVar

        from pydantic import Field

        from podium.models.networks import ImageSpec, Network

        if TYPE_CHECKING:
            from torch import nn


        class Mlp(Network):
            """Two linear layers."""

            NAME: ClassVar[str] = "mlp"

            units: int = Field(default=16, ge=1, le=64)
            """Units of the hidden layer."""

            def build(self, images: ImageSpec) -> "nn.Module":
                """Both."""
                from torch import nn

                NOTE
                channels, height, width = images.shape
                layers = [nn.Flatten(), nn.Linear(channels * height * width, self.units), nn.ReLU()]
                return nn.Sequential(*layers, nn.Linear(self.units, images.classes))
        ''',
    ),
    "loss": (
        "training/losses/margin.py",
        '''
        """A margin."""

        from typing import ClassVar

        from pydantic import Field

        from podium.training.losses import Loss


        class Margin(Loss):
            """torch's multi margin loss."""

            NAME: ClassVar[str] = "margin"

            margin: float = Field(default=1.0, gt=0, le=5)
            """Wanted distance."""

            def build(self, weights):
                """Torch's."""
                import torch.nn.functional as F

                NOTE
                return lambda logits, targets: F.multi_margin_loss(logits, targets, margin=self.margin)
        ''',
    ),
    "optimizer": (
        "training/optimizers/rprop.py",
        '''
        """Signs of gradients."""

        from typing import ClassVar

        from pydantic import Field

        from podium.training.optimizers import Optimizer, with_decay


        class Sign(Optimizer):
            """torch's RMSprop."""

            NAME: ClassVar[str] = "rms"

            smoothing: float = Field(default=0.9, ge=0, lt=1)
            """Of the squares."""

            def build(self, groups, hidden, rate):
                """Torch's."""
                import torch

                NOTE
                return torch.optim.RMSprop(with_decay(groups, None), lr=rate, alpha=self.smoothing)
        ''',
    ),
    "schedule": (
        "training/schedules/stairs.py",
        '''
        """Stairs."""

        from typing import ClassVar

        from pydantic import Field

        from podium.training.schedules import Schedule


        class Stairs(Schedule):
            """Half as much every so many epochs."""

            NAME: ClassVar[str] = "stairs"

            stair: int = Field(default=1, ge=1)
            """Epochs of a stair."""

            def factor(self, step, total, epoch, epochs):
                """A power of a half."""
                NOTE
                return 0.5 ** (epoch // self.stair)
        ''',
    ),
    "augmentation": (
        "training/augmentations/invert.py",
        '''
        """Negatives."""

        from typing import ClassVar

        from podium.training.augmentations import Augmentation


        class Invert(Augmentation):
            """Every image is inverted."""

            NAME: ClassVar[str] = "invert"

            invert: bool = True
            """Whether it is."""

            def apply(self, images, draw):
                """255 minus each pixel."""
                NOTE
                return 255 - images
        ''',
    ),
    "sampler": (
        "tuning/samplers/halton.py",
        '''
        """Quasi-random search."""

        from typing import ClassVar

        from podium.tuning.samplers import Sampler


        class Again(Sampler):
            """Random draws from a seed of its own."""

            NAME: ClassVar[str] = "again"

            offset: int = 7
            """What is added to the seed."""

            def build(self, seed):
                """Optuna's."""
                from optuna.samplers import RandomSampler

                NOTE
                return RandomSampler(seed=seed + self.offset)
        ''',
    ),
    "pruner": (
        "tuning/pruners/floor.py",
        '''
        """A floor."""

        from typing import ClassVar

        from podium.tuning.pruners import Pruner


        class Floor(Pruner):
            """What is below a value is stopped."""

            NAME: ClassVar[str] = "floor"

            floor: float = 0.01
            """The value."""

            def build(self, longest):
                """Optuna's."""
                from optuna.pruners import ThresholdPruner

                NOTE
                return ThresholdPruner(lower=self.floor)
        ''',
    ),
    "metric": (
        "metrics/scores/worst_recall.py",
        '''
        """The class that fares worst."""

        from typing import ClassVar

        from podium.metrics.scores import Metric


        class WorstRecall(Metric):
            """The smallest recall."""

            NAME: ClassVar[str] = "worst_recall"

            def value(self, scored):
                """0 to 1."""
                NOTE
                right = scored.predicted == scored.labels
                return min(float(right[scored.labels == one].float().mean()) for one in scored.labels.unique())
        ''',
    ),
    "source": (
        "data/sources/again.py",
        '''
        """The digits by another name."""

        from typing import ClassVar

        from podium.data.sources import ImageSource, read


        class Again(ImageSource):
            """Real handwriting."""

            NAME: ClassVar[str] = "again"

            def read(self, params, *, follow_links):
                """scikit-learn's."""
                NOTE
                return read(params.model_copy(update={"source": "digits"}))
        ''',
    ),
    "tracker": (
        "tracking/trackers/counter.py",
        '''
        """Counts epochs."""

        from typing import ClassVar

        from pydantic import Field

        from podium.tracking.trackers import Tracker


        class Counter(Tracker):
            """A count."""

            NAME: ClassVar[str] = "counter"

            count_from: int = Field(default=0, ge=0)
            """Where it begins."""

            def start(self, run):
                """Begin."""
                NOTE
                self.__dict__["count"] = self.count_from

            def log(self, run, values, epoch):
                """One more."""
                self.__dict__["count"] += 1

            def end(self, run, state, value):
                """Print it."""
                print(run.name, self.__dict__["count"], state)
        ''',
    ),
    "gate rule": (
        "promotion/rules/min_images.py",
        '''
        """Enough images."""

        from typing import ClassVar

        from pydantic import Field

        from podium.promotion.rules import Finding, Rule


        class MinImages(Rule):
            """The test set has enough images."""

            name: ClassVar = "images"
            order: ClassVar = 45

            min_images: int = Field(default=1, ge=1)
            """The test set must have so many images."""

            def judge(self, evidence):
                """Applies always."""
                NOTE
                return Finding(f"at least {self.min_images}", str(evidence.images), evidence.images >= self.min_images)
        ''',
    ),
    "command": (
        "commands/hello.py",
        '''
        """`podium hello NAME`."""

        NAME = "hello"
        HELP = "greet"
        ORDER = 500
        EXAMPLE = "podium hello you", "greet you"
        EXAMPLES = "  podium hello you    greet you"


        def add_arguments(parser):
            """Whom."""
            parser.add_argument("name")


        def run(arguments):
            """Greet."""
            NOTE
            print("hello", arguments.name)
        ''',
    ),
}
OTHERS = {
    "source": (
        """
from pathlib import Path
from podium.config.params import load
from podium.data.sources import read

print(len(read(load(Path("params.yaml")).prepare).items))
""",
        "prepare: {source: again}",
        "1797",
    ),
    "tracker": (
        """
from pathlib import Path
from podium.config.params import load
from podium.tracking.also import Also
from podium.tracking.trackers import TrackedRun

also = Also(load(Path("params.yaml")).tracking)
also.tell(TrackedRun("train", "", "one", Path()), [{"epoch": 1, "seconds": 0.1, "val_loss": 0.5}], "COMPLETE")
also.close()
""",
        "tracking: {also: [counter], count_from: 3}",
        "one 4 COMPLETE",
    ),
    "gate rule": (
        """
from pathlib import Path
from types import SimpleNamespace
from podium.config.params import load
from podium.promotion.rules import find_rules

gate = load(Path("params.yaml")).gate
print(*(rule.of(gate).judge(SimpleNamespace(images=5)).passed for rule in find_rules() if rule.name == "images"))
""",
        "gate: {min_images: 6}",
        "False",
    ),
    "command": ("from podium import cli; cli.main(['hello', 'you'])", "", "hello you"),
}
"""What uses each kind that no search goes through: code, params.yaml, and what it prints last."""
USED = """
model: {name: mlp, units: 8}
train: {loss: margin, margin: 0.5, optimizer: rms, smoothing: 0.8, schedule: stairs, stair: 2, invert: true, epochs: 2,
  batch_size: 16}
search:
  sampler: again
  offset: 3
  pruner: floor
  floor: 0.0
  metric: worst_recall
  n_trials: 2
  space: {model.units: {low: 4, high: 8}, train.smoothing: {low: 0.5, high: 0.9}, train.margin: {choices: [0.5, 1.0]}}
runtime: {engine: inline}
"""
SEARCH = """
import json
from pathlib import Path

import torch

from podium.closure import code_of
from podium.config import reference_page, params
from podium.tuning.driver import Driver
from podium.tuning.pools.inline import InlinePool
from podium.tuning.storage import open_storage
from podium.tuning.study import identity, name_of, open_study
from podium.tuning.work import TrialData


class Silent:
    def running(self, trial, history): pass
    def ended(self, trial): pass
    def note(self, line): print(line)


torch.set_num_threads(1)
found = params.load(Path("params.yaml"))
trial_data = TrialData.load(Path("prepared"), torch.device("cpu"))
facts = identity(found.search, found.recipe(), "data")
study = open_study(open_storage(Path("optuna.journal")), name_of("search", facts), found.search, facts)
pool = InlinePool(lambda: trial_data)
Driver(study, pool, found.search, found.runtime, found.recipe(), Path("checkpoints"), [Silent()]).run()
pool.close()
print(json.dumps({
    "states": [trial.state.name for trial in study.trials],
    "recipes": [trial.user_attrs["recipe"] for trial in study.trials],
    "metrics": sorted(study.trials[0].user_attrs["history"][0]),
    "identity": facts,
    "page": reference_page.page(),
}))
"""
NAME = """
from pathlib import Path
from podium.config import params
from podium.tuning.study import identity, name_of

found = params.load(Path("params.yaml"))
print(name_of("search", identity(found.search, found.recipe(), "data")))
"""


class Copy:
    """A copy of src/podium in a folder, in which code runs in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def package(self) -> Path:
        return self.folder / "src" / "podium"

    def add(self, kind: str) -> None:
        """Add the component file of `kind`; nothing else changes."""
        name, text = FILES[kind]
        path = self.package / name
        assert not path.exists()
        note = NOTE.format(kind=kind)
        path.write_text(dedent(text).lstrip("\n").replace("NOTE", note), encoding="utf-8")

    def edit(self, name: str, before: str, after: str) -> None:
        text = (self.package / name).read_text(encoding="utf-8")
        assert before in text
        (self.package / name).write_text(text.replace(before, after), encoding="utf-8")

    def run(self, code: str, params: str) -> str:
        """What `code` prints last."""
        (self.folder / "params.yaml").write_text(params, encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], set[str]]:
    """What a search with a new component of every kind gave, and which of the new files it went through."""
    copy = Copy(tmp_path_factory.mktemp("added"))
    tiny.prepare(copy.folder / "prepared")
    for kind in KINDS:
        copy.add(kind)
    found = json.loads(copy.run(SEARCH, USED))
    return found, set((copy.folder / "used.txt").read_text(encoding="utf-8").split())


def test_every_kind_has_a_file_in_this_test() -> None:
    assert set(components.KINDS) - {"program"} | {"gate rule", "command"} == set(FILES) == {*KINDS, *OTHERS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_added_file_of_a_kind_that_no_search_goes_through_is_used_too(kind: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.add(kind)
    code, params, last = OTHERS[kind]
    assert copy.run(code, params) == last
    assert (tmp_path / "used.txt").read_text(encoding="utf-8") == f"{kind}\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_added_file_is_used_and_nothing_else_had_to_change(
    searched: tuple[dict[str, Any], set[str]], kind: str
) -> None:
    found, used = searched
    assert kind in used
    assert found["states"] == ["COMPLETE", "COMPLETE"]


@pytest.mark.slow
def test_added_parameters_are_searched_recorded_and_on_the_reference_page(
    searched: tuple[dict[str, Any], set[str]],
) -> None:
    found, _ = searched
    first, second = found["recipes"]
    for recipe in (first, second):
        assert recipe["model.units"] in range(4, 9)
        assert 0.5 <= recipe["train.smoothing"] <= 0.9
        assert recipe["train.margin"] in (0.5, 1.0)
        assert (recipe["train.stair"], recipe["train.invert"]) == (2, True)
    assert first["train.smoothing"] != second["train.smoothing"]
    assert "val_worst_recall" in found["metrics"]
    assert {"network mlp", "loss margin", "optimizer rms", "augmentation invert"} <= set(found["identity"]["code"])
    assert found["identity"]["search"]["offset"] == 3
    for words in ("units", "Units of the hidden layer.", "Wanted distance.", "Epochs of a stair."):
        assert words in found["page"]


@pytest.mark.slow
def test_study_is_another_one_only_where_code_that_it_reaches_has_changed(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    params = "search: {space: {train.optimizer: {choices: [sgd, adamw]}, train.shift: {low: 0, high: 2}}}\n"
    names = [copy.run(NAME, params)]
    for kind in ("network", "optimizer", "loss", "schedule", "sampler", "pruner", "metric"):
        copy.add(kind)
    names.append(copy.run(NAME, params))
    copy.edit("models/networks/resnet.py", "FIRST_SIDE = 16", "FIRST_SIDE = 8")  # not reached
    copy.edit("training/optimizers/muon.py", "default=0.9", "default=0.8")
    copy.edit("models/networks/cnn.py", '"""The plain network', '"""This is the plain network')  # a comment
    names.append(copy.run(NAME, params))
    assert len(set(names)) == 1
    for name, before, after in (
        ("models/networks/cnn.py", "LARGEST_UNPOOLED = 6", "LARGEST_UNPOOLED = 5"),
        ("training/optimizers/sgd.py", "self.momentum > 0", "self.momentum > 0.1"),
        ("training/augmentations/shift.py", "self.shift + 1", "self.shift + 2"),
        ("training/validation.py", "EVALUATION_BATCH = 1024", "EVALUATION_BATCH = 512"),
    ):
        copy.edit(name, before, after)
        names.append(copy.run(NAME, params))
    assert len(set(names)) == 5
