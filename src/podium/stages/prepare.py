"""prepare: read the source's images, divide them by what is in them, and write train, validation and sealed test."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium import entry, paths, sources
from podium.audit import Audit, audit, count
from podium.dataset import DatasetInfo, Split, write_split
from podium.errors import InputError, PodiumError
from podium.params import PrepareParams, load
from podium.sources.images import RawImages
from podium.splitting import Division, divide, fingerprints

SHOWN = 20
"""Classes that an error's table shows."""
PIXELS_A_CHUNK = 4_000_000
"""Pixels counted at a time: NumPy makes each one 8 bytes, so 32 MB."""


def prepare(params: PrepareParams, prepared: Path, sealed: Path) -> DatasetInfo:
    """Write prepared/{train,val}, sealed/test, dataset.json and the audit; returns what dataset.json holds.

    Raises InputError where the images can't be read or divided; then nothing is written and what was there stays.
    """
    raw = sources.read(params)
    check_source(raw, params.source)
    prints = fingerprints(raw.images, params.salt)
    division = divide(prints, raw.labels, params.val_fraction, params.test_fraction, raw.given_test)
    check_classes(count(raw.labels, raw.classes, division), params)
    found = audit(prints, raw.labels, raw.classes, division)
    info = _write(raw, division, found, params.source, prepared, sealed)
    print(_summary(info, found))
    return info


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    prepare(load(paths.PARAMS).prepare, paths.PREPARED, paths.SEALED)


def check_source(raw: RawImages, source: str) -> None:
    """Raise InputError where there is nothing to classify: one class, or fewer images than classes."""
    images, classes = len(raw.labels), len(raw.classes)
    if classes < 2:
        raise InputError(f"prepare.source: needs images of at least 2 classes; {source} has {classes}")
    if images < classes:
        raise InputError(
            f"prepare.source: needs at least as many images as classes; {source} has {images} of {classes}"
        )


def check_classes(counts: dict[str, dict[str, int]], params: PrepareParams) -> None:
    """Raise InputError with the counts where a class has too few images in a split. `counts`: by class and split."""
    least = {"train": params.min_per_class, "val": 1, "test": 1}
    short = {name: row for name, row in counts.items() if any(row[part] < n for part, n in least.items())}
    if not short:
        return
    width = max(5, *map(len, list(short)[:SHOWN]))
    lines = [f"  {'class':<{width}} {'train':>7} {'val':>7} {'test':>7}"]
    lines += [f"  {n:<{width}} {r['train']:>7} {r['val']:>7} {r['test']:>7}" for n, r in list(short.items())[:SHOWN]]
    lines += [f"  and {len(short) - SHOWN} classes more"] if len(short) > SHOWN else []
    raise InputError(
        f"prepare.min_per_class: every class needs at least {params.min_per_class} training images and one in each"
        f" other split; {len(short)} of {len(counts)} classes have fewer:\n"
        + "\n".join(lines)
        + "\nAdd images of these classes or take them out, or change prepare.min_per_class, the fractions or the salt."
        " Nothing was written."
    )


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of `images` (N, C, H, W), on a scale of 0 to 1.

    From counts of the 256 values, so the result is exact and does not depend on the images' order.
    """
    total, channels, height, width = images.shape
    counts = np.zeros((channels, 256), np.int64)
    step = max(1, PIXELS_A_CHUNK // (height * width))
    for start in range(0, total, step):
        for channel in range(channels):
            counts[channel] += np.bincount(images[start : start + step, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return mean.tolist(), np.sqrt(variance).tolist()


def _write(raw: RawImages, division: Division, found: Audit, source: str, prepared: Path, sealed: Path) -> DatasetInfo:
    """Write everything to folders beside the real ones, which take their place when all is whole."""
    new_prepared, new_sealed = _beside(prepared, "partial"), _beside(sealed, "partial")
    try:
        splits = []
        for name, rows in division.parts().items():
            folder = new_sealed if name == "test" else new_prepared
            images, labels = raw.images[rows], raw.labels[rows]
            splits.append(write_split(folder / name, name, images, labels, raw.classes, sealed=name == "test"))
            if name == "train":
                mean, std = channel_statistics(images)
        info = _info(source, splits, mean, std)
        found.write(new_prepared)
        info.write(new_prepared)
        _swap(new_sealed, sealed)
        _swap(new_prepared, prepared)
    except OSError as error:
        raise PodiumError(f"{prepared} and {sealed} can't be written: {error}") from None
    finally:
        shutil.rmtree(new_prepared, ignore_errors=True)
        shutil.rmtree(new_sealed, ignore_errors=True)
    return info


def _info(source: str, splits: list[Split], mean: list[float], std: list[float]) -> DatasetInfo:
    digest = hashlib.sha256("\n".join(split.digest for split in splits).encode()).hexdigest()
    counts = {split.name: split.counts() for split in splits}
    return DatasetInfo(source, list(splits[0].classes), list(splits[0].shape), counts, mean, std, digest)


def _beside(folder: Path, what: str) -> Path:
    """An unused folder beside `folder`; what a killed run left of it is removed."""
    path = folder.with_name(f".{folder.name}.{what}")
    shutil.rmtree(path, ignore_errors=True)
    return path


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`."""
    old = _beside(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _summary(info: DatasetInfo, found: Audit) -> str:
    """The result for a person."""
    sizes = {part: sum(row.values()) for part, row in info.counts.items()}
    whole = [sum(info.counts[part][name] for part in sizes) for name in info.classes]
    return "\n".join(
        [
            f"{info.source}: {sum(whole):,} images of {'x'.join(map(str, info.shape))}, {len(whole)} classes"
            f" ({min(whole):,} to {max(whole):,} images each)",
            f"  {', '.join(f'{part} {size:,}' for part, size in sizes.items())} (sealed)",
            f"  exact duplicates: {found.sentence()}",
        ]
    )


if __name__ == "__main__":
    entry.run_stage(main)
