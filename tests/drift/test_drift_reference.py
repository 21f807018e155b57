"""The reference of a version: of duplicates one counts, what is drawn is fixed, and damage is seen."""

from collections.abc import Callable

import numpy as np
import pytest

from drift_repacked import repacked
from drift_world import CLASSES, answer, reference, scenes, sizes
from podium.drift import reference as module
from podium.drift.reference import Reference, reference_of
from podium.errors import InputError


def test_one_image_of_a_group_of_duplicates_counts() -> None:
    images = scenes(10, seed=1)
    made = reference_of(images, np.array([0, 1, 1, 1, 2, 3, 3, 4, 5, 6]), None, answer(images), CLASSES)
    assert (len(made.inputs), len(made.answers)) == (7, 10)
    assert made.takes_sizes is False
    assert set(made.names) == set(reference().names) - {"size", "elongation"}


def test_many_images_are_drawn_alike_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 50)
    images = scenes(120, seed=1)
    one, other = (
        reference_of(images, np.arange(120), sizes(120).astype(np.int32), answer(images), CLASSES) for _ in range(2)
    )
    assert one.to_bytes() == other.to_bytes()
    assert (len(one.inputs), len(one.answers), int(one.class_counts.sum())) == (50, 50, 120)
    whole = reference_of(images[:40], np.arange(40), None, answer(images), CLASSES)
    assert len(whole.inputs) == 40


def test_file_gives_the_same_reference_again() -> None:
    again = Reference.from_bytes(reference().to_bytes(), "it")
    assert again.to_bytes() == reference().to_bytes()
    assert (again.classes, again.names) == (CLASSES, reference().names)
    assert len(again.to_bytes()) < 200_000


@pytest.mark.parametrize(("images", "answers"), [(0, 5), (5, 0)])
def test_reference_of_nothing_is_refused(images: int, answers: int) -> None:
    with pytest.raises(InputError, match=f"needs training images and held-out predictions; got {images} and {answers}"):
        reference_of(scenes(images, 0), np.arange(images), None, answer(scenes(5, 0))[:answers], CLASSES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:200],
        lambda data: b"null",
        repacked(("inputs", "answers", "class_counts"), format=None),
        repacked(("inputs", "answers", "class_counts"), classes=["a", "b"]),
        repacked(("inputs", "answers", "class_counts"), classes=None),
        repacked(("inputs", "answers", "class_counts"), input_names=["brightness", "colour of the moon"]),
        repacked(("inputs", "answers", "class_counts"), inputs=np.zeros((0, 9), np.float32)),
        repacked(("inputs", "answers", "class_counts"), inputs=np.zeros((3, 9))),
        repacked(("inputs", "answers", "class_counts"), class_counts=np.array([1, 2, 3, -4])),
    ],
)
def test_damaged_file_is_refused_by_its_name(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InputError, match="drift.npz of version 3 is damaged"):
        Reference.from_bytes(damage(reference().to_bytes()), "drift.npz of version 3")
