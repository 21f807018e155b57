import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from podium.config.problems import did_you_mean, rule, syntax

KNOWN = ["model", "train", "search", "model.width", "train.epochs", "train.optimizer", "search.n_trials"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("train.optimiser", "did you mean train.optimizer?"),
        ("search.epochs", "did you mean train.epochs?"),
        ("width", "did you mean model.width?"),
        ("trian", "did you mean train?"),
        ("train.zzz", "known here: train.epochs, train.optimizer"),
        ("zzz", "known here: model, train, search"),
        ("zzz.zzz", f"known here: {', '.join(KNOWN)}"),
    ],
)
def test_unknown_name_gets_the_one_that_was_meant_or_those_of_its_section(name: str, ending: str) -> None:
    assert did_you_mean(name, KNOWN) == ending


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("Input should be greater than 0", "must be greater than 0"),
        ("String should have at least 1 character", "must have at least 1 character"),
        ("Input should be a valid dictionary", "must be a mapping of parameters"),
        ("Value error, low must be above 0", "low must be above 0"),
    ],
)
def test_rule_of_pydantic_becomes_a_rule_of_ours(message: str, sentence: str) -> None:
    assert rule(message) == sentence


@pytest.mark.parametrize(("text", "place"), [("a: 1\nb: [", "line 2, column 5"), ("\ta: 1", "line 1, column 1")])
def test_syntax_error_is_one_line_with_its_place(text: str, place: str) -> None:
    with pytest.raises(YAMLError, match="line") as caught:
        YAML(typ="safe", pure=True).load(text)

    assert syntax(caught.value).endswith(f"({place})")
    assert "\n" not in syntax(caught.value)
