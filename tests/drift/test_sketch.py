"""Sketches: merged in any order and grouping they are the same, bounded, uniform, and damage is seen."""

import io
import json
from collections.abc import Callable

import numpy as np
import pytest

from drift_repacked import repacked
from podium.drift.sketch import SAMPLE, Sketch
from podium.errors import InputError


def some(seed: int, count: int = 700) -> Sketch:
    draw = np.random.default_rng(seed)
    found = Sketch(("a", "b"), 3)
    found.add(
        draw.normal(size=(count, 2)).astype(np.float32), draw.random(count), draw.integers(0, 3, count), 10.0 * seed
    )
    return found


def merged(*parts: Sketch) -> Sketch:
    whole = Sketch(("a", "b"), 3)
    for part in parts:
        whole.merge(part)
    return whole


def test_sketches_merge_alike_in_any_order_and_grouping() -> None:
    one = merged(some(1), some(2), some(3))
    other = merged(some(3), merged(some(2), some(1)))
    assert one.to_bytes() == other.to_bytes()
    assert (one.count, len(one.draws), one.began, one.ended) == (2100, SAMPLE, 10.0, 30.0)
    assert one.class_counts.tolist() == sum(some(n).class_counts for n in (1, 2, 3)).tolist()  # type: ignore[union-attr]


def test_sample_is_of_all_images_alike() -> None:
    kept = np.zeros(4)
    for seed in range(30):
        draw = np.random.default_rng(seed)
        parts = [Sketch(("a",), 1) for _ in range(4)]
        for number, part in enumerate(parts):
            part.add(np.full((500, 1), number, np.float32), draw.random(500), np.zeros(500, np.int64), 0.0)
        whole = Sketch(("a",), 1)
        for part in parts:
            whole.merge(part)
        kept += np.bincount(whole.rows[:, 0].astype(int), minlength=4)
    assert kept.sum() == 30 * SAMPLE
    assert np.abs(kept / kept.sum() - 0.25).max() < 0.01


def test_file_is_bounded_whatever_is_answered() -> None:
    whole = merged(*(some(seed, 2000) for seed in range(20)))
    assert (whole.count, len(whole.rows)) == (40_000, SAMPLE)
    assert len(whole.to_bytes()) < 20_000  # two features; 16 of them and 1,000 classes stay below 100 kB


def test_images_that_would_not_be_kept_need_no_features() -> None:
    full = some(1, 2 * SAMPLE)
    before = full.draws.copy()
    full.add(np.empty((0, 2), np.float32), np.empty(0), np.array([2, 2]), 5.0)
    assert full.count == 2 * SAMPLE + 2
    assert np.array_equal(full.draws, before)
    assert 0 < full.limit < 1
    assert some(1).limit == 1.0


def test_sketch_of_another_model_is_not_merged() -> None:
    with pytest.raises(
        InputError, match="must be of the same features and classes; got a, b with 3 classes and a with 3"
    ):
        some(1).merge(Sketch(("a",), 3))


def test_file_gives_the_same_sketch_again() -> None:
    for one in (some(1), Sketch(("a", "b"), 3)):
        again = Sketch.from_bytes(one.to_bytes(), "it")
        assert again.to_bytes() == one.to_bytes()


def other_archive(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(json.dumps([])))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-30],
        lambda data: data[:300] + b"\xff" + data[301:],
        lambda data: b"[]",
        other_archive,
        repacked(("rows", "draws", "class_counts"), format=2),
        repacked(("rows", "draws", "class_counts"), features="ab"),
        repacked(("rows", "draws", "class_counts"), features=["a", "a"]),
        repacked(("rows", "draws", "class_counts"), features=["a"]),
        repacked(("rows", "draws", "class_counts"), began="now"),
        repacked(("rows", "draws", "class_counts"), class_counts=[1, -1, 3]),
        repacked(("rows", "draws", "class_counts"), class_counts=np.array([1, 2, 3], np.int64)),
        repacked(("rows", "draws", "class_counts"), draws=np.zeros((3, 3))),
    ],
)
def test_damaged_file_is_refused_by_its_name(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InputError, match="open.npz is damaged"):
        Sketch.from_bytes(damage(some(1).to_bytes()), "open.npz")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda _: b"half a file", r"not all of it can be read \(\w+\)"),  # numpy advises allow_pickle=True here
        (lambda data: data.replace(b"rows.npy", b"\xffows.npy", 1), r"not all of it can be read \(\w+\)"),
        (other_archive, r"it has other arrays than rows, draws, class_counts"),
    ],
)
def test_reason_of_damage_is_a_sentence_of_podium(damage: Callable[[bytes], bytes], why: str) -> None:
    with pytest.raises(InputError, match=rf"^open\.npz is damaged: ({why})$"):
        Sketch.from_bytes(damage(some(1).to_bytes()), "open.npz")
