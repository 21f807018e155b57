"""Torchvision's classification sets, by the name of their class.

torchvision itself checks and reads the files. It is imported on use: the other sources do without torch.
"""

import difflib
import gzip
import inspect
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from podium.errors import InputError
from podium.sources.images import RawImages

LOOKED_AT = 1000
"""Images whose sizes are looked at, once two differ, to say which there are."""


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
    "EuroSAT": WHOLE,
    "FER2013": _split("train"),
    "FGVCAircraft": _split("trainval"),
    "FashionMNIST": BY_TRAIN,
    "Flowers102": _split("train", "val"),
    "Food101": _split("train"),
    "GTSRB": _split("train"),
    "ImageNet": _split("train", test="val"),  # its test images have no public labels
    "Imagenette": _split("train", test="val"),
    "KMNIST": BY_TRAIN,
    "MNIST": BY_TRAIN,
    "OxfordIIITPet": _split("trainval"),
    "PCAM": _split("train", "val"),
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
IDX = ("MNIST", "FashionMNIST", "KMNIST")
"""Sets of four IDX files, which are also found without torchvision's folders around them, and as .gz."""


def read(name: str, root: str, *, download: bool) -> RawImages:
    """Every image of torchvision's `name`, whose files lie in `root`; its test split is `given_test`.

    Grey images have one channel. Raises InputError for an unknown name, for files that are missing or damaged, and
    for images of different sizes.
    """
    if name not in SETS:
        raise InputError(f"prepare.source: {name} is no classification set of torchvision{_did_you_mean(name)}")
    from torchvision import datasets

    kind = getattr(datasets, name)
    training, test = SETS[name]
    with _layout(kind, Path(root)) as found:
        parts = [_open(kind, arguments, found, root, download=download) for arguments in [*training, *test]]
    images, labels = _arrays(parts, name)
    given_test = None
    if test:
        given_test = np.zeros(len(labels), np.bool_)
        given_test[sum(map(len, parts[: len(training)])) :] = True
    return RawImages(images, labels, _classes(parts[0], labels, name), given_test)


def _did_you_mean(name: str) -> str:
    lower = {known.lower(): known for known in SETS}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean torchvision:{lower[close[0]]}?" if close else f"; known here: {', '.join(SETS)}"


@contextmanager
def _layout(kind: Any, root: Path) -> Iterator[Path]:
    """A folder in which torchvision finds the files of `kind`: `root`, or one made of what lies there otherwise."""
    name = kind.__name__
    wanted = [Path(file).stem for file, _ in kind.resources] if name in IDX else []
    places = [root, root / name, root / name / "raw"]
    files = [next((p for f in places for p in (f / w, f / f"{w}.gz") if p.is_file()), None) for w in wanted]
    if not wanted or None in files:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        raw = Path(folder) / name / "raw"
        raw.mkdir(parents=True)
        for file, target in zip(files, wanted, strict=True):
            if file is not None and file.suffix == ".gz":
                _unpack(file, raw / target)
            elif file is not None:
                (raw / target).symlink_to(file.resolve())
        yield Path(folder)


def _unpack(packed: Path, target: Path) -> None:
    try:
        with gzip.open(packed) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (OSError, EOFError) as error:
        raise InputError(f"prepare.root: {packed} is damaged: {error}") from None


def _open(kind: Any, arguments: dict[str, Any], found: Path, root: str, *, download: bool) -> Any:
    """One part of the set `kind`."""
    if "download" in inspect.signature(kind).parameters or kind.__name__ == "QMNIST":  # which hides it in **kwargs
        arguments = arguments | {"download": download}
    try:
        return kind(str(found), **arguments)
    except Exception as error:  # torchvision checks little: damaged files raise what NumPy, pickle or SciPy raise
        what = str(error).split(" You can use download=True")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"prepare.root: torchvision can't read {kind.__name__} in {root}: {what}.{_expected(kind, root)}"
            f" {'Fetching it failed or left it damaged.' if download else 'Or set prepare.download: true.'}"
        ) from None


def _expected(kind: Any, root: str) -> str:
    """Where the files of `kind` belong, as far as torchvision says it."""
    if kind.__name__ in IDX:
        names = ", ".join(Path(file).stem for file, _ in kind.resources)
        return f" Put {names} (or .gz) into {root}, {root}/{kind.__name__} or {root}/{kind.__name__}/raw."
    folder = getattr(kind, "base_folder", None)
    where = f"{root}/{folder}" if isinstance(folder, str) else f"{root}, in the folders that torchvision expects"
    return f" Put its files into {where}."


def _arrays(parts: Sequence[Any], name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images (N, C, H, W) and labels (N,) of `parts`: the arrays where the set has them, else one by one."""
    if sum(map(len, parts)) == 0:
        raise InputError(f"prepare.root: torchvision's {name} holds no images")
    if all(np.ndim(getattr(part, "data", 0)) in (3, 4) for part in parts):
        images = np.concatenate([_channels_first(np.asarray(part.data)) for part in parts])
        return images, np.concatenate([_labels(part) for part in parts])
    return _one_by_one(parts, name)


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[1] in (1, 3) else images.transpose(0, 3, 1, 2)


def _labels(part: Any) -> NDArray[np.int64]:
    labels = np.asarray(part.targets if hasattr(part, "targets") else part.labels, dtype=np.int64)
    return labels[:, 0] if labels.ndim == 2 else labels  # QMNIST: the class, then seven facts about the writer


def _one_by_one(parts: Sequence[Any], name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    total = sum(map(len, parts))
    items = (part[index] for part in parts for index in range(len(part)))
    sizes: Counter[tuple[int, ...]] = Counter()
    labels = np.empty(total, np.int64)
    images = np.empty((0, 0, 0, 0), np.uint8)
    for row, (image, label) in enumerate(
        tqdm(_said(items, name), name, total, unit=" images", delay=2, leave=False, disable=None)
    ):
        pixels = _pixels(image, grey=image.mode in ("1", "L") if row == 0 else images.shape[1] == 1)
        sizes[pixels.shape] += 1
        if row == 0:
            images = np.empty((total, *pixels.shape), np.uint8)  # whole at once: no second copy of a large set
        if len(sizes) == 1:
            images[row], labels[row] = pixels, label
        elif row >= LOOKED_AT:
            break
    if len(sizes) > 1:
        raise InputError(_mixed(sizes, name))
    return images, labels


def _said(items: Iterator[Any], name: str) -> Iterator[Any]:
    """The same items; an image that can't be read is an error with a sentence."""
    try:
        yield from items
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise InputError(f"prepare.root: an image of torchvision's {name} can't be read: {error}") from None


def _pixels(image: Any, *, grey: bool) -> NDArray[np.uint8]:
    """A Pillow image as (C, H, W); one in colour stays so even where the first was grey, and is then another size."""
    if grey and image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _mixed(sizes: Counter[tuple[int, ...]], name: str) -> str:
    shown = [f"{'x'.join(map(str, size))} ({count:,})" for size, count in sizes.most_common(5)]
    more = f" and {len(sizes) - 5:,} other sizes" if len(sizes) > 5 else ""
    return (
        f"prepare.source: the images of torchvision's {name} must have one size (channels x height x width); among the"
        f" first {sizes.total():,} there are {', '.join(shown)}{more}"
    )


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
