"""Rows that are made when they are asked for: they are a sequence like a list of them."""

import pytest

from podium.data.lazy_rows import LazyRows


class _Squares(LazyRows[int]):
    def __init__(self, count: int) -> None:
        self._count = count
        self.made: list[int] = []

    def __len__(self) -> int:
        return self._count

    def row(self, number: int) -> int:
        assert 0 <= number < self._count
        self.made.append(number)
        return number**2


def test_rows_are_those_of_a_list() -> None:
    rows, known = _Squares(7), [number**2 for number in range(7)]
    assert list(rows) == known
    assert (rows[2], rows[-1]) == (4, 36)
    for part in (slice(None), slice(2, 5), slice(-3, None), slice(None, None, -2), slice(5, 2), slice(3, 100)):
        assert rows[part] == known[part]
    for number in (7, -8):
        with pytest.raises(IndexError):
            rows[number]


def test_only_the_rows_that_are_asked_for_are_made() -> None:
    rows = _Squares(1_000_000)
    assert (rows[10], rows[5:8], next(iter(rows))) == (100, [25, 36, 49], 0)
    assert rows.made == [10, 5, 6, 7, 0]
