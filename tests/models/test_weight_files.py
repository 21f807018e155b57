import hashlib
from pathlib import Path

import pytest

from podium.config.recipe import Recipe
from podium.config.space import Dimension
from podium.errors import InputError
from podium.models.weight_files import digests

RESNET18 = Recipe().replace({"model.name": "torchvision:resnet18", "model.weights": "a.pt"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.pt", "b.safetensors", "c.pt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    return tmp_path


def _sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.mark.parametrize(
    ("base", "space", "files"),
    [
        (Recipe(), {}, []),
        (RESNET18, {}, ["a.pt"]),
        (RESNET18.replace({"model.name": "cnn"}), {}, []),  # which does not read them
        (RESNET18.replace({"model.name": "cnn"}), {"model.name": ["cnn", "torchvision:vgg11"]}, ["a.pt"]),
        (RESNET18, {"model.weights": ["", "a.pt", "b.safetensors"]}, ["a.pt", "b.safetensors"]),
    ],
)
def test_digests_are_of_the_files_that_a_trial_may_start_from(
    folder: Path, base: Recipe, space: dict[str, list[str]], files: list[str]
) -> None:
    dimensions = {name: Dimension.model_validate({"choices": choices}) for name, choices in space.items()}

    assert digests(base, dimensions, folder) == {name: _sha(name) for name in files}


def test_missing_file_is_refused_before_any_trial(folder: Path) -> None:
    with pytest.raises(InputError, match=r"model\.weights: z\.pt must lie in .*, and does not"):
        digests(RESNET18.replace({"model.weights": "z.pt"}), {}, folder)
