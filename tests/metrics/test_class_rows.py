"""Rows of per_class.csv in the order in which people look at them."""

from podium.metrics.class_rows import by_recall, has_images


def test_classes_without_test_images_come_last() -> None:
    given = [("a", "0", "0.0"), ("b", "3", "0.9"), ("c", "3", "0.0"), ("d", "0", "0.0"), ("e", "1", "0.0")]
    rows = [{"class": name, "support": support, "recall": recall} for name, support, recall in given]
    found = by_recall(rows)
    assert [row["class"] for row in found] == ["c", "e", "b", "a", "d"]
    assert [has_images(row) for row in found] == [True, True, True, False, False]
