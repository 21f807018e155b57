"""The gate's arithmetic with models whose answers are known by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from podium.dataset import Split
from podium.decode import Preprocess, decode
from podium.gate import judge, right_answers

CLASSES = ("even", "odd")
SPEC = Preprocess(1, 4, 4)


def split(labels: Sequence[int]) -> Split:
    """An image a label; its place in the split is its brightness."""
    count = len(labels)
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 1, 4, 4)).copy()
    return Split("test", images, np.array(labels, dtype=np.int64), CLASSES, "s" * 64)


@dataclass
class Known:
    """Answers even or odd, by the images' brightness, as `answers` says."""

    answers: Sequence[int]

    def answer(self, images: Sequence[bytes]) -> pd.DataFrame:
        levels = [int(decode(data, SPEC)[0, 0, 0]) for data in images]
        return pd.DataFrame({"label": [CLASSES[self.answers[level]] for level in levels]})


LABELS = [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("challenger", "champion", "decision", "gained", "lost"),
    [
        ([0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 0], "promote", 1, 0),
        ([0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0], "promote", 0, 0),
        ([0, 1, 0, 1, 0, 0], [1, 1, 0, 1, 0, 1], "promote", 1, 1),
        ([0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1], "refuse", 0, 1),
        ([0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 0, 0], "refuse", 1, 2),
    ],
)
def test_judge_promotes_what_is_not_worse(
    challenger: list[int], champion: list[int], decision: str, gained: int, lost: int
) -> None:
    verdict = judge(split(LABELS), (2, Known(challenger)), (1, Known(champion)))
    assert (verdict.decision, verdict.images) == (decision, 6)
    assert (verdict.only_challenger_right, verdict.only_champion_right) == (gained, lost)
    assert verdict.champion is not None
    assert verdict.challenger.right - verdict.champion.right == gained - lost
    assert f"{gained} answers became right, {lost} wrong" in verdict.reason
    assert f"| champion | 1 | {verdict.champion.right} of 6 |" in verdict.markdown()


def test_judge_without_a_champion_promotes_and_says_so() -> None:
    verdict = judge(split(LABELS), (1, Known([1, 0, 1, 0, 1, 1])), None)
    assert (verdict.decision, verdict.champion) == ("promote", None)
    assert verdict.reason == "accuracy 0.1667 on 6 sealed images, and there is no champion yet"


def test_verdict_is_json_with_its_notes() -> None:
    verdict = judge(split(LABELS), (1, Known(LABELS)), None, ("trained on other data",))
    content = json.loads(json.dumps(verdict.to_dict()))
    assert content["challenger"] == {"version": 1, "right": 6, "accuracy": 1.0}
    assert content["notes"] == ["trained on other data"]
    assert "- trained on other data" in verdict.markdown()


def test_right_answers_over_several_batches_keep_the_order() -> None:
    labels = [n % 2 for n in range(256)]
    wrong = {3, 70, 255}
    model = Known([1 - label if n in wrong else label for n, label in enumerate(labels)])
    images = split(labels)
    twice = Split("test", np.concatenate([images.images] * 2), np.concatenate([images.labels] * 2), CLASSES, "s" * 64)
    right = right_answers(model, twice)
    assert set(np.flatnonzero(~right)) == wrong | {n + 256 for n in wrong}


def test_right_answers_of_a_model_with_other_class_names_are_wrong() -> None:
    @dataclass
    class Foreign:
        def answer(self, images: Sequence[bytes]) -> pd.DataFrame:
            return pd.DataFrame({"label": ["cat"] * len(images)})

    assert not right_answers(Foreign(), split(LABELS)).any()
