"""`podium rollback --reason "..."`."""

import argparse
import sys

from podium.verbs.project import opened

NAME = "rollback"
HELP = "make the champion before the present one champion again"
EXAMPLES = """\
  podium rollback --reason "confuses 1 and 7 on the new scanner"

The earlier champion is loaded, its files are checked, and it must still give the right answers to the images stored in
it. Exit code 1: it does not, or there is none; nothing moved."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reason."""
    parser.add_argument("--reason", required=True, help="why; kept in the ledger for ever")


def run(arguments: argparse.Namespace) -> None:
    """Roll back, and say to what."""
    with opened() as (tracking, name):
        from podium import promotion

        done = promotion.rollback(tracking, name, arguments.reason)
    for note in done.notes:
        print(f"podium: {note}", file=sys.stderr)
    before = done.entry.source if done.entry else None
    print(f"{done.version} is the champion again, in place of version {before}")
