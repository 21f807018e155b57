"""What a person reads where the gate refuses the first model."""

from dataclasses import replace

import pytest

from podium.promotion.first_model import advice
from podium.promotion.verdict import Check, Side, Verdict

SIDE = Side(3, 70, 0.7, 0.6, 0.78, 0.12, {"cat": 0.9, "dog": 0.1}, 20.0, 5.0)
FAILED = Check("recall", "of every class at least 0.2", "dog: 0.1000", False)


def _verdict(*failed: Check, images: int = 100) -> Verdict:
    decision = "refuse" if failed else "promote"
    return Verdict(decision, "", "", images, "d", {}, SIDE, None, None, failed, ())  # type: ignore[arg-type]


def test_refused_first_model_says_how_to_try_it_and_what_would_help() -> None:
    text = "\n".join(advice(_verdict(FAILED)))
    assert "`podium predict --alias challenger FILE`" in text
    assert "more images of dog" in text
    assert "an accuracy of 0.70 means 0.60 to 0.78" in text
    assert "lower what failed in `gate`" in text


@pytest.mark.parametrize("name", ["accuracy", "recall", "calibration", "latency", "size", "data"])
def test_every_check_of_a_first_model_has_a_remedy(name: str) -> None:
    lines = advice(_verdict(replace(FAILED, name=name)))
    assert any(line.strip().startswith(f"{name}: ") for line in lines)


def test_few_images_of_a_class_are_said() -> None:
    assert "with about 6 of a class one image is 17% of its recall" in "\n".join(advice(_verdict(FAILED, images=12)))


def test_promotion_and_comparison_with_a_champion_have_none() -> None:
    assert advice(_verdict()) == []
    assert advice(replace(_verdict(FAILED), champion=SIDE)) == []
    assert advice(_verdict(replace(FAILED, name="champion"))) == []
