import pytest
import torch

from podium.balance import class_weights, draw_balanced


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([10, 10], [1.0, 1.0]), ([30, 10], [2 / 3, 2.0]), ([50, 10, 0], [60 / 150, 60 / 30, 60 / 3])],
)
def test_weight_of_a_class_is_inverse_to_its_images(counts: list[int], expected: list[float]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert class_weights(labels, len(counts)).tolist() == pytest.approx(expected)


def test_weights_are_1_on_average_over_the_images() -> None:
    labels = torch.randint(0, 5, (200,))
    assert float(class_weights(labels, 5)[labels].mean()) == pytest.approx(1.0)


def test_drawn_rows_have_each_class_about_as_often_and_follow_from_the_generator() -> None:
    labels = torch.cat([torch.zeros(900, dtype=torch.int64), torch.ones(90), torch.full((10,), 2)]).long()
    rows = draw_balanced(labels, 3000, torch.Generator().manual_seed(0))
    assert all(900 <= count <= 1100 for count in torch.bincount(labels[rows]).tolist())
    assert torch.equal(rows, draw_balanced(labels, 3000, torch.Generator().manual_seed(0)))
    assert not torch.equal(rows, draw_balanced(labels, 3000, torch.Generator().manual_seed(1)))
