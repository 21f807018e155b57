"""`podium verify VERSION`."""

import argparse

from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import PodiumError

NAME = "verify"
HELP = "does this folder still match a version, and is the version as it was registered?"
ORDER = 80
EXAMPLE = "podium verify 7", "does this folder still match version 7?"
EXAMPLES = """\
  podium verify 7
  podium verify      the champion

Compared are commit, uncommitted changes, parameters, data, weights, packages and the registered files. Exit code 1:
something differs, or is not known for changes were left out; each difference is a line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the champion")


def run(arguments: argparse.Namespace) -> None:
    """Compare, and print what differs. Raises PodiumError where anything does."""
    with opened() as (tracking, name):
        from podium import paths
        from podium.lineage import workspace
        from podium.registry import versions

        version = versions.find(tracking, name, arguments.version or versions.CHAMPION)
        found = workspace.differences(tracking, version, paths.root())
    if not found:
        print(f"this folder matches {version}, and its files are as they were registered")
        return
    rows = [("what", "then", "now"), *((d.what, d.then, d.now) for d in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    print(
        "\n".join(f"{what:<{widths[0]}}  {then:<{widths[1]}}  {now}".rstrip() for what, then, now in rows), flush=True
    )
    raise PodiumError(f"this folder does not match {version}: {len(found)} differences")
