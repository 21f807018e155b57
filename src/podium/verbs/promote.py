"""`podium promote [VERSION]`."""

import argparse
import sys

from podium.verbs.arguments import version_number
from podium.verbs.project import opened

NAME = "promote"
HELP = "make the challenger (or VERSION) the champion, if it is not worse on the sealed images"
EXAMPLES = """\
  podium promote       the challenger, that is what `dvc repro` registered last
  podium promote 7     version 7

Champion and challenger answer the same sealed images now, through the registered models. Exit code 1: refused, nothing
moved. The verdict stays with the version in MLflow either way."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the challenger")


def run(arguments: argparse.Namespace) -> None:
    """Promote, and say what the gate saw."""
    with opened() as (tracking, name):
        from podium import paths, promotion

        done = promotion.promote(tracking, name, arguments.version, sealed=paths.SEALED, prepared=paths.PREPARED)
    for note in (*done.notes, *(done.verdict.notes if done.verdict else ())):
        print(f"podium: {note}", file=sys.stderr)
    if done.verdict is None:
        print(f"{done.version} is the champion already")
    else:
        print(f"{done.version} is the champion now: {done.verdict.reason}")
