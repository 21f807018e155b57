"""Tests of a window against the reference: what is the same raises no alarm, what is not is named."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from drift_world import CLASSES, Pixels, Served, as_pixels, blurred, gain, noisy, reference
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import Verdict, compare, holm

EVEN = (0.25, 0.25, 0.25, 0.25)


def judged(sketch: Sketch, number: int = 1) -> Verdict:
    return compare(reference(), sketch, number, false_alarm=0.05, min_effect=0.1)


def test_windows_of_the_same_images_raise_no_alarm() -> None:
    served = Served()
    verdicts = [judged(served.sketch(), number) for number in range(1, 51)]
    assert [one.words for one in verdicts if one.drifted] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: as_pixels(images * 0.6), "darker"),
        (lambda images: as_pixels(images * 1.5), "brighter"),
        (blurred, "blurred"),
        (noisy, "noisier"),
        (gain(1.25, 1, 0.75), "colour cast to red"),
        (gain(0.9, 1, 1.15), "colour cast to blue"),
        (gain(1, 1.15, 1), "colour cast to green"),
        (gain(1.1, 0.9, 1.1), "colour cast to magenta"),
        (lambda images: as_pixels(images.mean(axis=1, keepdims=True).repeat(3, axis=1)), "paler colours"),
        (lambda images: as_pixels(128 + (images - 128.0) * 0.5), "lower contrast"),
        (
            lambda images: as_pixels(images * np.where(np.arange(len(images)) % 2, 0.4, 1)[:, None, None, None]),
            "darker",
        ),
    ],
)
def test_changed_camera_is_named_within_one_window(change: Callable[[Pixels], Pixels], words: str) -> None:
    assert words in judged(Served().sketch(change=change)).words.split(", ")


@pytest.mark.parametrize(
    ("size", "words"),
    [((64, 48), "larger images"), ((24, 18), "smaller images"), ((24, 32), ""), ((48, 16), "longer images")],
)
def test_other_resolution_is_named_and_a_turned_image_is_none(size: tuple[int, int], words: str) -> None:
    verdict = judged(Served().sketch(size=size))
    assert [one.words for one in verdict.changes if one.drifted] == ([words] if words else [])


def test_other_class_mix_is_named_with_its_classes() -> None:
    verdict = judged(Served().sketch(mix=(0.6, 0.1, 0.15, 0.15)))
    (classes,) = [one for one in verdict.changes if one.feature == "classes"]
    assert classes.drifted
    assert classes.words.startswith("other classes: more flat (")
    assert 0.25 < classes.effect < 0.4


def test_difference_that_nobody_cares_for_is_no_drift_however_sure_it_is() -> None:
    sketch = Served().sketch(1000, lambda images: as_pixels(images + 9.0))
    loose, strict = (compare(reference(), sketch, 1, 0.05, least) for least in (0.0, 0.3))
    (brightness,) = [one for one in loose.changes if one.feature == "brightness"]
    assert brightness.adjusted < loose.level
    assert (loose.drifted, strict.drifted) == (True, False)


def test_levels_of_all_windows_add_up_to_the_chance_of_a_false_alarm() -> None:
    sketch = Served().sketch(60)
    levels = [judged(sketch, number).level for number in (1, 2, 3, 10)]
    assert levels == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12, 0.05 / 110])
    assert sum(0.05 / (number * (number + 1)) for number in range(1, 100_000)) < 0.05


def test_few_images_are_not_tested() -> None:
    verdict = judged(Served().sketch(49, lambda images: 0 * images))
    assert (verdict.changes, verdict.drifted) == ((), False)


def test_unknown_sizes_are_left_out() -> None:
    sketch = Served().sketch()
    sketch.rows[:, sketch.features.index("size")] = np.nan
    assert "size" not in {one.feature for one in judged(sketch).changes}


@pytest.mark.parametrize("classes", [2, 40, 1000])
def test_class_shares_of_many_rare_classes_raise_no_alarm_and_a_shift_does(classes: int) -> None:
    draw = np.random.default_rng(classes)
    shares = np.sort(draw.dirichlet(np.ones(classes)))[::-1]
    names = tuple(f"class {n}" for n in range(classes))
    kind = dataclasses.replace(
        reference(),
        classes=names,
        class_counts=draw.multinomial(2000, shares),
        answer_names=(),
        answers=np.empty((600, 0), np.float32),
    )

    def verdict(of: np.ndarray, number: int) -> Verdict:
        sketch = Served(number).sketch(60)
        sketch.class_counts = draw.multinomial(1000, of)
        return compare(kind, sketch, number, 0.05, 0.1)

    assert not any(verdict(shares, number).drifted for number in range(1, 11))
    assert verdict(shares[::-1], 1).words.startswith("other classes: ")


def test_holm_is_the_textbook_method() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 1.0]
    assert holm(values) == pytest.approx([0.04, 0.09, 0.09, 0.025, 1.0])
    assert all(one >= other - 1e-12 for one, other in zip(holm(values), false_discovery_control(values), strict=True))
    assert holm([]) == []


def test_class_names_stay_on_one_line() -> None:
    odd = dataclasses.replace(reference(), classes=("a\nb\x1b[31m", *CLASSES[1:]))
    words = compare(odd, Served().sketch(mix=(0.7, 0.1, 0.1, 0.1)), 1, 0.05, 0.1).words
    assert "a\\nb\\x1b[31m" in words
