"""`podium gc [--dry-run]`."""

import argparse

NAME = "gc"
HELP = "delete checkpoints that no trial will read again"
EXAMPLES = """\
  podium gc --dry-run    what would go, and how many bytes
  podium gc              delete it

Checkpoints of trials that are to go on stay, and so does everything in data/, the registry and MLflow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to look or to delete."""
    parser.add_argument("--dry-run", action="store_true", help="delete nothing")


def run(arguments: argparse.Namespace) -> None:
    """Find leftovers, and delete them."""
    from podium import paths
    from podium.params import load
    from podium.search import upkeep

    found = upkeep.leftovers(load(paths.PARAMS).runtime)
    for leftover in found:
        print(f"{leftover.size:>12,}  {leftover.path.relative_to(paths.root())}")
        if not arguments.dry_run:
            leftover.path.unlink(missing_ok=True)
    verb = "would be freed" if arguments.dry_run else "freed"
    print(f"{sum(leftover.size for leftover in found):>12,}  bytes {verb} in {len(found)} files")
