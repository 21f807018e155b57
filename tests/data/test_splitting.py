"""Where images go: those that are known stay, those of a group go together, the rest is drawn by class."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podium.data.split_file import PLACES, SplitFile
from podium.data.splitting import NAMES, Images, Placed, SourceGroups, place
from podium.errors import InputError

FRACTIONS = 0.15, 0.15
TRAIN, VAL, TEST, NOWHERE, NEW = 0, 1, 2, 3, -1


def _images(labels: list[int] | NDArray[np.int64], **changes: Any) -> Images:
    """Images of these classes, each one known by its number; nothing about them is known but what `changes` says."""
    count = len(labels)
    fields: dict[str, Any] = {
        "contents": _contents(np.arange(count)),
        "labels": np.array(labels, np.int64),
        "given": np.full(count, NEW, np.int8),
        "near": np.arange(count),
        "groups": SourceGroups.of([None] * count),
        "used": np.ones(count, np.bool_),
        "known": np.full(count, NEW, np.int8),
        "origins": [f"{number}.png" for number in range(count)],
    }
    return Images(**fields | {name: np.array(v) if isinstance(v, list) else v for name, v in changes.items()})


def _contents(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Digests of these images, in no order."""
    return numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _place(images: Images, val: float = 0.15, test: float = 0.15, salt: str = "a") -> Placed:
    classes = [f"class {k:04}" for k in range(int(images.labels.max()) + 1)]
    return place(images, classes, val, test, salt, "split.csv")


def _table(images: Images, places: NDArray[np.int8]) -> NDArray[np.int64]:
    """Images by class and split."""
    table = np.zeros((int(images.labels.max()) + 1, len(PLACES)), np.int64)
    np.add.at(table, (images.labels[images.used], places[images.used]), 1)
    return table


@pytest.mark.parametrize(
    "counts",
    [[10] * 10, [12] * 1000, [50] * 1000, [3] * 7, [5, 90, 1000, 12, 7], [1797]],
    ids=["ten classes of ten", "1,000 of 12", "1,000 of 50", "seven of three", "out of balance", "one class"],
)
def test_fractions_hold_to_one_image_a_class_and_no_split_of_a_class_is_empty(counts: list[int]) -> None:
    images = _images(np.repeat(np.arange(len(counts)), counts))
    table = _table(images, _place(images).places)[:, :3]
    assert table.min() >= 1
    if min(counts) > 3:  # three images can only be one in each
        assert np.abs(table - np.outer(counts, (0.7, 0.15, 0.15))).max() < 1
        assert np.abs(table.sum(0) / sum(counts) - (0.7, 0.15, 0.15)).max() < 0.005


@pytest.mark.parametrize("salt", ["a", "b", "podium"])
def test_fractions_hold_to_one_group_a_class_whatever_the_sizes_of_groups(salt: str) -> None:
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 9, 900)
    near = np.repeat(np.arange(900), sizes)
    labels = near % 6
    order = draw.permutation(len(near))
    images = _images(labels[order], near=near[order])
    places = _place(images, salt=salt).places
    assert np.abs(_table(images, places)[:, :3] - np.outer(np.bincount(labels), (0.7, 0.15, 0.15))).max() <= sizes.max()
    assert len(np.unique(np.stack([images.near, places]), axis=1).T) == 900  # each group in one split


def test_groups_of_several_classes_hold_the_fractions_of_each() -> None:
    draw = np.random.default_rng(1)
    patients = draw.integers(0, 120, 3000)
    images = _images(draw.integers(0, 5, 3000), groups=SourceGroups.of([f"patient {n}" for n in patients]))
    table = _table(images, _place(images).places)[:, :3]
    assert np.abs(table / table.sum(1, keepdims=True) - (0.7, 0.15, 0.15)).max() < 0.04


def test_place_follows_from_content_and_salt_and_not_from_the_order_of_images() -> None:
    labels = np.arange(300) % 3
    first = _images(labels)
    order = np.random.default_rng(0).permutation(300)
    second = _images(labels[order], contents=first.contents[order], near=first.near[order])
    assert np.array_equal(_place(first).places[order], _place(second).places)
    assert not np.array_equal(_place(first).places, _place(first, salt="b").places)


def test_set_that_grows_by_thirds_moves_nothing_and_holds_its_fractions() -> None:
    labels = np.random.default_rng(0).integers(0, 9, 900)
    known = SplitFile.empty("a")
    before = np.zeros(0, np.int8)
    for count in (300, 600, 900):
        contents = _contents(np.arange(count))
        images = _images(labels[:count], known=known.find(contents))
        places = _place(images).places
        assert np.array_equal(places[: len(before)], before)
        table = _table(images, places)[:, :3]
        assert np.abs(table - np.outer(np.bincount(labels[:count]), (0.7, 0.15, 0.15))).max() < 1
        known, before = known.with_images(contents, places, "copies"), places


@pytest.mark.parametrize(
    ("known", "added"),
    [
        ([TRAIN], TRAIN),
        ([VAL], VAL),
        ([TEST], TEST),
        ([TEST, TEST], TEST),
        ([TRAIN, TEST], NOWHERE),
        ([TRAIN, VAL], NOWHERE),
        ([TEST, NOWHERE], TEST),
    ],
)
@pytest.mark.parametrize("by", ["near", "groups"])
def test_added_image_goes_where_its_group_is_and_nowhere_if_that_is_in_several_splits(
    known: list[int], added: int, by: str
) -> None:
    """`by` near-duplicates, or by one image that brings a group of the source to a near-duplicate of another one."""
    together = len(known) + 1
    others = 30
    images = _images([0] * (together + others), known=np.array([*known, NEW, *[TRAIN] * others], np.int8))
    if by == "near":
        images.near[:together] = 0
    else:
        names = [*(f"p{place}" for place in known), f"p{known[0]}", *[None] * others]
        images = _images([0] * len(names), known=images.known, groups=SourceGroups.of(names), near=images.near)
        images.near[[len(known) - 1, len(known)]] = 0
    places = _place(images).places
    assert places[: together - 1].tolist() == known
    assert places[together - 1] == added


def test_image_between_two_groups_leaves_both_where_they_are_and_lets_them_grow() -> None:
    """A shared frame is in no split; other new images of either patient still follow the patient."""
    groups = SourceGroups.of(["p1", "p1", "p2", "p2", "p1", "p1", "p2"] + [None] * 20)
    known = np.array([TRAIN, TRAIN, TEST, TEST, NEW, NEW, NEW] + [VAL] * 20, np.int8)
    images = _images([0] * 27, groups=groups, known=known)
    images.near[4] = images.near[2]  # of the first patient, and a near-duplicate of an image of the second
    assert _place(images).places[:7].tolist() == [TRAIN, TRAIN, TEST, TEST, NOWHERE, TRAIN, TEST]


def test_images_that_are_not_used_bring_their_group_to_their_place_and_count_for_no_class() -> None:
    known = np.array([TEST] + [NEW] * 40, np.int8)
    images = _images([0] * 41, known=known, used=np.arange(41) > 0)
    images.near[1] = 0
    places = _place(images).places
    assert places[1] == TEST
    assert np.abs(_table(images, places)[0, :3] - np.array([28, 6, 6])).max() < 1
    alone = _images([0] * 21, used=np.arange(21) > 0)
    assert _place(alone).places[0] == NEW  # nothing is remembered of it


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"test": 20}, {"train": 59.5, "val": 10.5, "test": 30}),
        ({"val": 20}, {"train": 59.5, "val": 30, "test": 10.5}),
        ({"val": 20, "test": 20}, {"train": 60, "val": 20, "test": 20}),
        ({"train": 20}, {"train": 70, "val": 15, "test": 15}),
        ({"train": 30, "test": 20}, {"train": 68, "val": 12, "test": 20}),
    ],
)
def test_given_splits_stay_and_the_others_are_drawn_from_what_is_left(
    given: dict[str, int], expected: dict[str, float]
) -> None:
    column = np.full(100, NEW, np.int8)
    start = 0
    for name, count in given.items():
        column[start : start + count] = NAMES.index(name)
        start += count
    images = _images([0] * 100, given=column)
    places = _place(images).places
    assert (places[column > 0] == column[column > 0]).all()
    whole = {name: 100.0 * part for name, part in zip(NAMES, (0.7, 0.15, 0.15), strict=True)}
    left = 100 - sum(count for name, count in given.items() if name != "train")
    for k, name in enumerate(NAMES):
        drawn = given.get(name, 0) if name in given and name != "train" else None
        want = drawn if drawn is not None else whole[name] / 100 * left
        if name == "train":
            want = left - sum(whole[other] / 100 * left for other in ("val", "test") if other not in given)
        assert abs((places == k).sum() - want) < 1, (name, expected)


def test_image_without_a_split_goes_to_that_of_its_given_near_duplicate() -> None:
    given = np.array([TEST] * 10 + [NEW] * 90, np.int8)
    images = _images([0] * 100, given=given)
    images.near[50] = images.near[3]
    assert _place(images).places[50] == TEST


def test_given_train_image_stays_where_its_near_duplicate_is_a_given_test_image() -> None:
    """The audit reports the leak, and its policy decides."""
    given = np.array([TEST] * 10 + [VAL] * 10 + [TRAIN] * 80, np.int8)
    images = _images([0] * 100, given=given)
    images.near[50] = images.near[3]
    assert _place(images).places[50] == TRAIN


@pytest.mark.parametrize(("known", "given"), [(TEST, TRAIN), (TEST, VAL), (TRAIN, TEST), (VAL, TEST), (TRAIN, VAL)])
def test_source_that_gives_an_image_another_split_than_it_has_is_refused(known: int, given: int) -> None:
    column = np.array([VAL, TEST, TRAIN, given, given], np.int8)
    images = _images([0] * 5, given=column, known=np.array([NEW, NEW, NEW, known, known], np.int8))
    words = f"gives 2 images another split than split.csv remembers \\({NAMES[known]} to {NAMES[given]}\\)"
    words += f": '3.png' \\(it was {NAMES[known]}\\), '4.png' \\(it was {NAMES[known]}\\)\\. A test image"
    with pytest.raises(InputError, match=f"^prepare.source: {words}.*or delete split.csv to split all images again"):
        _place(images)


def test_equal_images_in_two_given_splits_are_no_contradiction_to_their_one_line() -> None:
    given = np.array([VAL, TEST, TRAIN, TRAIN], np.int8)
    images = _images([0] * 4, given=given, known=np.array([VAL, TEST, TEST, TRAIN], np.int8))
    images.contents[2] = images.contents[1]
    assert _place(images).places.tolist() == [VAL, TEST, TRAIN, TRAIN]


def test_validation_image_that_was_drawn_stays_where_the_source_still_gives_it_as_train() -> None:
    given = np.array([TEST] * 5 + [TRAIN] * 20, np.int8)
    known = np.array([TEST] * 5 + [VAL] * 4 + [TRAIN] * 16, np.int8)
    assert np.array_equal(_place(_images([0] * 25, given=given, known=known)).places, known)


@pytest.mark.parametrize("what", ["given", "known"])
def test_group_with_images_in_several_splits_is_refused(what: str) -> None:
    groups = SourceGroups.of(["a", "a", "b", "b", None])
    images = _images([0] * 5, groups=groups, **{what: np.array([TRAIN, TEST, VAL, NEW, TRAIN], np.int8)})
    with pytest.raises(InputError, match=r"^prepare.source: all images of a group .* several: 'a' \(train, test\)\. "):
        _place(images)


def test_groups_of_a_class_are_counted_for_whoever_refuses_too_few() -> None:
    images = _images([0] * 6 + [1] * 4, near=np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 4]))
    assert _place(images).groups_per_class.tolist() == [2, 3]
