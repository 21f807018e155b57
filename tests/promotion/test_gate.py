"""The gate's rules with models whose predictions are known by hand."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from podium.components import Choice
from podium.config.params import GateParams
from podium.data.dataset import Split
from podium.data.decode import Preprocess, decode
from podium.errors import InputError
from podium.metrics import scores
from podium.promotion import gate
from podium.promotion.gate import Candidates, judge
from podium.promotion.model_predictions import BATCH, predict
from podium.promotion.rules.accuracy_comparison import TESTS
from podium.promotion.verdict import Verdict
from podium.promotion.verdict_files import draw_disagreements

CLASSES = ("even", "odd")
SPEC = Preprocess(1, 4, 4)
LOOSE = GateParams(max_recall_drop=1.0, max_calibration_rise=1.0, max_latency_ms=1e6)


def split(labels: Sequence[int]) -> Split:
    """An image a label; its place in the split is its brightness."""
    count = len(labels)
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 1, 4, 4)).copy()
    return Split("test", images, np.array(labels, dtype=np.int64), CLASSES, "s" * 64)


@dataclass
class Known:
    """Answers even or odd, by the images' brightness, as `answers` says, and always as surely."""

    answers: Sequence[int]
    sure: float = 1.0
    size: int = 2_000_000
    abstain: dict[str, float] | None = None

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        levels = [int(decode(data, SPEC)[0, 0, 0]) for data in images]
        labels = [CLASSES[self.answers[level]] for level in levels]
        return pd.DataFrame({"label": labels, "probability": self.sure})


LABELS = [n % 2 for n in range(100)]


def wrong(*places: int) -> list[int]:
    """All answers right but those of `places`."""
    return [1 - label if n in places else label for n, label in enumerate(LABELS)]


def verdict(
    challenger: list[int], champion: list[int] | None, params: GateParams = LOOSE, sure: float = 1.0, size: int = 0
) -> Verdict:
    candidates = Candidates((2, Known(challenger, sure, size)), (1, Known(champion)) if champion else None)
    return judge(params, split(LABELS), candidates, {"evaluate": 1, "gate": 2})


@pytest.mark.parametrize(
    ("gained", "lost", "decision"),
    [
        (0, 0, "refuse"),
        (1, 0, "refuse"),
        (5, 0, "refuse"),
        (6, 0, "promote"),
        (6, 1, "refuse"),
        (10, 2, "promote"),
        (2, 9, "refuse"),
    ],
)
def test_superior_asks_for_more_than_a_fair_coin_gives(gained: int, lost: int, decision: str) -> None:
    found = verdict(wrong(*range(gained, gained + lost)), wrong(*range(gained)))
    assert found.comparison is not None
    assert (found.comparison.gained, found.comparison.lost, found.decision) == (gained, lost, decision)
    assert found.challenger.right - 100 == -lost
    assert len(found.disagreements) == gained + lost


@pytest.mark.parametrize(
    ("margin", "lost", "decision"),
    [
        (0.01, 0, "refuse"),
        (0.05, 0, "promote"),
        (0.05, 1, "refuse"),
        (0.06, 1, "promote"),
        (0.05, 3, "refuse"),
        (0.1, 3, "promote"),
    ],
)
def test_non_inferior_asks_that_a_loss_of_the_margin_is_excluded(margin: float, lost: int, decision: str) -> None:
    params = LOOSE.model_copy(update={"rule": "non_inferior", "margin": margin})
    assert verdict(wrong(*range(lost)), wrong(), params).decision == decision


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"max_recall_drop": 0.0}, []),  # two of fifty are no evidence
        ({"max_latency_ms": 1e-6}, ["latency"]),
        ({"max_size_mb": 1.9}, ["size"]),
    ],
)
def test_limits_refuse_a_challenger_that_is_more_accurate(change: dict[str, float], failed: list[str]) -> None:
    params = LOOSE.model_copy(update=change)  # it loses 2 of the 50 even images, and gains 12 of the odd ones
    found = verdict(wrong(0, 2), wrong(*range(1, 25, 2)), params, size=2_000_000)
    assert [check.name for check in found.failed] == failed
    assert found.decision == ("refuse" if failed else "promote")
    for name in failed:
        assert f"; {name} (" in found.reason


def test_calibration_that_got_worse_is_refused() -> None:
    params = LOOSE.model_copy(update={"max_calibration_rise": 0.02})
    found = verdict(wrong(), wrong(*range(10)), params, sure=0.5)
    assert [check.name for check in found.failed] == ["calibration"]
    assert found.challenger.calibration_error == pytest.approx(0.5)
    assert found.champion is not None
    assert found.champion.calibration_error == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"min_accuracy": 0.95}, ["accuracy"]),
        ({"min_recall": 0.85}, []),  # 40 of 50 are no evidence that it is less
        ({"min_recall": 0.95}, ["recall"]),
        ({"max_calibration_error": 0.05}, ["calibration"]),
        ({"max_size_mb": 1.0, "max_latency_ms": 1e-6}, ["latency", "size"]),
    ],
)
def test_first_model_is_held_to_the_floors(change: dict[str, float], failed: list[str]) -> None:
    found = verdict(wrong(*range(0, 20, 2)), None, LOOSE.model_copy(update=change), size=2_000_000)
    assert [check.name for check in found.failed] == failed
    assert (found.champion, found.comparison, found.disagreements) == (None, None, ())
    assert found.reason.startswith(
        "accuracy 0.9000 on 100 held-out test images, and there is no champion to compare with"
    )


def test_champion_that_can_not_be_loaded_is_a_failed_check() -> None:
    found = judge(LOOSE, split(LABELS), Candidates((2, Known(wrong())), None, "version 1 is damaged"), {})
    assert [(check.name, check.found) for check in found.failed] == [("champion", "version 1 is damaged")]


def test_challenger_with_foreign_classes_is_an_input_error() -> None:
    @dataclass
    class Foreign:
        size: int = 1
        abstain: None = None

        def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
            return pd.DataFrame({"label": ["cat"] * len(images), "probability": 1.0})

    with pytest.raises(InputError, match="version 2 predicts classes that the held-out test set does not have: cat"):
        judge(LOOSE, split(LABELS), Candidates((2, Foreign()), None), {})
    champion = judge(LOOSE, split(LABELS), Candidates((2, Known(wrong())), (1, Foreign())), {}).champion
    assert champion is not None
    assert champion.right == 0


def test_verdict_is_json_markdown_and_table_with_its_notes() -> None:
    candidates = Candidates((2, Known(wrong(1))), (1, Known(wrong(*range(2, 12)))))
    found = judge(LOOSE, split(LABELS), candidates, {"evaluate": 1, "gate": 2}, notes=("trained on other data",))
    content = json.loads(json.dumps(found.to_dict()))
    assert content["comparison"]["gained"] == 10
    assert content["changed"][0] == {"index": 1, "label": "odd", "challenger": "even", "champion": "odd"}
    page = found.markdown("a.png")
    for words in (
        "# Version 2: promote",
        "| champion | 1 | 90 of 100 |",
        "- trained on other data",
        "![images on which challenger and champion disagree](a.png)",
        "10 that only the challenger gets right, 1 that only the champion does",
        "| odd | 0.9800 | 0.9000 |",
        "test set accesses so far: 3 (evaluate 1, gate 2)",
    ):
        assert words in page
    assert len(found.table().splitlines()) == len(found.checks) + 2


def test_predictions_over_several_batches_keep_the_order() -> None:
    labels = [n % 2 for n in range(256)]
    places = {3, 70, 255}
    model = Known([1 - label if n in places else label for n, label in enumerate(labels)])
    images = split(labels)
    twice = Split("test", np.concatenate([images.images] * 2), np.concatenate([images.labels] * 2), CLASSES, "s" * 64)
    assert BATCH < 512
    (found,) = predict([model], twice)
    assert set(np.flatnonzero(~found.right)) == places | {n + 256 for n in places}


@pytest.mark.slow
@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (3, 12), (60, 60)])
def test_picture_of_disagreements_is_drawn_for_any_number(tmp_path: Path, gained: int, lost: int) -> None:
    labels = [n % 2 for n in range(250)]
    new = Known([1 - label if 100 <= n < 100 + lost else label for n, label in enumerate(labels)])
    old = Known([1 - label if n < gained else label for n, label in enumerate(labels)])
    images = split(labels)
    found = judge(LOOSE, images, Candidates((2, new), (1, old)), {})
    for name in ("one.png", "two.png"):
        draw_disagreements(tmp_path / name, found.disagreements, images.images)
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width > 600
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_rule_is_named_in_words() -> None:
    assert verdict(wrong(), wrong()).rule.startswith("the challenger must be more accurate than the champion at a conf")
    assert set(TESTS) == {"superior", "non_inferior"}


SKEWED = [0] * 180 + [1] * 20


def answers(evens: int, odds: int) -> list[int]:
    """So many of each class right."""
    return [0] * evens + [1] * (180 - evens) + [1] * odds + [0] * (20 - odds)


@pytest.mark.parametrize(
    ("metric", "decision", "value"),
    [
        ("accuracy", "refuse", None),
        ("balanced_accuracy", "promote", (170 / 180 + 17 / 20) / 2),
        ("macro_f1", "promote", None),
    ],
)
def test_gate_compares_by_the_metric(metric: str, decision: str, value: float | None) -> None:
    """The challenger gets ten more of the rare class right and eight fewer of the frequent one."""
    chosen = scores.of(Choice(name=metric))
    candidates = Candidates((2, Known(answers(170, 17))), (1, Known(answers(178, 5))))
    found = judge(LOOSE, split(SKEWED), candidates, {"evaluate": 1, "gate": 2}, metric=chosen)
    assert found.decision == decision
    assert found.metric == metric
    assert found.champion is not None
    if value is not None:
        assert found.challenger.value == pytest.approx(value)
        assert f"{metric} {value:.4f} against {found.champion.value:.4f} of the champion" in found.reason
        assert found.checks[0].name == metric
        assert "permutation test" in found.rule
        assert f"| {metric} |" in found.markdown()
        assert found.short()["challenger_value"] == found.challenger.value


class Unsure(Known):
    """Sure of the first images only, as many as `sure` says."""

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        frame = super().predict(images, probabilities=probabilities)
        frame["probability"] = [0.9 if decode(data, SPEC)[0, 0, 0] < self.sure else 0.6 for data in images]
        return frame


REMEDY = {
    "answered error": "max_answered_error",
    "coverage": "min_coverage",
    "coverage drop": "max_coverage_drop",
}
PROMISE = {"threshold": 0.9, "error": 0.05, "confidence": 0.95}


@pytest.mark.parametrize(
    ("wrongs", "answered", "champion", "params", "failed"),
    [
        ([1, 2], 80, None, {}, []),
        ([90, 91, 92, 93, 94, 95], 80, None, {}, []),  # wrong where it is unsure
        ([1, 2, 3, 4, 5, 6, 7], 80, None, {}, []),  # 7 of 80 at 0.05: chance explains it
        ([1, 2, 3, 4, 5, 6, 7, 8], 80, None, {}, ["answered error"]),
        ([1, 2, 3, 4, 5, 6, 7, 8], 80, None, {"max_answered_error": 0.1}, []),
        ([1], 80, None, {"max_answered_error": 0.0}, ["answered error"]),
        ([1], 0, None, {}, []),
        ([1], 0, None, {"min_coverage": 0.1}, ["coverage"]),
        ([1], 42, None, {"min_coverage": 0.5}, []),
        ([1], 41, None, {"min_coverage": 0.5}, ["coverage"]),
        ([1], 80, 82, {}, []),
        ([1], 80, 90, {}, ["coverage drop"]),
        ([1], 80, 90, {"max_coverage_drop": 0.1}, []),
        ([1], 80, 100, {}, ["coverage drop"]),
    ],
)
def test_model_that_may_be_unsure_has_to_keep_its_promise_and_its_coverage(
    wrongs: list[int], answered: int, champion: int | None, params: dict[str, float], failed: list[str]
) -> None:
    challenger = Unsure(wrong(*wrongs), answered, abstain=PROMISE)
    old = (1, Unsure(wrong(*range(40)), champion, abstain=PROMISE)) if champion else None
    chosen = LOOSE.model_copy(update={"max_calibration_error": 1.0, "min_recall": 0.0, **params})
    found = judge(chosen, split(LABELS), Candidates((2, challenger), old), {"gate": 2})
    assert [check.name for check in found.failed] == failed, found.table()
    for name, check in zip(failed, found.failed, strict=True):
        assert f"gate.{REMEDY[name]}" in check.found  # what decides, where that much will do


def test_champion_that_answers_every_image_is_no_measure_of_coverage() -> None:
    candidates = Candidates((2, Unsure(wrong(1), 50, abstain=PROMISE)), (1, Known(wrong(*range(40)))))
    found = judge(LOOSE, split(LABELS), candidates, {"gate": 2})
    assert "coverage drop" not in [check.name for check in found.checks]
    assert "answered error" in [check.name for check in found.checks]
    for model in (Unsure(wrong(1), 50), Known(wrong(1))):
        plain = judge(LOOSE, split(LABELS), Candidates((2, model), (1, Known(wrong(*range(40))))), {"gate": 2})
        assert not {"answered error", "coverage", "coverage drop"} & {check.name for check in plain.checks}


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ((0.05, 0.95), (0.05, 0.95), None),
        ((0.05, 0.95), (0.02, 0.99), None),
        (None, (0.5, 0.95), None),
        ((0.05, 0.95), None, "promises nothing and refuses abstain=true"),
        ((0.05, 0.95), (0.5, 0.95), "an error of at most 0.5, at a confidence of 0.95"),
        ((0.05, 0.95), (0.05, 0.9), "an error of at most 0.05, at a confidence of 0.9"),
        ((0.012345674, 0.95), (0.0123457, 0.95), "an error of at most 0.0123457, at a confidence of 0.95"),
    ],
)
def test_promise_of_the_champion_is_not_dropped_or_loosened(
    before: tuple[float, float] | None, now: tuple[float, float] | None, refused: str | None
) -> None:
    def promise(of_it: tuple[float, float] | None) -> dict[str, float] | None:
        return {"threshold": 0.5, "error": of_it[0], "confidence": of_it[1]} if of_it else None

    new, old = Known(wrong(), abstain=promise(now)), Known(wrong(*range(40)), abstain=promise(before))
    candidates = Candidates((2, new), (1, old))
    found = judge(LOOSE, split(LABELS), candidates, {"gate": 2})
    assert [check.name for check in found.failed] == (["promise"] if refused else []), found.table()
    if refused:
        assert refused in found.failed[0].found
        assert before is not None
        remedy = f"Set evaluate.abstain to {before[0]} or less with evaluate.confidence 0.95 or more"
        assert remedy in found.failed[0].found
        assert "gate.allow_looser_promise: true" in found.failed[0].found
    wanted = judge(LOOSE.model_copy(update={"allow_looser_promise": True}), split(LABELS), candidates, {"gate": 2})
    assert wanted.decision == "promote"


def test_promise_of_a_champion_that_was_replaced_already_binds_no_more() -> None:
    new, old = Known(wrong()), Known(wrong(*range(40)), abstain=PROMISE)
    found = judge(LOOSE, split(LABELS), Candidates((2, new), (1, old), keeps_promise=False), {"gate": 2})
    assert "promise" not in [check.name for check in found.checks]


def test_verdict_tells_where_the_models_predicted_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    where = ["the device"]

    class Leaving(Known):
        def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
            where[0] = "the CPU"
            return super().predict(images, probabilities=probabilities)

    @contextmanager
    def all_on(*_: object) -> Iterator[Callable[[], tuple[str, ...]]]:
        yield lambda: (f"on {where[0]}",)

    monkeypatch.setattr(gate, "all_on", all_on)
    found = judge(LOOSE, split(LABELS), Candidates((2, Leaving(wrong())), None), {"gate": 2})
    assert found.notes[0] == "on the CPU"


@dataclass
class Sure(Known):
    """Says how sure it is of each class."""

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        frame = super().predict(images)
        rows = [{label: self.sure, _other(label): 1 - self.sure} for label in frame["label"]]
        return frame.assign(probabilities=pd.Series(rows)) if probabilities else frame


def _other(label: str) -> str:
    return CLASSES[1 - CLASSES.index(label)]


def test_metric_of_probabilities_sees_what_accuracy_does_not() -> None:
    candidates = Candidates((2, Sure(wrong(1, 2), 0.95)), (1, Sure(wrong(1, 2), 0.7)))
    for name, decision in (("accuracy", "refuse"), ("loss", "promote"), ("brier", "promote")):
        found = judge(LOOSE, split(LABELS), candidates, {"gate": 2}, metric=scores.of(Choice(name=name)))
        assert found.decision == decision


class Foreign(Known):
    """Predicts a class that no image is of."""

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        frame = pd.DataFrame({"label": ["cat"] * len(images), "probability": 1.0})
        return frame.assign(probabilities=pd.Series([{"cat": 1.0}] * len(images))) if probabilities else frame


COSTS = {"costs": {"even": {"odd": 1}, "odd": {"even": 3}}}
BY_PROBABILITIES = ("auroc", "average_precision", "brier", "loss", "calibration_error")


@pytest.mark.parametrize("name", [*BY_PROBABILITIES, "macro_f1", "balanced_accuracy", "mcc", "cost"])
def test_champion_of_other_classes_is_compared_by_the_metric(name: str) -> None:
    metric = scores.of(Choice(name=name, arguments=COSTS if name == "cost" else {}))
    candidates = Candidates((2, Sure(wrong(), 0.99)), (1, Foreign([])))
    found = judge(LOOSE, split(LABELS), candidates, {}, metric=metric)
    assert found.champion is not None
    assert found.challenger.value is not None
    assert found.champion.value is not None
    assert metric.sign * (found.challenger.value - found.champion.value) > 0
    assert found.decision == "promote"


@pytest.mark.parametrize("name", BY_PROBABILITIES)
def test_model_without_probabilities_is_refused_by_a_metric_that_needs_them(name: str) -> None:
    candidates = Candidates((2, Sure(wrong(), 0.99)), (1, Known(wrong(1))))
    with pytest.raises(InputError, match=rf"gate.metric: {name} needs the probability of every class"):
        judge(LOOSE, split(LABELS), candidates, {}, metric=scores.of(Choice(name=name)))


def test_worse_by_less_than_the_margin_passes_by_the_metric_too() -> None:
    loose = LOOSE.model_copy(update={"rule": "non_inferior", "margin": 0.2})
    candidates = Candidates((2, Known(wrong(1, 2, 3))), (1, Known(wrong(1, 2))))
    metric = scores.of(Choice(name="balanced_accuracy"))
    assert judge(loose, split(LABELS), candidates, {"gate": 2}, metric=metric).decision == "promote"
    strict = loose.model_copy(update={"margin": 0.001})
    assert judge(strict, split(LABELS), candidates, {"gate": 2}, metric=metric).decision == "refuse"


@pytest.mark.parametrize(
    ("name", "floor", "decision"), [("balanced_accuracy", 0.9, "promote"), ("cost", 0.05, "refuse")]
)
def test_first_model_has_to_reach_the_floor_of_the_metric(name: str, floor: float, decision: str) -> None:
    costs = {"arguments": {"costs": {"even": {"odd": 1}, "odd": {"even": 3}}}} if name == "cost" else {}
    metric = scores.of(Choice(name=name, **costs))
    params = LOOSE.model_copy(update={"min_value": floor})
    found = judge(params, split(LABELS), Candidates((1, Known(wrong(1, 2, 3))), None), {}, metric=metric)
    assert found.decision == decision
    assert name in [check.name for check in found.checks]


def test_metric_that_is_undefined_on_the_test_set_is_refused_with_the_class() -> None:
    message = "gate.metric: auroc is undefined on the held-out test set: there is no image of odd"
    with pytest.raises(InputError, match=message):
        judge(LOOSE, split([0] * 9), Candidates((1, Known([0] * 9)), None), {}, metric=scores.of(Choice(name="auroc")))


def test_page_and_table_of_a_verdict_show_names_of_classes_as_they_are() -> None:
    found = verdict(wrong(), wrong(0, 1, 2, 3, 4, 5))
    odd = "<img src=x>|\x1b[2J"
    assert found.champion is not None
    changed = replace(
        found,
        reason=f"recall: {odd}",
        notes=(odd,),
        challenger=replace(found.challenger, recalls={odd: 1.0}),
        champion=replace(found.champion, recalls={odd: 0.5}),
        checks=(replace(found.checks[0], found=odd),),
    )
    page = changed.markdown()
    assert "<img" not in page
    assert "| &lt;img src=x&gt;\\|\\\\x1b\\[2J | 1.0000 | 0.5000 | +0.5000 |" in page
    assert "\x1b" not in page + changed.table()
