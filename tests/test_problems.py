import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from podium.components import USUAL, find, library_names
from podium.config.params import parse
from podium.config.problems import did_you_mean, rule, syntax
from podium.errors import InputError

KNOWN = ["model", "train", "search", "model.width", "train.epochs", "train.optimizer", "search.n_trials"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("train.optimiser", "did you mean train.optimizer?"),
        ("search.epochs", "did you mean train.epochs?"),
        ("width", "did you mean model.width?"),
        ("trian", "did you mean train?"),
        ("train.zzz", "available: train.epochs, train.optimizer"),
        ("zzz", "available: model, train, search"),
        ("zzz.zzz", f"available: {', '.join(KNOWN)}"),
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


COST = "name: cost, arguments: {costs:"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("search: {limits: {latency_ms: 5ms}}", "search.limits.latency_ms: must be a finite number; got '5ms'"),
        ("search: {limits: {latency_ms: .nan}}", "search.limits.latency_ms: must be a finite number; got nan"),
        (f"search: {{metric: {{{COST} {{1.5: {{a: 3}}}}}}}}}}",
         "search.metric.arguments.costs: must have text as its keys; got 1.5"),
        (f"search: {{metric: {{{COST} {{a: {{b: x}}}}}}}}}}",
         "search.metric.arguments.costs.a.b: must be a finite number for cost; got 'x'"),
        (f"search: {{metric: [loss, {{{COST} {{1.5: {{a: 3}}}}}}}}]}}",
         "search.metric: arguments.costs: must have text as its keys; got 1.5"),
        ("prepare: {arguments: {most: null}}",
         "prepare.arguments.most: must be text, a finite number or true or false; got None"),
        ("model: {arguments: {str: .inf}}",
         "model.arguments.str: must be text, a finite number, true or false, a list or a mapping; got inf"),
        ("search: {metric: {name: top_k, arguments: {k: 0}}}",
         "search.metric.arguments.k: must be greater than or equal to 1 for top_k; got 0"),
        ("search: {metric: [loss, {name: top_k, arguments: {k: 0}}]}",
         "search.metric.arguments.k: must be greater than or equal to 1 for top_k; got 0"),
        ("search: {metric: {name: recall_at_precision, arguments: {class_name: a, precision: 2}}}",
         "search.metric.arguments.precision: must be less than or equal to 1 for recall_at_precision; got 2"),
        ("search: {metric: recall_at_precision}", "search.metric: recall_at_precision needs class_name: write "),
        ("search: {metric: cost}", "search.metric: cost must have either a file or costs as its arguments"),
        ("search: {metric: 'my:ece'}", "search.metric: must have a name that no metric or cost of Podium has; got ece"),
        ("evaluate: {metrics: [loss, {name: top_k, arguments: {k: 0}}]}", "evaluate.metrics.1.arguments.k: must be gr"),
        ("gate: {metric: {name: top_k, arguments: {q: 0}}}", "gate.metric.arguments.q: is no argument of top_k"),
        ("train: {loss: {name: focal, arguments: {gama: 3}}}", "train.loss.arguments.gama: is no argument of focal"),
        ("model: {arguments: {gama: 3}}", "model.arguments.gama: is no argument of cnn"),
        ("search: {limits: {recall_at_precision: 0.5}}",
         "search.limits: recall_at_precision needs arguments, which a limit can't have"),
        ("search: {limits: {cost: 5}}", "search.limits: cost needs arguments, which a limit can't have"),
        ("search: {limits: {f1: 0.5}}", "search.limits: f1 is no limit; did you mean macro_f1?"),
        ("{search: {metric: 'a:f'}, evaluate: {metrics: ['b:f']}}",
         "evaluate.metrics: b:f would be logged as val_f, as a:f of search.metric is: rename one"),
        ("{search: {limits: {'a:f': 1}}, evaluate: {metrics: ['b:f']}}", "search.limits: a:f would be logged as val_f"),
        (f"{{search: {{metric: {{{COST} {{a: {{b: 1}}}}}}}}}}, evaluate: {{metrics: [{{{COST} {{a: {{b: 2}}}}}}}}]}}}}",
         "evaluate.metrics: cost would be logged as val_cost, as cost of search.metric is"),
    ],
)  # fmt: skip
def test_value_has_one_problem_with_its_whole_path(text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    head, *lines = str(caught.value).splitlines()
    assert head == "params.yaml has 1 problem:"
    assert lines[0].startswith(f"  {line}")
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("gate: {max_recall_drop: 1%}", "got '1%': write 0.01 for 1%"),
        ("gate: {max_recall_drop: 0.5 %}", "got '0.5 %': write 0.005 for 0.5 %"),
        ("gate: {max_recall_drop: '0.01'}", "got '0.01': write 0.01 without quotes"),
        ("gate: {max_recall_drop: '0,5'}", "got '0,5': write 0.5, with a point"),
        ("gate: {max_recall_drop: 1/2}", "got '1/2': write 0.5 for 1/2"),
        ("search: {timeout: '1,500'}", "write 1500 without a comma, or 1.500 with a point, whichever is meant"),
        ("search: {timeout: '2:30:00'}", "write a number alone: 2:30:00 is 9000 seconds"),
        ("search: {timeout: 1h}", "write a number alone, without 'h', in the unit that the parameter has"),
        ("train: {epochs: 50%}", "write a whole number alone; this one is no percentage"),
        ("train: {epochs: ten}", "train.epochs: must be a valid integer; got 'ten'"),
        ("search: {overrides: {train.data_fraction: 50%}}", "must be a valid number; got '50%': write 0.5 for 50%"),
        ("search: {space: {train.epochs: {low: 10 epochs, high: 20}}}", "got '10 epochs': write a number alone, without"
         " 'epochs', in the unit that the parameter has"),
        ("search: {space: {train.epochs: {choices: ['10', 20]}}}", "got '10': write 10 without quotes"),
        ("search: {metric: {name: top_k, arguments: {k: '3'}}}", "for top_k; got '3': write 3 without quotes"),
    ],
)  # fmt: skip
def test_text_in_the_place_of_a_number_is_answered_with_the_number_that_it_means(text: str, ending: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).endswith(ending)


def test_classes_that_are_digits_may_be_written_as_numbers() -> None:
    number, text = (parse(f"search: {{metric: {{{COST} {costs}}}}}}}").search.metric
                    for costs in ("{1: {7: 3}}", "{'1': {'7': 3}}"))  # fmt: skip
    assert number == text
    assert parse("{search: {metric: 'a:f', limits: {'a:f': 1}}, evaluate: {metrics: ['a:f', loss]}}")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cohen_kappa", "kappa"),
        ("f1_score", "macro_f1"),
        ("f1", "macro_f1"),
        ("F1", "macro_f1"),
        ("precision", "MulticlassPrecision"),
        ("ece", "calibration_error"),
        ("matthews", "mcc"),
        ("roc_auc", "auroc"),
        ("ROC-AUC", "auroc"),
        ("auc", "auroc"),
        ("logloss", "loss"),
        ("log_loss", "loss"),
        ("top5", "top_k"),
        ("acuracy", "accuracy"),
    ],
)
def test_usual_name_of_a_metric_leads_to_ours(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"did you mean {meant}\?"):
        parse(f"search: {{metric: {name}}}")


@pytest.mark.parametrize("meant", USUAL["metric"])
def test_what_a_usual_name_leads_to_is_a_metric(meant: str) -> None:
    assert find("metric", meant) or meant in library_names("metric")
