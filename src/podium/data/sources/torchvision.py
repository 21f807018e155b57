"""Torchvision's classification sets, by the name of their class.

torchvision itself checks and reads the files. It is imported on use: the other sources do without torch.
"""

import difflib
import gzip
import inspect
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.sources import ImageSource
from podium.data.sources.item import Content, Item
from podium.data.sources.source import Source
from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.params import PrepareParams


def _split(*training: str, test: str = "test") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [{"split": name} for name in training], [{"split": test}]


BY_TRAIN: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([{"train": True}], [{"train": False}])
WHOLE: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([{}], [])
SETS = {
    "CIFAR10": BY_TRAIN,
    "CIFAR100": BY_TRAIN,
    "Caltech101": WHOLE,
    "Caltech256": WHOLE,
    "Country211": _split("train", "valid"),
    "DTD": _split("train", "val"),
    "EMNIST": BY_TRAIN,  # needs prepare.arguments: {split: balanced}
    "EuroSAT": WHOLE,
    "FakeData": WHOLE,
    "FER2013": _split("train"),
    "FGVCAircraft": _split("trainval"),
    "FashionMNIST": BY_TRAIN,
    "Flowers102": _split("train", "val"),
    "Food101": _split("train"),
    "GTSRB": _split("train"),
    "ImageNet": _split("train", test="val"),  # its test images have no public labels
    "INaturalist": WHOLE,
    "Imagenette": _split("train", test="val"),
    "KMNIST": BY_TRAIN,
    "LFWPeople": _split("train"),
    "MNIST": BY_TRAIN,
    "OxfordIIITPet": _split("trainval"),
    "PCAM": _split("train", "val"),
    "Places365": _split("train-standard", test="val"),  # its test images have no public labels
    "QMNIST": BY_TRAIN,
    "RenderedSST2": _split("train", "val"),
    "SEMEION": WHOLE,
    "STL10": _split("train"),
    "SUN397": WHOLE,
    "SVHN": _split("train"),
    "StanfordCars": _split("train"),
    "USPS": BY_TRAIN,
}
"""Each set's arguments for its training images and for its test images; a set without the latter has no split."""
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST = "0 - zero, 1 - one, 2 - two, 3 - three, 4 - four, 5 - five, 6 - six, 7 - seven, 8 - eight, 9 - nine"
_FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
IDX_CLASSES = {"MNIST": _MNIST, "FashionMNIST": _FASHION, "KMNIST": "o, ki, su, tsu, na, ha, ma, ya, re, wo"}
"""Names of the classes, as torchvision has them."""


class TorchvisionSet(ImageSource):
    """A data set of torchvision by its class, such as torchvision:CIFAR10; `arguments` and `download` are for it."""

    NAME: ClassVar[str] = "torchvision:"

    @staticmethod
    def check_name(name: str) -> str:
        """`name`, where it has the form of a class's. Raises ValueError."""
        if name.partition(":")[2].isalnum():
            return name
        raise ValueError(f"must be torchvision:<class>, such as torchvision:CIFAR10; got {name!r}")

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """The set of that name."""
        return read(self.rest, params.root, dict(params.arguments), download=params.download)


def read(name: str, root: str, arguments: dict[str, Any], *, download: bool) -> Source:
    """The images of torchvision's `name`, whose files lie in `root`; those of its test split are given as test.

    `arguments` go to torchvision's class. Raises InputError for an unknown name or argument, and for files that are
    missing or damaged.
    """
    if name not in SETS:
        raise InputError(f"prepare.source: {name} is no classification set of torchvision{_did_you_mean(name)}")
    if not arguments and (files := _find_idx(name, Path(root))):
        return _read_idx(name, files)
    from torchvision import datasets

    kind = getattr(datasets, name)
    training, test = SETS[name]
    _check_arguments(kind, arguments, [*training, *test])
    opened = [_open(kind, one | arguments, root, download=download) for one in [*training, *test]]
    if sum(map(len, opened)) == 0:
        raise InputError(f"prepare.root: torchvision's {name} holds no images")
    labels = [_labels(part) for part in opened]
    classes = _classes(opened[0], np.concatenate(labels), name)
    names = ["train"] * len(training) + ["test"] * len(test)
    items = [item for one in zip(opened, labels, names, strict=True) for item in _items(*one, given=bool(test))]
    return Source(f"torchvision:{name}", classes, items)


def _did_you_mean(name: str) -> str:
    lower = {known.lower(): known for known in SETS}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean torchvision:{lower[close[0]]}?" if close else f"; available: {', '.join(SETS)}"


def _open(kind: Any, arguments: dict[str, Any], root: str, *, download: bool) -> Any:
    """One part of the set `kind`."""
    if "download" in inspect.signature(kind).parameters or kind.__name__ == "QMNIST":  # which hides it in **kwargs
        arguments = arguments | {"download": download}
    try:
        where = [] if kind.__name__ == "FakeData" else [root]
        return kind(*where, **arguments)
    except Exception as error:  # torchvision checks little: damaged files raise what NumPy, pickle or SciPy raise
        what = str(error).split(" You can use download=True")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"prepare.root: torchvision can't read {kind.__name__} in {root}: {what}.{_expected(kind, root)}"
            f" {'Fetching it failed or left it damaged.' if download else 'Or set prepare.download: true.'}"
        ) from None


def _expected(kind: Any, root: str) -> str:
    """Where the files of `kind` belong, as far as torchvision says it."""
    if kind.__name__ in IDX_CLASSES:
        return (
            f" Put {', '.join(IDX_FILES)} (or .gz) into {root}, {root}/{kind.__name__} or {root}/{kind.__name__}/raw."
        )
    folder = getattr(kind, "base_folder", None)
    where = f"{root}/{folder}" if isinstance(folder, str) else f"{root}, in the folders that torchvision expects"
    return f" Put its files into {where}."


def _check_arguments(kind: Any, arguments: dict[str, Any], ours: Sequence[dict[str, Any]]) -> None:
    taken = {"root", "download", *(name for one in ours for name in one)}
    known = inspect.signature(kind).parameters
    whatever = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for name in arguments:
        if name in taken or (name not in known and not whatever):
            free = ", ".join(one for one in known if one not in taken and "transform" not in one) or "none"
            raise InputError(
                f"prepare.arguments.{name}: is no argument of {kind.__name__} that is free; those are {free}"
            )


def _items(part: Any, labels: NDArray[np.int64], name: str, *, given: bool) -> Iterator[Item]:
    """The images of one part: its array's rows where it has one, else what opens each."""
    content: Iterator[Content]
    if np.ndim(getattr(part, "data", 0)) in (3, 4):
        content = iter(_channels_first(np.asarray(part.data)))
    else:
        content = (partial(_image, part, index) for index in range(len(part)))
    split = name if given else None
    for index, (one, label) in enumerate(zip(content, labels, strict=True)):
        yield Item(f"{name}[{index}]", int(label), split, one)


def _image(part: Any, index: int) -> Image.Image:
    image: Image.Image = part[index][0]
    return image


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[1] in (1, 3) else images.transpose(0, 3, 1, 2)


def _labels(part: Any) -> NDArray[np.int64]:
    """The labels (N,): the set's own list where it has one, else those of its images, one by one."""
    for name in ("targets", "labels", "_labels", "y"):
        found = getattr(part, name, None)
        if found is not None and np.ndim(found) and len(found) == len(part):
            labels = np.asarray(found, dtype=np.int64)
            return labels[:, 0] if labels.ndim == 2 else labels  # QMNIST: the class, then facts about the writer
    for name, place in (("samples", -1), ("_samples", -1), ("imgs", -1), ("index", 0)):  # index: INaturalist
        found = getattr(part, name, None)
        if isinstance(found, list) and found and len(found) == len(part) and isinstance(found[0][place], int):
            return np.asarray([one[place] for one in found], dtype=np.int64)
    return np.asarray([part[index][1] for index in range(len(part))], dtype=np.int64)


def _classes(part: Any, labels: NDArray[np.int64], name: str) -> tuple[str, ...]:
    """The names of the classes; their numbers where the set has no names."""
    found = getattr(part, "classes", None) or getattr(part, "categories", None)
    classes = tuple(c if isinstance(c, str) else ", ".join(c) for c in found or map(str, range(labels.max() + 1)))
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InputError(
            f"prepare.root: labels of torchvision's {name} must be 0 to {len(classes) - 1}; got {labels.min()} to"
            f" {labels.max()}: its files are damaged"
        )
    return classes


def _find_idx(name: str, root: Path) -> list[Path]:
    """The four files of `name`, or of .gz, in `root` or torchvision's folders below it; empty where one is missing."""
    places = [root, root / name, root / name / "raw"]
    found = [next((p for f in places for p in (f / w, f / f"{w}.gz") if p.is_file()), None) for w in IDX_FILES]
    whole = [path for path in found if path is not None]
    return whole if name in IDX_CLASSES and len(whole) == len(IDX_FILES) else []


def _read_idx(name: str, files: list[Path]) -> Source:
    """The set `name` from its four files; the second pair is given as test. Raises InputError for a damaged file."""
    classes = tuple(IDX_CLASSES[name].split(", "))
    items: list[Item] = []
    for split, (images, labels) in {"train": files[:2], "test": files[2:]}.items():
        pixels, numbers = _idx_array(images, 3), _idx_array(labels, 1)
        if len(pixels) != len(numbers):
            raise InputError(
                f"prepare.root: {images} and {labels} don't belong together: {len(pixels):,} images, {len(numbers):,}"
                " labels"
            )
        if len(numbers) and numbers.max() >= len(classes):
            raise InputError(
                f"prepare.root: labels in {labels} must be 0 to {len(classes) - 1}; got {numbers.max()}: it is damaged"
            )
        items += [
            Item(f"{split}[{row}]", int(numbers[row]), split, pixels[row : row + 1]) for row in range(len(pixels))
        ]
    if not items:
        raise InputError(f"prepare.root: {files[0]} and {files[2]} hold no images")
    return Source(f"torchvision:{name}", classes, items)


def _idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of an IDX file as an array."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"prepare.root: {path} is damaged: {error}") from None
    start = 4 + 4 * dimensions
    header = np.frombuffer(content[4:start], ">u4")
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) - start != math.prod(header.tolist()):
        raise InputError(
            f"prepare.root: {path} is damaged: it must be an IDX file of bytes with {dimensions} dimensions, as long as"
            f" its header says; it has {len(content):,} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(header.tolist())
