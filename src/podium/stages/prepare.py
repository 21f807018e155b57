"""prepare: read, decode and audit the source's images, split them by what is in them, and write the three splits."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from podium import paths, process
from podium.config.params import DoctorParams, PrepareParams, load
from podium.data.audit.data_audit import AuditedData, audited, refuse, remember_search, search_record
from podium.data.dataset import DatasetInfo, Rows, Written, chunks, write_split
from podium.errors import InputError, PodiumError

SHOWN = 20
"""Classes that an error's table shows."""


def prepare(params: PrepareParams, audit: DoctorParams, prepared: Path, sealed: Path, decoded: Path) -> DatasetInfo:
    """Write prepared/{train,val}, sealed/test, dataset.json and the audit; returns what dataset.json holds.

    Files that were decoded are stored in `decoded` for the next time, and which near-duplicates were looked for. Raises
    InputError where the images can't be read or split, or have what `audit` says to refuse; then nothing is written
    and what was there stays.
    """
    try:
        with audited(params, audit, decoded) as data:
            print("\n".join(data.report.summary(refused=bool(short_classes(data.report.counts, params)))))
            refuse(data.report)
            check_classes(data.report.counts, params)
            remember_search(search_record(decoded, params, data.spec), data.report.near)
            info = _write(data, prepared, sealed)
            if data.report.findings:
                print(f"  every finding with every file: {prepared / 'audit.csv'}")
            return info
    except OSError as error:
        raise PodiumError(f"{prepared}, {sealed} and {decoded} can't be written: {error}") from None


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    params = load(paths.PARAMS)
    prepare(params.prepare, params.doctor, paths.PREPARED, paths.SEALED, paths.decoded())


def check_classes(counts: dict[str, dict[str, int]], params: PrepareParams) -> None:
    """Raise InputError with the counts where a class has too few images in a split. `counts`: by class and split."""
    if short := short_classes(counts, params):
        raise InputError(short)


def short_classes(counts: dict[str, dict[str, int]], params: PrepareParams) -> str:
    """Which classes have too few images in a split, with their counts; empty: none. `counts`: by class and split."""
    least = {"train": params.min_per_class, "val": 1, "test": 1}
    short = {name: row for name, row in counts.items() if any(row[part] < n for part, n in least.items())}
    if not short:
        return ""
    width = max(5, *map(len, list(short)[:SHOWN]))
    lines = [f"  {'class':<{width}} {'train':>7} {'val':>7} {'test':>7}"]
    lines += [f"  {n:<{width}} {r['train']:>7} {r['val']:>7} {r['test']:>7}" for n, r in list(short.items())[:SHOWN]]
    lines += [f"  and {len(short) - SHOWN} more classes"] if len(short) > SHOWN else []
    return (
        f"prepare.min_per_class: every class needs at least {params.min_per_class} training images and one in each"
        f" other split; {len(short)} of {len(counts)} classes have fewer:\n"
        + "\n".join(lines)
        + "\nAdd images of these classes or remove them, or change prepare.min_per_class, the fractions or the salt."
        " Nothing was written."
    )


def channel_statistics(images: Rows) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of `images` (N, C, H, W), on a scale of 0 to 1.

    From counts of the 256 values, so the result is exact and does not depend on the images' order.
    """
    counts = np.zeros((images.shape[1], 256), np.int64)
    for chunk in chunks(images):
        for channel, table in enumerate(counts):
            table += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return mean.tolist(), np.sqrt(variance).tolist()


def _write(data: AuditedData, prepared: Path, sealed: Path) -> DatasetInfo:
    """Write everything to folders next to the real ones, which replace them when all is complete."""
    new_prepared, new_sealed = _next_to(prepared, "partial"), _next_to(sealed, "partial")
    try:
        splits = []
        for name, rows in data.division.parts().items():
            folder = (new_sealed if name == "test" else new_prepared) / name
            images, labels = data.images(rows), data.labels[rows]
            splits.append(write_split(folder, name, images, labels, data.classes, sealed=name == "test"))
        mean, std = channel_statistics(data.images(data.division.train))
        info = _info(data, splits, mean, std)
        data.report.write(new_prepared, data.pixels)
        info.write(new_prepared)
        _swap(new_sealed, sealed)
        _swap(new_prepared, prepared)
    finally:
        shutil.rmtree(new_prepared, ignore_errors=True)
        shutil.rmtree(new_sealed, ignore_errors=True)
    return info


def _info(data: AuditedData, splits: list[Written], mean: list[float], std: list[float]) -> DatasetInfo:
    digest = hashlib.sha256("\n".join(split.digest for split in splits).encode()).hexdigest()
    counts = {split.name: split.counts for split in splits}
    shape, how = list(splits[0].shape), data.spec.to_dict()
    sealed = next(split.digest for split in splits if split.name == "test")
    return DatasetInfo(data.report.source, list(data.classes), shape, counts, mean, std, digest, how, sealed)


def _next_to(folder: Path, what: str) -> Path:
    """An unused folder next to `folder`; what a killed run left of it is removed."""
    path = folder.with_name(f".{folder.name}.{what}")
    shutil.rmtree(path, ignore_errors=True)
    return path


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`."""
    old = _next_to(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    process.run_stage(main)
