from pathlib import Path
from typing import Any

import pytest

from podium.config.params import Params, load, parse
from podium.errors import InputError

ROOT = Path(__file__).parents[1]


def problems(text: str) -> list[str]:
    """What `parse` has against `text`, a line a problem."""
    with pytest.raises(InputError, match=r"params\.yaml has") as caught:
        parse(text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("serch: {}", "serch: is not a parameter; did you mean search?"),
        ("search: {n_trial: 3}", "search.n_trial: is not a parameter; did you mean search.n_trials?"),
        ("model: {epochs: 3}", "model.epochs: is not a parameter; did you mean train.epochs?"),
        ("learning_rate: 0.1", "learning_rate: is not a parameter; did you mean train.learning_rate?"),
        ("register: {zzz: 1}", "register.zzz: is not a parameter; available: register.name"),
        (
            "1: 2",
            "1: is not a parameter; available: prepare, doctor, model, train, search, select, retrain, evaluate,",
        ),
        ("train:", "train: must be a mapping of parameters; got None"),
        ("train: {batch_size: 10.0}", "train.batch_size: must be a valid integer; got 10.0"),
        ("train: {batch_size: '64'}", "train.batch_size: must be a valid integer; got '64'"),
        ("train: {flip: 1}", "train.flip: must be a valid boolean; got 1"),
        ("train: {learning_rate: .nan}", "train.learning_rate: must be a finite number; got nan"),
        ("search: {n_trials: 0}", "search.n_trials: must be greater than or equal to 1; got 0"),
        ("search: {n_trials: true}", "search.n_trials: must be a valid integer; got True"),
        ("search: {timeout: -1}", "search.timeout: must be greater than 0; got -1"),
        ("runtime: {device: gpu}", "runtime.device: must be 'auto', 'cpu', 'cuda' or 'mps'; got 'gpu'"),
        (
            "prepare: {source: torch}",
            "prepare.source: must be csv:<name>, digits, folder:<name>, torchvision:<name> or your own",
        ),
        ("prepare: {size: 0}", "prepare.size: must be a side of 1 to 4096 pixels, [height, width] or null; got 0"),
        (
            "prepare: {size: [8, 8, 8]}",
            "prepare.size: must be a side of 1 to 4096 pixels, [height, width] or null; got",
        ),
        ("prepare: {background: grue}", "prepare.background: must be the name of a colour or #rrggbb; got 'grue'"),
        (
            "prepare: {source: 'folder:photos/new'}",
            "prepare: root must be the folder of 'folder:photos/new' or one above it, so that DVC sees images that are"
            " added; got 'data/raw'. Write `root: photos/new`",
        ),
        ("doctor: {corrupt: keep}", "doctor.corrupt: must be 'refuse' or 'skip'; got 'keep'"),
        ("doctor: {near_leak: keep}", "doctor.near_leak: is not a parameter; did you mean doctor.near_leaks?"),
        ("prepare: {root: ''}", "prepare.root: must have at least 1 character; got ''"),
        ("prepare: {val_fraction: 0.6, test_fraction: 0.5}", "prepare: val_fraction + test_fraction must be below 1"),
        ("tracking: {uri: 'postgresql://h/d?user=u&password=s'}", "tracking.uri: must hold no password, for this file"),
        ("register: {name: a b}", "register.name: must be at most 100 letters, digits, `.`, `_` and `-`, a letter"),
        (
            "model: {name: resnet18}",
            "model.name: must be cnn, resnet, timm:<name>, torchvision:<name> or your own as module:object; got"
            " 'resnet18'; did you mean torchvision:resnet18?",
        ),
        ("search: {overrides: {train.epoch: 3}}", "search.overrides.train.epoch: is not a field of the model or the"),
        (
            "search: {overrides: {train.data_fraction: 0.0}}",
            "search.overrides.train.data_fraction: must be greater than 0; got 0.0",
        ),
        (
            "search: {overrides: {train.epochs: 3}, space: {train.epochs: {low: 1, high: 2}}}",
            "search.overrides.train.epochs: is a dimension of search.space too",
        ),
        ("search: {fraction: {train.epochs: 3}}", "search.fraction: is now called search.overrides"),
        ("select: {whole: false}", "select.whole: is now called select.full_fidelity"),
        ("train: {share: 0.5}", "train.share: is now called train.data_fraction"),
        ("train: {share_epochs: 1}", "train.share_epochs: is now called train.data_fraction_epochs"),
        (
            "search: {overrides: {train.share: 0.5}}",
            "search.overrides.train.share: is not a field of the model or the training; it is now called"
            " train.data_fraction",
        ),
        (
            "search: {overrides: {share: 1}}",
            "search.overrides.share: is not a field of the model or the training; it is now",
        ),
        ("share: 1", "share: is not a parameter; it is now called train.data_fraction"),
        ("search: {n_jobs: 4}", "search.n_jobs: is not a parameter; did you mean runtime.workers?"),
        (
            "search: {direction: maximize}",
            "search.direction: is not a parameter; it follows from search.metric",
        ),
        ("train: {lr: 0.1}", "train.lr: is not a parameter; did you mean train.learning_rate?"),
        ("search: {space: 3}", "search.space: must be a mapping of parameters; got 3"),
        ("evaluate: {abstain: 0.01}", "evaluate.abstain: its threshold is chosen on the validation images"),
        ("evaluate: {abstain: 1.0}", "evaluate.abstain: must be less than 1; got 1.0"),
        ("retrain: {members: 2}", "retrain.members: only networks with model.members can be several, which cnn can't"),
        (
            "retrain: {members: 2}\nmodel: {name: resnet}\nsearch: {limits: {size_mb: 3}}",
            "retrain.members: the search counts size_mb for one network, and the model would have 2: set it to 1",
        ),
        (
            "retrain: {members: 64}\nmodel: {name: resnet}\ntrain: {epochs: 200}",
            "retrain.members: train.epochs times the members must be at most 10000; got 200 times 64",
        ),
        (
            "retrain: {members: 3}\nmodel: {name: resnet}\nsearch: {space: {model.members: {choices: [1, 32]}}}",
            "retrain.members: model.members times the members must be at most 64; got 32 times 3",
        ),
        (
            "retrain: {members: 2}\nmodel: {name: resnet}\ntrain: {schedule: 'timm:step'}",
            "retrain.members: there are 2 times as many epochs, by which the schedule timm:step may count",
        ),
        (
            "retrain: {members: 2}\nmodel: {name: resnet}\ntrain: {program: 'mine:train'}",
            "retrain.members: mine:train trains by itself: set it to 1",
        ),
        ("retrain: {images: val}", "retrain.images: must be 'train_and_val' or 'train'; got 'val'"),
        ("gate: {margin: 1.0}", "gate.margin: must be below 1, the width of the range of accuracy (0 to 1)"),
        ("gate: {margin: 2.5, metric: mcc}", "gate.margin: must be below 2, the width of the range of mcc (-1 to 1)"),
        (
            "gate: {margin: 2.5}\nsearch: {metric: brier}",
            "gate.margin: must be below 2, the width of the range of brier",
        ),
        ("gate: {margin: .inf, metric: loss}", "gate.margin: must be a finite number; got inf"),
    ],
)
def test_params_with_a_problem_are_refused_with_path_rule_and_value(text: str, problem: str) -> None:
    (line,) = problems(text)

    assert line.startswith(problem)


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        (
            "train.lr: {low: 1, high: 2}",
            "train.lr: is not a field of the model or the training; did you mean train.learn",
        ),
        ("train.share: {low: 0.1, high: 0.5}", "train.share: is not a field of the model or the training; it is now"),
        (
            "train.ema: {choices: [0.9], when: {train.share_epochs: [1]}}",
            "train.ema.when: train.share_epochs: is not another field of the model or the training; it is now called",
        ),
        ("learning_rate: {low: 0.1, high: 1}", "learning_rate: is not a field of the model or the training; did you"),
        ("train.dropout: {low: 0.1, high: 1}", "train.dropout: is not a field of the model or the training; did you"),
        ("3: {low: 0.1, high: 1}", "3: must be a valid string; got 3"),
        ("train.momentum: {low: 0.5, high: 1.5}", "train.momentum: must be less than 1; got 1.5"),
        ("train.learning_rate: {low: 0.0, high: 99}", "train.learning_rate: must be greater than 0; got 0.0"),
        ("train.learning_rate: {low: a, high: 1}", "train.learning_rate.low: must be a finite number; got 'a'"),
        ("train.learning_rate: {low: .inf, high: 1}", "train.learning_rate.low: must be a finite number; got inf"),
        (
            "train.learning_rate: {chocies: [1]}",
            "train.learning_rate.chocies: is not a parameter; did you mean choices",
        ),
        ("train.learning_rate: {choices: [[1]]}", "train.learning_rate.choices.0: must be text, a finite number, true"),
        ("train.optimizer: {choices: [adam]}", "train.optimizer: must be adamw, muon, sgd, timm:<name>, a class of"),
        ("train.batch_size: {choices: [16, 0]}", "train.batch_size: must be greater than or equal to 1; got 0"),
        ("train.flip: {choices: [0, 1]}", "train.flip: must be a valid boolean; got 0"),
    ],
)
def test_space_with_a_problem_is_refused_with_path_rule_and_value(dimension: str, problem: str) -> None:
    lines = problems(f"search: {{space: {{{dimension}}}}}")

    assert lines[0].startswith(f"search.space.{problem}")


def test_params_with_many_problems_are_refused_with_all_of_them_at_once() -> None:
    lines = problems(
        """
        train: {batch_size: 0, rate: 0.1}
        search:
          sampler: grid
          space:
            train.epochs: {choices: []}
            train.lr: {low: 1}
            train.momentum: {low: 0.1, high: 1.0}
        """
    )

    assert [line.split(": ")[0] for line in lines] == [
        "train.batch_size",
        "train.rate",
        "search.sampler",
        "search.space.train.epochs",
        "search.space.train.lr",
        "search.space.train.lr",
        "search.space.train.momentum",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"params\.yaml is not YAML: .* \(line 1, column 5\)"),
        (
            "train: {}\ntrain: {}",
            r"is not YAML: train is there twice, in line 1 and again in line 2: move what it",
        ),
        (
            "train:\n  epochs: 3\n  epochs: 4",
            r"train\.epochs is there twice, in line 2 and again in line 3: delete",
        ),
        ('a"b: 1\na"b: 2', r'a"b is there twice, in line 1 and again in line 2: delete one'),
        ("null: 1\nnull: 2", r"not YAML: null is there twice, in line 1 and again in line 2"),
        ("x: [1, {k: 1,\n k: {}}]", r"x\.1\.k is there twice, in line 1 and again in line 2: move"),
        ("[1]", "params.yaml must hold sections such as `search:`; got list"),
    ],
)
def test_params_that_are_no_mapping_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "evaluate: {abstain: 0.01}\nretrain: {images: train}",
        "retrain: {images: train}",
        "gate: {margin: 1.5, metric: mcc}",
        "gate: {margin: 50, metric: loss}",
        "gate: {margin: 5, metric: {name: cost, arguments: {costs: {a: {b: 9}}}}}",
    ],
)
def test_params_that_agree_are_taken(text: str) -> None:
    assert isinstance(parse(text), Params)


def test_empty_params_are_the_defaults() -> None:
    assert parse("") == Params()


def test_number_with_an_exponent_and_no_point_is_a_number() -> None:
    assert parse("train: {learning_rate: 1e-3}").train.learning_rate == 0.001


def test_params_file_that_is_missing_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml can't be read: .*Run in the project's root"):
        load(tmp_path / "nowhere.yaml")


def test_params_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match=r"params\.yaml can't be read"):
        load(tmp_path / "params.yaml")


def test_params_can_not_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params().train.epochs = 3


def test_shipped_params_are_the_defaults_but_for_the_space() -> None:
    shipped, defaults = load(ROOT / "params.yaml"), Params()

    assert shipped.search.space
    assert shipped.recipe().flat() == _off() | defaults.recipe().flat()
    assert shipped.search.flat("") == defaults.search.flat("")
    assert _without_components(shipped) == _without_components(defaults)


def test_recipe_of_the_params_is_model_and_train() -> None:
    params = parse("{model: {width: 4}, train: {epochs: 2}}")

    assert params.recipe().flat()["model.width"] == 4
    assert params.recipe().flat()["train.epochs"] == 2


def _off() -> dict[str, Any]:
    """Augmentations that params.yaml shows as off."""
    off = {"train.shift": 0, "train.flip": False, "train.cutout": 0}
    strengths = ("mixup", "cutmix", "random_resized_crop", "rotation", "color_jitter", "erasing")
    return off | {f"train.{name}": 0.0 for name in (*strengths, "trivial_augment", "rand_augment")}


def _without_space(params: Params) -> dict[str, Any]:
    return {name: value for name, value in params.search.flat("").items() if not name.startswith("space.")}


def _without_components(params: Params) -> dict[str, Any]:
    """The sections that name no component."""
    return {name: fields for name, fields in params.model_dump().items() if name not in ("model", "train", "search")}
