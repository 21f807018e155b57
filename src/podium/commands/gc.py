"""`podium gc [--dry-run]`."""

import argparse
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from podium.config.params import Params
    from podium.data.decode import Preprocess

NAME = "gc"
HELP = "delete checkpoints that no trial will read again, and images decoded otherwise than they are now"
EXAMPLES = """\
  podium gc --dry-run    what would go, and how many bytes
  podium gc              delete it

Checkpoints of trials that are to go on stay, and so does all that DVC, the registry and MLflow know, and what a search,
a retraining or a prepare that is at work uses. What was decoded otherwise than data/prepared and than params.yaml now
says goes; it is decoded again when that comes back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to look or to delete."""
    parser.add_argument("--dry-run", action="store_true", help="delete nothing")


def run(arguments: argparse.Namespace) -> None:
    """Find leftovers, and delete each while nobody else can use it."""
    from podium import paths
    from podium.config.params import load
    from podium.tuning import upkeep

    params = load(paths.PARAMS)
    freed = count = 0
    for path in chain((one.path for one in upkeep.leftovers(params.runtime, _busy)), _decoded(params)):
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # its owner was faster
            continue
        print(f"{size:>12,}  {path.relative_to(paths.root())}")
        if not arguments.dry_run:
            path.unlink(missing_ok=True)
        freed, count = freed + size, count + 1
    print(f"{freed:>12,}  bytes {'would be freed' if arguments.dry_run else 'freed'} in {count} files")


def _busy(name: str) -> None:
    print(f"{name} is at work: what it uses stays")


def _decoded(params: "Params") -> "Iterator[Path]":
    """Of images that were decoded; none where nobody knows how they will be wanted."""
    from podium import paths
    from podium.data.image_store import outdated
    from podium.errors import InputError

    try:
        wanted = _wanted(params)
    except InputError as error:
        print(f"images that were decoded stay: {error}")
        return
    if wanted:
        yield from outdated(paths.decoded(), wanted, _busy)


def _wanted(params: "Params") -> "list[Preprocess]":
    """How the prepared images were decoded, and how those of params.yaml will be; empty where nothing was prepared."""
    from podium import paths
    from podium.data import sources
    from podium.data.dataset import DatasetInfo
    from podium.data.decode import Preprocess
    from podium.data.reading import preprocess_of

    if not (paths.PREPARED / "dataset.json").is_file() or not (how := DatasetInfo.read(paths.PREPARED).preprocess):
        return []
    wanted = [Preprocess.from_dict(how)]
    if params.prepare.path:  # nothing else is kept
        source = sources.read(params.prepare, follow_links=params.doctor.outside == "keep")
        wanted.append(preprocess_of(source, params.prepare, params.doctor))
    return wanted
