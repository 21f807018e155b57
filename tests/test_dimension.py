import pytest
from pydantic import ValidationError

from podium.config.params import parse
from podium.config.space import Dimension, Value, field_problems
from podium.errors import InputError


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "must have low and high, or choices"),
        ({"low": 1}, "must have low and high, or choices"),
        ({"low": 2, "high": 1}, "low must be at most high; got 2 > 1"),
        ({"low": 0, "high": 1, "log": True}, "low must be above 0 on a logarithmic scale; got 0"),
        ({"low": 1, "high": 5, "log": True, "step": 1}, "takes either log or step, not both"),
        ({"low": 1, "high": 5, "step": 0}, "step must be above 0; got 0"),
        ({"low": 1, "high": 6, "step": 2}, "high - low must be a multiple of step; got 6 - 1 and 2"),
        ({"low": 0.0, "high": 1.0, "step": 0.3}, "high - low must be a multiple of step"),
        ({"choices": []}, r"choices must name at least one value; got \[\]"),
        ({"choices": [1, 2, 1]}, r"choices must differ from each other; got \[1, 2, 1\]"),
        ({"choices": [1, 1.0]}, r"choices must differ from each other; got \[1, 1.0\]"),
        ({"choices": [1], "low": 1, "high": 2}, "takes either choices or low and high, not both"),
        ({"choices": [1], "log": True}, "takes either choices or low and high, not both"),
    ],
)
def test_dimension_of_a_wrong_form_is_refused(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Dimension.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"low": 1, "high": 1},
        {"low": 0.0, "high": 0.3, "step": 0.1},
        {"low": 1e-5, "high": 1e-1, "log": True},
        {"choices": [1, True, "1"]},
        {"choices": [0.5]},
    ],
)
def test_dimension_of_a_right_form_is_accepted(fields: dict[str, object]) -> None:
    assert Dimension.model_validate(fields).values()


@pytest.mark.parametrize(
    ("name", "dimension", "problem"),
    [
        (
            "train.flip",
            Dimension(low=0, high=1),
            r"train.flip: must be choices out of \[True, False\]; got low and high",
        ),
        (
            "train.optimizer",
            Dimension(low=0, high=1),
            "train.optimizer: must be choices, each a name; got low and high",
        ),
        ("train.batch_size", Dimension(low=1.5, high=9), "train.batch_size: must be a valid integer; got 1.5"),
        ("train.batch_size", Dimension(low=1, high=9, step=0.5), "train.batch_size: step must be a whole number"),
        ("train.shift", Dimension(low=0, high=65), "train.shift: must be less than or equal to 64; got 65"),
        ("train.shift", Dimension(choices=[True]), "train.shift: must be a valid integer; got True"),
        (
            "trian.shift",
            Dimension(choices=[1]),
            "trian.shift: is not a field of the model or the training; did you mean",
        ),
    ],
)
def test_dimension_that_does_not_fit_its_field_is_a_problem(name: str, dimension: Dimension, problem: str) -> None:
    (line,) = dimension.problems(name, {name: dimension})

    assert line.startswith(problem.replace("\\", ""))


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        (
            {"train.optimiser": ["sgd"]},
            "is not another field of the model or the training; did you mean train.optimizer?",
        ),
        ({"train.momentum": [0.5]}, "is not another field of the model or the training"),
        ({"train.optimizer": []}, "must name at least one value; got []"),
        (
            {"train.optimizer": ["adam"]},
            "must be adamw, muon, sgd, timm:<name>, a class of torch.optim such as ASGD or your own as module:object;",
        ),
        ({"train.schedule": ["one_cycle"]}, "must name values that search.space.train.schedule has; got 'one_cycle'"),
        ({"train.epochs": [9]}, "must name values that search.space.train.epochs has; got 9"),
        (
            {"train.warmup": [0.5]},
            "has a `when` of its own; a condition may only look at a dimension that always exists",
        ),
    ],
)
def test_condition_that_can_not_be_met_is_a_problem(when: dict[str, list[Value]], problem: str) -> None:
    momentum = Dimension(low=0.0, high=0.9, when=when)
    space = {
        "train.momentum": momentum,
        "train.schedule": Dimension(choices=["constant", "cosine"]),
        "train.epochs": Dimension(low=2, high=8),
        "train.warmup": Dimension(low=0.0, high=1.0, when={"train.schedule": ["cosine"]}),
    }

    (line,) = momentum.problems("train.momentum", space)

    assert line.startswith(f"train.momentum.when: {next(iter(when))}: {problem}")


@pytest.mark.parametrize("when", [{"train.optimizer": ["sgd"]}, {"train.epochs": [2, 8]}, {"train.flip": [True]}])
def test_condition_that_can_be_met_is_accepted(when: dict[str, list[Value]]) -> None:
    momentum = Dimension(low=0.0, high=0.9, when=when)

    assert momentum.problems("train.momentum", {"train.epochs": Dimension(low=2, high=8)}) == []


@pytest.mark.parametrize(
    ("name", "value", "problems"),
    [
        ("train.learning_rate", 1, []),
        ("train.learning_rate", 0, ["must be greater than 0; got 0"]),
        ("model.width", "wide", ["must be a valid integer; got 'wide'"]),
    ],
)
def test_value_of_a_field_is_checked_by_the_fields_own_bounds(name: str, value: Value, problems: list[str]) -> None:
    assert field_problems(name, value) == problems


@pytest.mark.parametrize(
    ("augment", "space", "words"),
    [
        ("['my_a:f', 'my_b:f']", "{}", ""),
        ("['my_a:f', 'my_b:g']", "{train.augment.f.arguments.p: {low: 0.1, high: 0.5}}", ""),
        ("['my_a:f', 'my_b:f']", "{train.augment.f.arguments.p: {low: 0.1, high: 0.5}}",
         "search.space.train.augment.f.arguments.p: train.augment has several of this name"),
        ("['my_a:f', {name: 'my_b:f', arguments: {p: 1}}]", "{}",
         "train: augment lists my_a:f and my_b:f, whose arguments would both be train.augment.f.arguments"),
        ("[{name: GaussianBlur, arguments: {kernel_size: 3}}, {name: GaussianBlur, arguments: {kernel_size: 5}}]", "{}",
         "train: augment lists GaussianBlur and GaussianBlur"),
    ],
)  # fmt: skip
def test_argument_of_two_augmentations_of_one_name_is_refused(augment: str, space: str, words: str) -> None:
    text = f"train: {{augment: {augment}}}\nsearch: {{space: {space}}}"
    if not words:
        parse(text)
        return
    with pytest.raises(InputError) as caught:
        parse(text)
    assert words in str(caught.value)
