"""Rules of the gate: found in their folder, and a new one is a new file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import podium
from podium.config.params import GateParams
from podium.promotion.gate import attempts
from podium.promotion.rules import ClassCounts, Evidence, find_rules
from podium.promotion.rules.accuracy_comparison import AccuracyComparison
from podium.promotion.rules.max_recall_drop import MaxRecallDrop
from podium.promotion.rules.min_recall import MinRecall
from podium.promotion.rules.served_labels import ServedLabels
from podium.promotion.verdict import Comparison, Side
from podium.shadow.pair_summary import Served

SOURCE = Path(podium.__file__).parent
NEW_RULE = '''
"""Enough images."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from podium.promotion.rules import Evidence, Finding, Rule


class MinImages(Rule):
    """The test set has enough images."""

    name: ClassVar = "images"
    order: ClassVar = 45

    min_images: Annotated[int, Field(ge=1)] = 1
    """The test set must have so many images."""

    @field_validator("min_images")
    @classmethod
    def _even(cls, count: int) -> int:
        if count > 1 and count % 2:
            raise ValueError(f"min_images must be even; got {count}")
        return count

    def judge(self, evidence: Evidence) -> Finding:
        """Applies always."""
        return Finding(f"at least {self.min_images}", str(evidence.images), evidence.images >= self.min_images)
'''
SCRIPT = """
from pathlib import Path

import numpy as np
import pandas as pd

from podium.config.reference_page import page
from podium.config.params import load, parse
from podium.data.dataset import Split
from podium.errors import InputError
from podium.promotion.gate import Candidates, judge


class Model:
    size = 1
    abstain = None

    def predict(self, images):
        return pd.DataFrame({"label": ["a"] * len(images), "probability": 1.0})


for text in ("gate: {min_images: 0}", "gate: {min_image: 2}", "gate: {min_images: 3}"):
    try:
        parse(text)
    except InputError as error:
        print(error)
split = Split("test", np.zeros((5, 1, 4, 4), np.uint8), np.zeros(5, np.int64), ("a",), "s" * 64)
verdict = judge(load(Path("params.yaml")).gate, split, Candidates((1, Model()), None), {"gate": 1})
print(verdict.decision, verdict.reason)
print(verdict.table())
print(verdict.markdown())
print(page())
"""


@pytest.mark.slow
def test_new_rule_is_one_file_that_is_checked_judged_and_shown(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "podium", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "podium/promotion/rules/min_images.py").write_text(NEW_RULE, encoding="utf-8")
    (tmp_path / "params.yaml").write_text("gate: {min_images: 6, max_latency_ms: 1.0e+6}\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "gate.min_images: must be greater than or equal to 1; got 0",
        "gate.min_image: is not a parameter; did you mean gate.min_images?",
        "gate: min_images must be even; got 3",
        "refuse accuracy 1.0000",
        "; images (at least 6): 5",
        "NO  images       at least 6",
        "| images | at least 6 | 5 | **failed** |",
        "images: The test set has enough images.",
        "| `min_images` | `1` | whole number from 1 | The test set must have so many images. |",
    ):
        assert words in done.stdout


@pytest.mark.slow
def test_file_without_a_rule_and_parameter_declared_twice_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "podium", ignore=shutil.ignore_patterns("__pycache__"))
    rules = tmp_path / "podium/promotion/rules"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for text, message in (
        ('"""Nothing."""\n', "extra.py holds no rule of the gate: a class derived from Rule"),
        ((rules / "max_size.py").read_text(encoding="utf-8"), "gate.max_size_mb is declared twice"),
    ):
        (rules / "extra.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-c", "import podium.config.params"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert message in done.stderr


def test_parameters_of_the_section_are_those_of_the_rules_and_the_confidence() -> None:
    declared = {name for rule in find_rules() for name in rule.model_fields}
    assert set(GateParams.model_fields) == declared | {"confidence", "metric"}
    assert all(field.description for field in GateParams.model_fields.values())


def test_rules_run_in_their_order_and_have_a_help() -> None:
    orders = [rule.order for rule in find_rules()]
    assert orders == sorted(orders)
    assert all(rule.name and rule.help() for rule in find_rules())


def side(**values: Any) -> Side:
    figures: dict[str, Any] = {"accuracy": 0.9, "low": 0.8, "high": 0.95, "calibration_error": 0.05}
    figures |= {"latency_ms": 1.0, "size_mb": 1.0} | {"recalls": {"a": 0.9}}
    return Side(version=1, right=90, **figures | values)


@pytest.mark.parametrize(
    ("champion", "unreadable", "names"),
    [
        (side(), "", ["recall", "calibration", "latency", "size"]),
        (None, "", ["accuracy", "recall", "calibration", "latency", "size"]),
        (None, "it is damaged", ["champion", "latency", "size"]),
    ],
)
def test_rules_apply_by_whether_there_is_a_champion(champion: Side | None, unreadable: str, names: list[str]) -> None:
    evidence = Evidence(100, 0.95, side(), champion, unreadable=unreadable, classes={"a": ClassCounts(100, 90)})
    found = [(rule.name, rule.of(GateParams()).judge(evidence)) for rule in find_rules()]
    assert [name for name, finding in found if finding] == names


@pytest.mark.slow
def test_import_of_the_rules_is_light() -> None:
    heavy = "{'torch', 'mlflow', 'scipy', 'numpy', 'pandas', 'sklearn', 'matplotlib'}"
    code = f"import sys; import podium.config.gate_section; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


SMALL, LARGE = 10, 200
"""Test images of a class."""


@pytest.mark.parametrize(
    ("classes", "passed"),
    [
        ({"a": (LARGE, 0, 20)}, False),  # 10 % of its recall, and no doubt
        ({"a": (LARGE, 0, 9)}, True),  # no doubt, but within the limit
        ({"a": (SMALL, 0, 3)}, True),  # 30 %, by chance
        ({"a": (SMALL, 0, 9)}, False),
        ({"a": (LARGE, 20, 20)}, True),
        ({"a": (LARGE, 0, 20), "b": (LARGE, 30, 0)}, False),  # what another class gains does not pay for it
        ({f"c{n}": (SMALL, 0, 5 * (n == 0)) for n in range(1000)}, True),  # one of a thousand: chance
        ({f"c{n}": (SMALL, 0, 9 * (n < 50)) for n in range(1000)}, False),  # fifty of a thousand: none
    ],
    ids=["lost", "within the limit", "few images", "few, but all", "balanced", "two", "thousand", "many of a thousand"],
)
def test_class_that_loses_is_told_from_chance(classes: dict[str, tuple[int, int, int]], passed: bool) -> None:
    counts = {name: ClassCounts(n, n - lost, gained, lost) for name, (n, gained, lost) in classes.items()}
    new = side(recalls={name: one.right / one.images for name, one in counts.items()})
    old = side(recalls={name: (one.right + one.lost - one.gained) / one.images for name, one in counts.items()})
    found = MaxRecallDrop().judge(Evidence(1000, 0.95, new, old, classes=counts))
    assert found is not None
    assert found.passed is passed


@pytest.mark.parametrize(
    ("rights", "passed"),
    [
        ([(SMALL, 3)], True),
        ([(SMALL, 1)], False),
        ([(LARGE, 80)], False),
        ([(LARGE, 95)], True),
        ([(SMALL, 1)] + [(SMALL, 9)] * 999, True),
        ([(SMALL, 0)] * 100 + [(SMALL, 9)] * 900, False),
    ],
)
def test_class_below_the_floor_is_told_from_chance(rights: list[tuple[int, int]], passed: bool) -> None:
    counts = {f"c{n}": ClassCounts(images, right) for n, (images, right) in enumerate(rights)}
    new = side(recalls={name: one.right / one.images for name, one in counts.items()})
    found = MinRecall().judge(Evidence(1000, 0.95, new, classes=counts))
    assert found is not None
    assert found.passed is passed


def test_attempts_share_the_chance_of_a_false_promotion() -> None:
    levels = [Evidence(100, 0.95, side(), attempt=number).level for number in range(1, 10_000)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.025)
    assert 0.049 < sum(levels) < 0.05


@pytest.mark.parametrize(
    ("accesses", "attempt"),
    [
        ({}, 1),
        ({"evaluate": 1, "gate": 1}, 1),
        ({"evaluate": 2, "gate": 2}, 1),
        ({"evaluate": 3, "gate": 2}, 2),
        ({"evaluate": 2, "gate": 9}, 8),
    ],
)
def test_every_look_at_the_test_set_is_an_attempt(accesses: dict[str, int], attempt: int) -> None:
    assert attempts(accesses) == attempt


@pytest.mark.parametrize(
    ("first", "evaluated"),
    [({}, 0), ({"gate": 1}, 0), ({"evaluate": 1, "gate": 1}, 1), ({"evaluate": 1, "gate": 0}, 1), ({"evaluate": 1}, 3)],
    ids=["elsewhere", "judged here", "here", "by hand", "by hand among others"],
)
def test_no_level_is_given_twice_whatever_of_the_first_champion_is_among_the_accesses(
    first: dict[str, int], evaluated: int
) -> None:
    """`evaluated`: before the second champion's time. Each challenger is then evaluated and judged, and once more."""
    judged, found = first.get("gate", 0), []
    for challenger in range(1, 50):
        for _ in range(2):
            judged += 1
            found.append(attempts({"evaluate": evaluated + challenger, "gate": judged}, first))
    assert all(number >= place for place, number in enumerate(found, 1))  # the levels fall
    assert found[-1] == 98


def test_spent_test_set_is_named() -> None:
    old = side(accuracy=0.95)  # `right` is 90 of 100: ten errors
    comparison = Comparison(10, 0, 0.1, 0.0, 0.2, 0.9, 100, 10.0, 0.0)
    for attempt, spent in ((1, False), (6, False), (7, True)):
        evidence = Evidence(100, 0.95, side(), old, comparison, attempt=attempt)
        found = AccuracyComparison().judge(evidence)
        assert found is not None
        assert (found.passed, "this test set is spent" in found.found) == (not spent, spent)


@pytest.mark.parametrize(
    ("shadow", "served", "passed", "words"),
    [
        ("off", Served(20, 20, 0, 0, 0), None, ""),
        ("superior", None, None, ""),
        (
            "superior",
            Served(0, 0, 0, 0, 0),
            False,
            "no image of these two models is stored (serve.keep_days, serve.keep_mb): podium serve --shadow",
        ),
        ("superior", Served(0, 0, 0, 3, 9), False, "no labels: podium compare --csv, then podium feedback"),
        ("superior", Served(6, 6, 0, 0, 0), False, "(6 labelled images, 6 that only it gets right, 0 only the champ"),
        ("superior", Served(7, 7, 0, 0, 0), True, "32 (7 labelled images"),
        ("superior", Served(1000, 0, 0, 0, 0), False, "1 (1,000 labelled images"),
        ("superior", Served(20, 0, 20, 0, 0), False, "(20 labelled images, 0 that only it gets right, 20 only the"),
        ("superior", Served(60, 30, 30, 0, 0), False, "(60 labelled images"),  # in whatever order they came
        ("superior", Served(112, 12, 100, 0, 0), False, "(112 labelled images"),
        ("non_inferior", Served(0, 0, 0, 0, 0), False, "no image of these two models is stored (serve.keep_days"),
        ("non_inferior", Served(100, 0, 0, 0, 0), False, "(100 stored images that both predicted"),
        ("non_inferior", Served(1000, 0, 0, 0, 0), True, "(1,000 stored images that both predicted"),
        ("non_inferior", Served(1200, 0, 400, 0, 0), False, "400 only the champion"),
        # 449 agreements have a label, none of the disagreements: they may all be lost
        ("non_inferior", Served(449, 0, 0, 50, 0), False, "50 disagreements without a label, counted as lost"),
        # the disagreements alone have labels: the other images are equal
        (
            "non_inferior",
            Served(20, 8, 12, 0, 1980),
            True,
            "(2,000 stored images that both predicted, 8 that only it gets right, 12",
        ),
        ("non_inferior", Served(20, 8, 12, 0, 0), False, "(20 stored images that both predicted"),
    ],
)
def test_labels_of_served_images_decide_where_they_are_asked_for(
    shadow: Any, served: Served | None, passed: bool | None, words: str
) -> None:
    side = Side(1, 0, 0.0, 0.0, 0.0, 0.0, {}, 0.0, 0.0)
    read = None if served is None else lambda: served
    finding = ServedLabels(shadow=shadow).judge(Evidence(10, 0.95, side, side, served=read))
    assert (finding.passed if finding else None) == passed
    if finding:
        assert words in finding.found
        assert "evidence of 20 or more" in finding.rule
