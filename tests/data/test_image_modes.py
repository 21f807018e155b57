"""Modes of many images, and rows of a file that are read together."""

from pathlib import Path

import numpy as np
import pytest

from podium.data.image_modes import Modes, is_grey
from podium.data.image_store import RowFile


@pytest.mark.parametrize(
    ("modes", "grey"),
    [
        ([], []),
        (["L"], [True]),
        (["RGB", "L", "RGB"], [False, True, False]),
        (["L (animated)", "P", "LA (transparent)", "I;16"], [True, False, True, True]),
    ],
)
def test_modes_are_the_texts_they_were_made_of(modes: list[str], grey: list[bool]) -> None:
    found = Modes.of(modes)
    assert list(found) == modes
    assert found[: len(modes)] == modes
    assert found.counts() == {mode: modes.count(mode) for mode in modes}
    assert found.where(is_grey).tolist() == grey


@pytest.mark.parametrize("numbers", [[], [0], [3, 4, 5], [5, 4, 3], [0, 1, 7, 2, 3, 3, 9], [9, 0]])
def test_rows_of_a_file_come_in_the_order_asked_for(tmp_path: Path, numbers: list[int]) -> None:
    rows = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3)
    file = RowFile(tmp_path / "rows", (2, 3))
    file.append(rows)
    np.testing.assert_array_equal(file.take(np.array(numbers, np.int64)), rows[numbers])
    file.close()


@pytest.mark.parametrize(("numbers", "missing"), [([10], 10), ([8, 9, 10], 10), ([0, 12], 12)])
def test_row_that_is_not_there_is_named(tmp_path: Path, numbers: list[int], missing: int) -> None:
    file = RowFile(tmp_path / "rows", (4,))
    file.append(np.zeros((10, 4), np.uint8))
    with pytest.raises(EOFError, match=f"^row {missing} of "):
        file.take(np.array(numbers, np.int64))
    file.close()
