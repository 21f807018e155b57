"""`podium gc [--dry-run]`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.search.upkeep import Leftover

NAME = "gc"
HELP = "delete checkpoints that no trial will read again, and images decoded otherwise than they are now"
EXAMPLES = """\
  podium gc --dry-run    what would go, and how many bytes
  podium gc              delete it

Checkpoints of trials that are to go on stay, and so does all that DVC, the registry and MLflow know. What was decoded
for another `prepare.size` is decoded again when that comes back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to look or to delete."""
    parser.add_argument("--dry-run", action="store_true", help="delete nothing")


def run(arguments: argparse.Namespace) -> None:
    """Find leftovers, and delete them."""
    from podium import paths
    from podium.params import load
    from podium.search import upkeep

    found = upkeep.leftovers(load(paths.PARAMS).runtime) + _decoded()
    for leftover in found:
        print(f"{leftover.size:>12,}  {leftover.path.relative_to(paths.root())}")
        if not arguments.dry_run:
            leftover.path.unlink(missing_ok=True)
    verb = "would be freed" if arguments.dry_run else "freed"
    print(f"{sum(leftover.size for leftover in found):>12,}  bytes {verb} in {len(found)} files")


def _decoded() -> "list[Leftover]":
    """Of images that were decoded; none where nothing was prepared: then nobody knows how they will be wanted."""
    from podium import paths
    from podium.images.dataset import DatasetInfo
    from podium.images.decode import Preprocess
    from podium.ingest.store import outdated
    from podium.search.upkeep import Leftover

    if not (paths.PREPARED / "dataset.json").is_file():
        return []
    spec = DatasetInfo.read(paths.PREPARED).preprocess
    if not spec:
        return []
    files = outdated(paths.decoded(), Preprocess.from_dict(spec))
    return [Leftover(path, path.stat().st_size) for path in files]
