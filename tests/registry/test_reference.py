"""The predictions stored in a registered model."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from podium.config.recipe import ModelParams
from podium.data.decode import Preprocess, decode
from podium.models.build import build_model
from podium.registry import exported


def test_evaluated_predictions_are_a_few_images_with_what_was_predicted() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    probabilities = np.tile(np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32), (10, 1))
    rows = exported.evaluated_predictions(images, probabilities, ["no", "yes"])
    assert len(rows) == exported.EXAMPLES
    assert [(row["label"], row["probability"]) for row in rows[:2]] == [("yes", 0.75), ("no", 0.5)]
    for row, image in zip(rows, images, strict=False):
        np.testing.assert_array_equal(decode(base64.b64decode(row["image"]), Preprocess(3, 8, 8)), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_converted_predictions_are_of_files_that_have_to_be_resized_and_converted(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 8, 8), dtype=np.uint8)
    spec = Preprocess(channels, 8, 8)
    torch.manual_seed(0)
    model = build_model(ModelParams(width=2, hidden=8), tiny.spec((channels, 8, 8), 2))
    rows = exported.converted_predictions(model, images, spec, ["no", "yes"])
    files = [base64.b64decode(row["image"]) for row in rows]
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    assert [(picture.format, picture.mode) for picture in pictures[:-1]] == [("PNG", mode) for mode in exported.MODES]
    assert {picture.size for picture in pictures[:-1]} == {(19, 25)}
    assert (pictures[-1].format, pictures[-1].size) == ("JPEG", (255, 255))
    with torch.no_grad():
        expected = model(torch.from_numpy(np.stack([decode(file, spec) for file in files]))).softmax(1)
    np.testing.assert_allclose([row["probability"] for row in rows], expected.max(1).values, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (Preprocess(1, 28, 40), (319, 255)),
        (Preprocess(1, 300, 8), (255, 2048)),
        (Preprocess(1, 28, 28, max_pixels=10_000), (100, 100)),
    ],
    ids=["half", "largest", "as large as is taken"],
)
def test_jpeg_among_the_converted_predictions_is_one_that_is_decoded_at_a_part_of_its_size(
    spec: Preprocess, size: tuple[int, int]
) -> None:
    images = np.zeros((1, 1, spec.height, spec.width), np.uint8)
    model = build_model(ModelParams(width=2, hidden=8), tiny.spec(images.shape[1:], 2))
    rows = exported.converted_predictions(model, images, spec, ["no", "yes"])
    assert Image.open(io.BytesIO(base64.b64decode(rows[-1]["image"]))).size == size
