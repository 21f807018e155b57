"""prepare: read, decode and audit the source's images, split them by what is in them, and write the three splits."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from podium import paths, process
from podium.config.params import DoctorParams, PrepareParams, load
from podium.data import accesses, split_file
from podium.data.audit.data_audit import AuditedData, audited, refuse
from podium.data.audit.writable import unwritable
from podium.data.channel_values import Counted
from podium.data.dataset import DatasetInfo, Written, write_split
from podium.data.image_files import write_sizes
from podium.data.linked_files import LinkedFiles, dvc_links
from podium.errors import InputError, PodiumError
from podium.text import counted

SHOWN = 20
"""Classes that an error's table shows."""
SPLITS = 3


def prepare(
    params: PrepareParams,
    audit: DoctorParams,
    prepared: Path,
    sealed: Path,
    decoded: Path,
    split: Path | None = None,
    *,
    links: bool = False,
) -> DatasetInfo:
    """Write prepared/{train,val}, sealed/test, dataset.json and the audit; returns what dataset.json holds.

    Images keep the splits that the file `split` remembers (None: split/split.csv next to the folder `prepared`), and
    those of new ones are added to it. Files that were decoded are stored in `decoded` for the next time; with `links`
    also pixels of large splits, and what is written are hard links of these. Raises InputError where the images can't
    be read or split, or have what `audit` says to refuse; then nothing is written and what was there stays.
    """
    split = split or prepared.parent / "split" / "split.csv"
    try:
        with audited(params, audit, decoded, split) as data:
            short = short_classes(data.report.counts, params, data.groups)
            print("\n".join(data.report.summary(refused=bool(short))))
            refuse(data.report)
            check_classes(data.report.counts, params, data.groups)
            if wrong := unwritable(data, prepared, sealed, split, links=links):
                raise PodiumError("\n".join([*wrong, "Nothing was written."]))
            _remember(split, data)
            info = _write(data, prepared, sealed, links=links)
            if data.report.findings:
                print(f"  every finding with every file: {prepared / 'audit.csv'}")
            return info
    except OSError as error:
        raise PodiumError(f"{prepared}, {sealed} and {decoded} can't be written: {error}") from None


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    params = load(paths.PARAMS)
    _check_copy(paths.root() / paths.SPLIT)
    links = dvc_links(paths.root())
    prepare(params.prepare, params.doctor, paths.PREPARED, paths.SEALED, paths.decoded(), paths.SPLIT, links=links)


def _check_copy(real: Path) -> None:
    """Raise InputError in the temporary copy of an experiment, where git did not bring the split file along."""
    if real.is_file() and not paths.SPLIT.is_file():
        raise InputError(
            f"{paths.SPLIT} is not in this copy of the project, since it is in {real.parent} but not in git, and"
            f" without it all images would be split again: commit it (`git add {paths.SPLIT}`)"
        )


def _remember(split: Path, data: AuditedData) -> None:
    """Write the split file before the images: a run that is killed in between places them alike the next time."""
    before, now = data.known, data.split
    if not split_file.write(split, now):
        return
    added = len(now.digests) - len(before.digests)
    what = f"{counted(added, 'image')} added" if added else "what the images look like added"
    print(f"{split}: {what}; commit it with git, so that every clone has this split")
    if before.drawn not in ("", now.drawn):
        print(f"  none of the {len(before.digests):,} images that it remembers is in the source: this is a new set")
    if before.drawn != now.drawn and (count := accesses.others(now.drawn)):
        print(
            f"  the images are split again, after {counted(count, 'access')} to earlier test sets: models"
            " trained until now may have seen images of the new one"
        )
    if len(now.digests) > split_file.MANY:
        print(f"  it has {len(now.digests):,} lines: `dvc add {split}` keeps them out of git's history")


def check_classes(
    counts: dict[str, dict[str, int]], params: PrepareParams, groups: dict[str, int] | None = None
) -> None:
    """Raise InputError with the counts where a class has too few images in a split; arguments as `short_classes`."""
    if short := short_classes(counts, params, groups):
        raise InputError(short)


def short_classes(
    counts: dict[str, dict[str, int]], params: PrepareParams, groups: dict[str, int] | None = None
) -> str:
    """Which classes have too few images in a split, with their counts; empty: none.

    `counts`: images by class and split; `groups`: by class, how many groups of images that belong together it has.
    """
    least = {"train": params.min_per_class, "val": 1, "test": 1}
    short = {name: row for name, row in counts.items() if any(row[part] < n for part, n in least.items())}
    if not short:
        return ""
    groups = groups or {}
    width = max(5, *map(len, list(short)[:SHOWN]))
    lines = [f"  {'class':<{width}} {'train':>7} {'val':>7} {'test':>7} {'groups':>7}"]
    lines += [
        f"  {n:<{width}} {r['train']:>7} {r['val']:>7} {r['test']:>7} {groups.get(n, '-'):>7}"
        for n, r in list(short.items())[:SHOWN]
    ]
    lines += [f"  and {len(short) - SHOWN} more classes"] if len(short) > SHOWN else []
    return (
        f"prepare.min_per_class: every class needs at least {params.min_per_class} training images and one in each"
        f" other split; {len(short)} of {len(counts)} classes have fewer:\n"
        + "\n".join(lines)
        + "\n"
        + _remedy([groups.get(name, SPLITS) for name in short])
        + " Nothing was written."
    )


def _remedy(groups: list[int]) -> str:
    """What to do for classes of so many groups each."""
    few = sum(count < SPLITS for count in groups)
    if not few:
        return "Add images of these classes or remove them, or change prepare.min_per_class or the fractions."
    return (
        f"{counted(few, 'class')} of fewer than {SPLITS} groups can't be in three splits: near-duplicates, and"
        " images of one group of the source, share a split. Add pictures of other scenes, or remove the class; give"
        " the splits yourself (folders train, val and test, or the column split); or, where the images only look"
        " alike, write `doctor.near: copies` or `off`."
    )


def _write(data: AuditedData, prepared: Path, sealed: Path, *, links: bool) -> DatasetInfo:
    """Write everything to folders next to the real ones, which replace them when all is complete."""
    new_prepared, new_sealed = _next_to(prepared, "partial"), _next_to(sealed, "partial")
    linked = None if data.store.folder is None else LinkedFiles(data.store.folder)
    try:
        splits: list[Written] = []
        train = Counted(data.images(data.division.train))
        for name, rows in data.division.parts().items():
            folder = (new_sealed if name == "test" else new_prepared) / name
            images, labels = train if name == "train" else data.images(rows), data.labels[rows]
            near, drawn, sealed_too = data.near[rows], data.split.drawn, name == "test"
            files = data.files.of(rows)
            about: dict[str, Any] = {"sealed": sealed_too, "duplicates": near, "drawn": drawn, "files": files}
            about |= {"starts": data.division.starts[name], "linked": linked if links else None}
            splits.append(write_split(folder, name, images, labels, data.classes, **about))
            write_sizes(folder, data.sizes[rows])
        info = _info(data, splits, *train.statistics())
        data.report.write(new_prepared, data.pixels)
        info.write(new_prepared)
        _swap(new_sealed, sealed)
        _swap(new_prepared, prepared)
        if linked is not None:
            linked.tidy()
    finally:
        shutil.rmtree(new_prepared, ignore_errors=True)
        shutil.rmtree(new_sealed, ignore_errors=True)
    return info


def _info(data: AuditedData, splits: list[Written], mean: list[float], std: list[float]) -> DatasetInfo:
    digest = hashlib.sha256("\n".join(split.digest for split in splits).encode()).hexdigest()
    counts = {split.name: split.counts for split in splits}
    shape, how = list(splits[0].shape), data.spec.to_dict()
    sealed = next(split.digest for split in splits if split.name == "test")
    drawn = data.split.drawn
    return DatasetInfo(data.report.source, list(data.classes), shape, counts, mean, std, digest, how, sealed, drawn)


def _next_to(folder: Path, what: str) -> Path:
    """An unused folder next to `folder`; what a killed run left of it is removed."""
    path = folder.with_name(f".{folder.name}.{what}")
    _remove(path)
    return path


def _remove(path: Path) -> None:
    """Remove the folder `path` with all that is in it; a file or a link that is there instead, alone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`."""
    old = _next_to(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _remove(old)


if __name__ == "__main__":
    process.run_stage(main)
