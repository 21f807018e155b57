import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from podium.data.splitting import Division, SourceGroups, divide, fingerprints, hash_buckets
from podium.errors import InputError

NONE = np.zeros(0, np.int64)


def _images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)


def _members(images: NDArray[np.uint8], division: Division) -> dict[str, set[bytes]]:
    """The images of each part, as bytes."""
    return {name: {images[row].tobytes() for row in rows} for name, rows in division.parts().items()}


def _divide(images: NDArray[np.uint8], salt: str = "a", val: float = 0.2, test: float = 0.3) -> Division:
    return divide(fingerprints(images, salt), np.zeros(len(images), np.int64), val, test)


def test_fingerprint_is_sha256_of_salt_shape_and_pixels() -> None:
    images = _images(2)

    (_, words) = fingerprints(images, "pepper")

    digest = hashlib.sha256(b"pepper\x1f1x4x4\x1f" + images[1].tobytes()).hexdigest()
    assert "".join(f"{word:016x}" for word in words.tolist()) == digest


def test_fingerprints_of_another_memory_layout_are_the_same() -> None:
    images = _images(50)

    assert np.array_equal(fingerprints(np.asfortranarray(images), "a"), fingerprints(images, "a"))


@pytest.mark.parametrize(
    ("first", "place"),
    [(0, 0.0), (1 << 63, 0.5), (2**64 - 1, 1 - 2**-53)],
)
def test_place_is_the_first_bits_as_a_number_below_one(first: int, place: float) -> None:
    assert hash_buckets(np.array([[first, 9, 9, 9]], np.uint64)).tolist() == [place]


def test_division_has_every_image_once_in_about_the_asked_shares() -> None:
    division = _divide(_images(5000), val=0.2, test=0.3)

    rows = np.concatenate(list(division.parts().values()))
    assert sorted(rows) == list(range(5000))
    assert len(division.test) == pytest.approx(1500, abs=150)
    assert len(division.val) == pytest.approx(1000, abs=150)


def test_division_after_images_were_added_moves_none() -> None:
    images = _images(300)
    old = _members(images[:200], _divide(images[:200]))

    new = _members(images, _divide(images))

    assert all(old[name] <= new[name] for name in old)


def test_division_of_another_order_gives_the_same_rows_of_images_and_labels() -> None:
    images, labels = _images(200), np.arange(200) % 3
    images[50:60], labels[50:60] = images[0], np.arange(10) % 2  # duplicates with conflicting labels
    shuffled = np.random.default_rng(1).permutation(200)

    a = divide(fingerprints(images, "a"), labels, 0.2, 0.3)
    b = divide(fingerprints(images[shuffled], "a"), labels[shuffled], 0.2, 0.3)

    for one, other in zip(a.parts().values(), b.parts().values(), strict=True):
        assert np.array_equal(images[one], images[shuffled][other])
        assert np.array_equal(labels[one], labels[shuffled][other])


def test_equal_images_share_a_part_whatever_their_labels() -> None:
    images = np.repeat(_images(40), 5, axis=0)
    labels = np.tile(np.arange(5), 40)

    division = divide(fingerprints(images, "a"), labels, 0.2, 0.3)

    parts = list(_members(images, division).values())
    assert sum(map(len, parts)) == 40


def test_division_with_another_salt_differs() -> None:
    images = _images(200)

    assert _members(images, _divide(images, "a")) != _members(images, _divide(images, "b"))


def test_division_with_a_larger_test_part_takes_nothing_out_of_it() -> None:
    images = _images(200)

    small = _members(images, _divide(images, test=0.1))
    large = _members(images, _divide(images, test=0.3))

    assert small["test"] < large["test"]


def test_division_with_a_given_test_part_keeps_it_and_draws_validation_from_the_rest() -> None:
    images = _images(1000)
    given = np.where(np.arange(1000) >= 800, 2, 0).astype(np.int8)

    division = divide(fingerprints(images, "a"), np.zeros(1000, np.int64), 0.25, 0.3, given)

    assert sorted(division.test) == list(range(800, 1000))
    assert len(division.val) == pytest.approx(200, abs=40)
    assert len(division.train) + len(division.val) == 800


def test_division_with_given_validation_draws_only_the_test_part() -> None:
    images = _images(1000)
    given = np.where(np.arange(1000) >= 800, 1, 0).astype(np.int8)

    division = divide(fingerprints(images, "a"), np.zeros(1000, np.int64), 0.25, 0.3, given)

    assert sorted(division.val) == list(range(800, 1000))
    assert len(division.test) == pytest.approx(240, abs=50)


def test_images_of_one_group_share_a_part() -> None:
    images = _images(400)
    groups = np.arange(400) // 4

    division = divide(fingerprints(images, "a"), np.zeros(400, np.int64), 0.2, 0.3, groups=groups)

    assert sum(len(np.unique(groups[rows])) for rows in division.parts().values()) == 100


def test_group_that_grows_moves_towards_test_but_never_out_of_it() -> None:
    images = _images(600)
    groups = np.arange(600) % 200
    few, many = (
        divide(fingerprints(images[:n], "a"), np.zeros(n, np.int64), 0.2, 0.3, groups=groups[:n]) for n in (200, 600)
    )

    rank = {name: {int(groups[row]) for row in rows} for name, rows in many.parts().items()}
    assert {int(groups[row]) for row in few.test} <= rank["test"]
    assert not {int(groups[row]) for row in few.val} & rank["train"]


def test_image_that_is_left_out_still_decides_where_its_group_goes() -> None:
    images = _images(600)
    prints, labels, groups = fingerprints(images, "a"), np.zeros(600, np.int64), np.arange(600) % 200
    used = np.arange(600) >= 200  # one of each group is left out

    whole = divide(prints, labels, 0.2, 0.3, groups=groups)
    rest = divide(prints, labels, 0.2, 0.3, groups=groups, used=used)

    for name, rows in rest.parts().items():
        assert np.array_equal(rows, whole.parts()[name][used[whole.parts()[name]]])


def test_given_split_of_an_image_that_is_left_out_is_none() -> None:
    images = _images(100)
    given = np.where(np.arange(100) == 0, 2, 0).astype(np.int8)

    division = divide(fingerprints(images, "a"), np.zeros(100, np.int64), 0.2, 0.3, given, used=np.arange(100) > 0)

    assert 0 not in np.concatenate(list(division.parts().values()))
    assert len(division.test) == pytest.approx(30, abs=15)


def test_groups_of_one_image_each_change_nothing() -> None:
    images = _images(200)
    prints = fingerprints(images, "a")

    alone = divide(prints, np.zeros(200, np.int64), 0.2, 0.3, groups=np.arange(200))

    assert _members(images, alone) == _members(images, _divide(images))


def _with_groups(images: NDArray[np.uint8], names: list[str | None], near: NDArray[np.int64] | None = None) -> Division:
    prints, groups = fingerprints(images, "a"), SourceGroups.of(names)
    joined = groups.joined(np.arange(len(images)) if near is None else near)
    buckets = groups.buckets(prints, "a")
    return divide(prints, np.zeros(len(images), np.int64), 0.2, 0.3, groups=joined, buckets=buckets)


def _splits_of(division: Division, names: list[str | None]) -> dict[str | None, set[str]]:
    """The splits of each group."""
    found: dict[str | None, set[str]] = {}
    for part, rows in division.parts().items():
        for row in rows:
            found.setdefault(names[row], set()).add(part)
    return found


def test_groups_of_the_source_are_whole_and_a_split_gets_its_fraction_of_them() -> None:
    names: list[str | None] = [f"patient {row // 10}" for row in range(4000)]

    division = _with_groups(_images(4000), names)

    assert {len(splits) for splits in _splits_of(division, names).values()} == {1}
    assert len(division.test) == pytest.approx(1200, abs=250)
    assert len(division.val) == pytest.approx(800, abs=250)


def test_group_of_the_source_that_gets_more_images_stays_in_its_split() -> None:
    images = _images(900)
    names: list[str | None] = [f"scene {row % 100}" for row in range(900)]

    few, many = (_splits_of(_with_groups(images[:n], names[:n]), names) for n in (200, 900))

    assert few == many


def test_images_without_a_group_stay_where_they_are_when_others_get_one() -> None:
    images = _images(300)
    names: list[str | None] = [None] * 200 + ["burst"] * 100

    before, after = _members(images, _divide(images)), _members(images, _with_groups(images, names))

    alone = {image.tobytes() for image in images[:200]}
    assert all(before[part] & alone == after[part] & alone for part in before)


def test_near_duplicates_join_groups_of_the_source_through_others() -> None:
    names = ["a", "a", "b", "b", "c", None, None]
    near = np.array([0, 1, 1, 3, 4, 3, 6])  # a and b share an image, b and the first without a group

    joined = SourceGroups.of(names).joined(near)

    assert [np.flatnonzero(joined == number).tolist() for number in dict.fromkeys(joined.tolist())] == [
        [0, 1, 2, 3, 5],
        [4],
        [6],
    ]


def test_no_groups_of_the_source_change_nothing() -> None:
    images, groups = _images(200), SourceGroups.of([None] * 200)
    prints, given = fingerprints(images, "a"), np.full(200, -1, np.int8)

    assert np.array_equal(groups.buckets(prints, "a"), hash_buckets(prints))
    assert np.array_equal(groups.given(given), given)
    assert _members(images, _with_groups(images, [None] * 200)) == _members(images, _divide(images))


def test_image_without_a_given_split_has_that_of_its_group() -> None:
    groups = SourceGroups.of(["a", "a", "b", None, "c"])

    assert groups.given(np.array([2, -1, 1, -1, -1], np.int8)).tolist() == [2, 2, 1, -1, -1]


def test_group_in_several_given_splits_is_refused_with_its_name() -> None:
    groups = SourceGroups.of(["a", "a", "b", "b", "c", None])

    message = r"^prepare\.source: .* names several splits for 'a' \(train, test\)\. Give all images of a group the same"
    with pytest.raises(InputError, match=message):
        groups.given(np.array([0, 2, 1, -1, 0, 2], np.int8))
