import pytest
import torch

from podium.training.optimization import class_weights


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
