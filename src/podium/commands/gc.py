"""`podium gc [--dry-run]`."""

import argparse
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from podium.config.params import Params
    from podium.data.decode import Preprocess

NAME = "gc"
HELP = "delete checkpoints that no trial will read again, and features and decoded images that are out of date"
ORDER = 130
EXAMPLE = "podium gc --dry-run", "checkpoints that nobody needs"
EXAMPLES = """\
  podium gc --dry-run    what would be deleted, and how many bytes
  podium gc              delete it

Kept are the checkpoints of trials that can resume, everything that DVC, the registry and MLflow know, and what a
running search, retraining or prepare uses. Images that were decoded with other settings than those of data/prepared and
of params.yaml are deleted, and so are features of a frozen network (mlruns/features) of other images than those of
data/prepared; both are computed again when needed.

A file that has other names too, in DVC's cache or data/prepared (cache.type hardlink), counts 0 bytes: its content
stays until the last of them is deleted. `dvc gc --workspace` is for those in DVC's cache."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to list or to delete."""
    parser.add_argument("--dry-run", action="store_true", help="delete nothing")


def run(arguments: argparse.Namespace) -> None:
    """Find what is left over, and delete each file while no other process can use it."""
    from podium import paths
    from podium.config.params import load
    from podium.text import counted
    from podium.tuning import upkeep

    params = load(paths.PARAMS)
    freed = count = 0
    listed: Counter[tuple[int, int]] = Counter()
    checkpoints = (one.path for one in upkeep.leftovers(params.runtime, _busy))
    for path in chain(checkpoints, upkeep.old_features(_busy), _decoded(params)):
        try:
            about = path.lstat()
        except FileNotFoundError:  # its owner deleted it first
            continue
        size, names = _bytes_of(about), about.st_nlink - listed[about.st_dev, about.st_ino]
        shared = f" (its {size:,} bytes have {counted(names - 1, 'other name')})" if names > 1 else ""
        size = 0 if shared else size
        print(f"{size:>12,}  {path.relative_to(paths.root())}{shared}")
        if arguments.dry_run:
            listed[about.st_dev, about.st_ino] += 1
        else:
            path.unlink(missing_ok=True)
        freed, count = freed + size, count + 1
    print(f"{freed:>12,}  bytes {'would be freed' if arguments.dry_run else 'freed'} in {counted(count, 'file')}")


def _bytes_of(about: "os.stat_result") -> int:
    """What a file takes on the disk: less than its length where it has holes, or the file system compresses."""
    return min(about.st_size, about.st_blocks * 512)


def _busy(name: str) -> None:
    print(f"{name} is running: its files are kept")


def _decoded(params: "Params") -> "Iterator[Path]":
    """Outdated decoded images; none if the settings of the present ones can not be read."""
    from podium import paths
    from podium.data.image_store import outdated
    from podium.errors import InputError

    try:
        wanted = _wanted(params)
    except InputError as error:
        print(f"decoded images are kept: {error}")
        return
    if wanted:
        yield from outdated(paths.decoded(), wanted, _busy)


def _wanted(params: "Params") -> "list[Preprocess]":
    """Decoding settings of data/prepared and of params.yaml; empty if nothing was prepared."""
    from podium import paths
    from podium.data import sources
    from podium.data.dataset import DatasetInfo
    from podium.data.decode import Preprocess
    from podium.data.image_shape import preprocess_of

    if not (paths.PREPARED / "dataset.json").is_file() or not (how := DatasetInfo.read(paths.PREPARED).preprocess):
        return []
    wanted = [Preprocess.from_dict(how)]
    if params.prepare.path:  # only files are cached
        source = sources.read(params.prepare, follow_links=params.doctor.outside == "keep", similar_groups="keep")
        wanted.append(preprocess_of(source, params.prepare, params.doctor))
    return wanted
