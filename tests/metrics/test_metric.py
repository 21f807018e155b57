"""What a metric says about itself."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from own import OwnCode
from podium import components
from podium.components import Choice
from podium.config.params import parse
from podium.data.dataset import DatasetInfo
from podium.doctor import project
from podium.errors import InputError
from podium.metrics import computable, scores
from podium.metrics.scored import Scored
from podium.metrics.scores import Objective
from podium.metrics.scores.cost_matrix import read_costs
from podium.tuning.search_plan import check_defined


@pytest.mark.parametrize(
    ("name", "direction", "better", "worse", "shown"),
    [("accuracy", "maximize", 0.9, 0.8, "90.00%"), ("loss", "minimize", 0.1, 0.2, "0.1000")],
)
def test_metric_has_a_direction_and_a_format(
    name: str, direction: str, better: float, worse: float, shown: str
) -> None:
    component = components.make("metric", Choice(name=name), {})
    assert (component.label, component.direction) == (name, direction)
    metric = Objective.of({"metric": name, "direction": component.direction, "percent": component.PERCENT})
    assert metric.sign * better > metric.sign * worse
    assert metric.format(better) == shown


def test_precision_that_floats_round_up_is_reached() -> None:
    labels = torch.tensor([1] * 55 + [0] * 45)
    probabilities = torch.full((100, 2), 0.5)  # one threshold, at which 55 of 100 are right
    for precision, recall in ((0.55, 1.0), (0.5500001, 0.0)):
        chosen = Choice(name="recall_at_precision", arguments={"class_name": "b", "precision": precision})
        scored = Scored(probabilities, labels, ("a", "b"), are_probabilities=True)
        assert scores.of(chosen).value(scored) == recall


@pytest.mark.parametrize(
    "name",
    [
        "my:ece",
        "my:accuracy",
        "my:loss",
        "my:top_k",
        "my:groups",
        "my:latency_ms",
        "my:parameters",
        "my:size_mb",
        "my:aurc",
    ],
)
def test_own_metric_called_like_one_of_ours_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="must have a name that no metric or cost of Podium has"):
        scores.of(Choice(name=name))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("MulticlassAccuracy", {"top_k": 99}, r"^gate\.metric: MulticlassAccuracy failed: "),
        (
            "MulticlassJaccardIndex",
            {"averag": "none"},
            r"^gate\.metric: MulticlassJaccardIndex failed: ValueError: Unexpected keyword arguments: `averag`",
        ),
        (
            "MulticlassJaccardIndex",
            {"average": "none"},
            r"^gate\.metric: MulticlassJaccardIndex must give a number; it ",
        ),
        ("nowhere:metric", {}, r"^gate\.metric: nowhere:metric: there is no module 'nowhere'"),
    ],
)
def test_metric_of_others_that_cannot_be_computed_is_named_by_its_parameter_once(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    metric = scores.of(Choice(name=name, arguments=arguments))
    with pytest.raises(InputError, match=message) as found:
        computable.check([("gate.metric", metric)], {"a": 3, "b": 4, "c": 1})
    assert "search.metric" not in str(found.value)


def test_arguments_of_an_own_metric_are_named_below_its_parameter(own: OwnCode) -> None:
    module = own.write("def mine(logits, labels, power, base):\n    return 1\nmine.direction = 'maximize'\n")
    metric = scores.of(Choice(name=f"{module}:mine", arguments={"powr": 2}))
    with pytest.raises(InputError) as found:
        computable.check([("evaluate.metrics", metric)], {"a": 3, "b": 4})
    assert str(found.value).splitlines()[:2] == [
        f"evaluate.metrics.arguments.powr: {module}:mine has no such argument; did you mean power?",
        f"  evaluate.metrics.arguments: {module}:mine needs power, which has no default: give it there",
    ]


def test_own_metric_is_given_the_same_in_training_as_of_probabilities(own: OwnCode) -> None:
    module = own.write("def first(logits, labels):\n    return logits[0, 0]\nfirst.direction = 'maximize'\n")
    metric, logits = scores.of(Choice(name=f"{module}:first")), torch.tensor([[3.0, 1.0]])
    of_logits = metric.value(Scored(logits, torch.tensor([0])))
    of_probabilities = metric.value(Scored(logits.softmax(1), torch.tensor([0]), are_probabilities=True))
    assert of_logits == pytest.approx(of_probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("return float('inf')", None),
        ("return -torch.ones(()) / 0", None),
        ("return float('nan')", None),
        ("return True", 1.0),
        ("return (torch.rand(5, 3), [torch.rand(9)])", "{m}:odd must give a number; it gave tuple"),
        ("return torch.rand(70)", "{m}:odd must give a number; it gave (70,) of torch.float32"),
        ("return 'x' * 500", "{m}:odd must give a number; it gave 'xxx"),
        ("return {}['no']", "{m}:odd fails: src/{m}.py, line 5, in odd: KeyError: 'no'"),
    ],
)
def test_own_metric_gives_a_finite_number_nan_or_a_short_reason(
    own: OwnCode, body: str, found: float | str | None
) -> None:
    module = own.write(f"import torch\n\n\ndef odd(logits, labels):\n    {body}\n\n\nodd.direction = 'maximize'\n")
    metric = scores.of(Choice(name=f"{module}:odd"))
    scored = Scored(torch.randn((4, 2)), torch.tensor([0, 1, 0, 1]))
    if isinstance(found, str):
        with pytest.raises(InputError) as caught:
            metric.value(scored)
        assert str(caught.value).startswith(found.format(m=module))
        assert len(str(caught.value)) < 200
    else:
        assert metric.value(scored) == pytest.approx(math.nan if found is None else found, nan_ok=True)


@pytest.mark.parametrize(
    ("table", "lacks"),
    [
        (",a,b,c\na,0,1,2\nb,1,0,3\nc,1,1,0\n", ""),
        (",c,a,b\na,0,1,2\nb,1,0,3\nc,1,1,0\n", ""),
        (",a,b\na,0,1\nb,1,0\n", "it lacks c"),
        (",c\nc,0\n", "it lacks a, b"),
    ],
)
def test_costs_of_a_file_are_those_of_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, lacks: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/labels").mkdir(parents=True)
    (tmp_path / "data/labels/costs.csv").write_text(table)
    metric = scores.of(Choice(name="cost", arguments={"file": "costs.csv"}))
    if not lacks:
        assert metric.undefined({"a": 1, "b": 1, "c": 1}) == ""
        return
    with pytest.raises(InputError, match=f"costs.csv must name every class, .*; {lacks}$"):
        metric.undefined({"a": 1, "b": 1, "c": 1})
    params = parse("search: {metric: {name: cost, arguments: {file: costs.csv}}}")
    info = DatasetInfo("x", ["a", "b", "c"], [1, 8, 8], {"val": {"a": 1, "b": 1, "c": 1}}, [0.5], [0.3], "0" * 64)
    (tmp_path / "data/prepared").mkdir()
    info.write(tmp_path / "data/prepared")
    with pytest.raises(InputError, match=lacks):
        check_defined(params, info)
    assert (found := project.metrics(params, tmp_path / "data/prepared")).level == "fail"
    assert lacks in found.found


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"\xef\xbb\xbf,cat,dog\ncat,0,1\ndog,2,0\n", ""),
        (b'\xef\xbb\xbf"actual, predicted",cat,dog\ncat,0,1\ndog,2,0\n', ""),
        (b",cat,dog,,\ncat,0,1,,\n,,,,\ndog,2,0,,\n,,,,\n", ""),
        (b",cat,dog\r\n\r\n cat , 0 ,1\r\ndog,2,0\r\n", ""),
        (b";cat;dog\ncat;0,5;1\ndog;2;0\n", "line 1: must have an empty cell and a class .* commas; got ';cat;dog'"),
        (b"\tcat\tdog\ncat\t0\t1\n", "separated by commas"),
        (b",cat,dog\n\n\ncat,0,1\n\ndog,x,0\n", "line 6: a cost must be a finite number; got 'x'"),
        (b",cat,dog\ncat,0,1_000\ndog,2,0\n", "line 2: a cost must be a finite number; got '1_000'"),
        (b",cat\ncat,0,1\n", "line 2: must have 1 cost; got 2"),
        (b',"a" x,dog\n"a" x,0,1\ndog,2,0\n', 'write "a x" for the class a x'),
        (b',cat,dog\n"cat,0,1\ndog,2,0\n', "can't be read: unexpected end of data"),
        (b",cat,dog\ncat,0,1\n" + b"x" * 200_000 + b",2,0\n", "can't be read: field larger than field limit"),
        (b",cat,dog\ncat,0,1\nbird,2,0\n", "'bird' is in the first column only, 'dog' is in the first row only"),
        (b",cat,cat\ncat,0,1\ndog,2,0\n", "'cat' is twice in the first row, 'dog' is in the first column only"),
        (b",,\n,,\n", "it has 0"),
    ],
)
def test_table_of_costs_is_read_or_says_where_it_is_none(tmp_path: Path, table: bytes, message: str) -> None:
    (tmp_path / "costs.csv").write_bytes(table)
    if not message:
        assert read_costs(tmp_path / "costs.csv") == {"cat": {"cat": 0, "dog": 1}, "dog": {"cat": 2, "dog": 0}}
        return
    with pytest.raises(InputError, match=f"^cost: .*{message}"):
        read_costs(tmp_path / "costs.csv")
