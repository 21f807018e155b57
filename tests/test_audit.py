import json
from pathlib import Path

import numpy as np

from podium.audit import Audit, Duplicates, audit
from podium.splitting import Division

CLASSES = ("a|b", "c")


def _audit(kinds: list[int], labels: list[int], test: list[int]) -> Audit:
    """An audit of images that are equal where their `kinds` are; the rows `test` are in the test split."""
    rows = np.arange(len(kinds), dtype=np.int64)
    prints = np.array([[0, 0, 0, kind] for kind in kinds], np.uint64)
    division = Division(np.setdiff1d(rows, test), np.zeros(0, np.int64), np.array(test, np.int64))
    return audit(prints, np.array(labels, np.int64), CLASSES, division)


def test_audit_of_different_images_finds_no_duplicates() -> None:
    found = _audit([1, 2, 3], [0, 1, 1], test=[2])

    nothing = Duplicates(0, 0, [])
    assert (found.same_class, found.conflicting, found.leaking) == (nothing, nothing, nothing)
    assert found.counts == {"a|b": {"train": 1, "val": 0, "test": 0}, "c": {"train": 1, "val": 0, "test": 1}}
    assert found.sentence() == "none"


def test_audit_of_equal_images_names_them_by_kind() -> None:
    found = _audit([7, 7, 7, 8, 8, 9], [0, 0, 0, 0, 1, 1], test=[2])

    assert found.same_class == Duplicates(1, 3, [{"classes": ["a|b"], "images": ["test[0]", "train[0]", "train[1]"]}])
    assert found.conflicting == Duplicates(1, 2, [{"classes": ["a|b", "c"], "images": ["train[2]", "train[3]"]}])
    assert found.leaking == Duplicates(1, 3, found.same_class.examples)
    assert found.sentence() == (
        "1 groups of one class (3 images); 1 groups with conflicting labels (2 images); 1 groups in the source's test"
        " split and outside of it"
    )


def test_audit_of_equal_images_inside_the_test_split_finds_no_leak() -> None:
    found = _audit([7, 7, 8], [0, 0, 1], test=[0, 1])

    assert found.same_class.groups == 1
    assert found.leaking.groups == 0


def test_audit_with_many_groups_shows_ten_and_counts_all(tmp_path: Path) -> None:
    found = _audit([kind for kind in range(30) for _ in range(2)], [0] * 60, test=[])

    found.write(tmp_path)

    report = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert report["same_class"]["groups"] == 30
    assert len(report["same_class"]["examples"]) == 10
    page = (tmp_path / "audit.md").read_text(encoding="utf-8")
    assert "- with one label: 30 groups, 60 images" in page
    assert "and 20 groups more" in page


def test_audit_page_has_a_row_a_class_that_its_name_can_not_break() -> None:
    page = _audit([1, 2, 3], [0, 1, 1], test=[2]).markdown().splitlines()

    assert "| a\\|b | 1 | 0 | 0 |" in page
    assert "| all | 2 | 0 | 1 |" in page
