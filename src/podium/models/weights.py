"""Files of weights that a network of torchvision's starts from: they lie in data/weights, which DVC watches."""

import hashlib
from pathlib import Path

from podium import paths
from podium.config.dimension import Dimension
from podium.config.recipe import Recipe
from podium.config.zoo import PREFIX
from podium.errors import InputError


def digests(base: Recipe, space: dict[str, Dimension], folder: Path = paths.WEIGHTS) -> dict[str, str]:
    """SHA-256 of each file of `folder` that a trial of `space` around `base` may start from, by name.

    Raises InputError where one is missing: before hours of search, not in them.
    """
    names = _values("model.name", base, space)
    files = _values("model.weights", base, space) if any(name.startswith(PREFIX) for name in names) else set()
    missing = [file for file in files if file and not (folder / file).is_file()]
    if missing:
        raise InputError(f"model.weights: {', '.join(sorted(missing))} must lie in {folder}, and does not")
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in sorted(files) if file}


def _values(field: str, base: Recipe, space: dict[str, Dimension]) -> set[str]:
    values = space[field].values() if field in space else [base.flat()[field]]
    return {str(value) for value in values}
