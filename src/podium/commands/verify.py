"""`podium verify VERSION`."""

import argparse

from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import PodiumError
from podium.text import one_line

NAME = "verify"
HELP = "does this folder still match a version, and are the version's files unchanged?"
ORDER = 80
EXAMPLE = "podium verify 7", "does this folder still match version 7?"
EXAMPLES = """\
  podium verify 7
  podium verify      the champion

Compared are commit, uncommitted changes, parameters, data, weights, packages and the registered files. Exit code 1:
something differs, or is not known because changes were left out; one line per difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the champion")


def run(arguments: argparse.Namespace) -> None:
    """Compare, and print what differs. Raises PodiumError where anything does."""
    with opened() as (tracking, name):
        from podium import paths
        from podium.promotion import ledger
        from podium.registry import reproduction, versions

        version = versions.find(tracking, name, arguments.version or versions.CHAMPION)
        ledger.check_origin(tracking, version)
        found = reproduction.workspace_differences(tracking, version, paths.root())
    if not found:
        print(f"this folder matches {version}, and its registered files are unchanged")
        return
    rows = [("what", "then", "now"), *(tuple(map(one_line, (d.what, d.then, d.now))) for d in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    print(
        "\n".join(f"{what:<{widths[0]}}  {then:<{widths[1]}}  {now}".rstrip() for what, then, now in rows), flush=True
    )
    count = f"{len(found)} difference" + ("" if len(found) == 1 else "s")
    raise PodiumError(f"this folder does not match {version}: {count}")
