"""Files of weights that a network starts from: they lie in data/weights, which DVC watches."""

import hashlib
from pathlib import Path

from podium import components, paths
from podium.config.recipe import Recipe
from podium.config.space import Dimension
from podium.errors import InputError


def digests(base: Recipe, space: dict[str, Dimension], folder: Path = paths.WEIGHTS) -> dict[str, str]:
    """SHA-256 of each file of `folder` that a trial of `space` around `base` may start from, by name.

    Raises InputError where one is missing: before hours of search, not in them.
    """
    networks = [components.find("network", str(name)) for name in _values("model.name", base, space)]
    taken = any(network is None or network.TAKES_WEIGHTS for network in networks)
    files = _values("model.weights", base, space) if taken else set()
    missing = [file for file in files if file and not (folder / file).is_file()]
    if missing:
        raise InputError(f"model.weights: {', '.join(sorted(missing))} must lie in {folder}, and does not")
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in sorted(files) if file}


def _values(field: str, base: Recipe, space: dict[str, Dimension]) -> set[str]:
    values = space[field].values() if field in space else [base.flat()[field]]
    return {str(value) for value in values}
