"""What a retraining tells of an epoch."""

import pytest

from podium.retraining.resumable import epoch_text
from podium.training.epochs import Epoch


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        ({"epoch": 1, "train_loss": 0.25, "seconds": 2.0}, "loss 0.2500, 50 images/s"),
        ({"epoch": 1, "val_accuracy": 0.5, "seconds": 2.0}, "50 images/s"),
        ({"epoch": 1, "seconds": 0.0}, "1,000,000 images/s"),
    ],
    ids=["with a loss", "an own loop without one", "too short for the clock"],
)
def test_epoch_is_told_with_what_it_has(epoch: Epoch, text: str) -> None:
    assert epoch_text(epoch, 100) == text
