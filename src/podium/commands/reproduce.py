"""`podium reproduce VERSION`."""

import argparse

from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import PodiumError
from podium.text import one_line

NAME = "reproduce"
HELP = "retrain a version from its commit, data and seeds, and compare it with the registered one"
ORDER = 90
EXAMPLE = "podium reproduce 7", "make it again, bit for bit"
EXAMPLES = """\
  podium reproduce 7
  podium reproduce      the champion

Its commit is checked out in a temporary folder, with the changes that were not committed; its images come from DVC's
cache; it is trained again with the same seeds. Exit code 1: the weights are not the same bit for bit (for a version
trained on a GPU: the predictions of the stored images differ); what else differs is printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the champion")


def run(arguments: argparse.Namespace) -> None:
    """Reproduce, and print the result. Raises PodiumError where it is not the same."""
    with opened() as (tracking, name):
        from podium import paths
        from podium.promotion import ledger
        from podium.registry import reproduction, versions

        version = versions.find(tracking, name, arguments.version or versions.CHAMPION)
        ledger.check_origin(tracking, version)
        found = reproduction.reproduce(tracking, version, paths.root())
    if found.exact:
        print(f"{version} was reproduced: the same weights, bit for bit")
        return
    different = map(one_line, found.differences or ["nothing known"])
    print("\n".join(["what differs (then -> now):", *(f"  {line}" for line in different)]))
    predictions = (
        f"{found.labels} of the stored images get another label, a probability differs by up to {found.largest:.2g}"
    )
    if found.within:
        print(f"{version} was reproduced within {reproduction.TOLERANCE:g}: {predictions}")
        return
    raise PodiumError(f"{version} was not reproduced: other weights; {predictions}")
