"""`podium rollback [--to VERSION] --reason "..."`."""

import argparse
import sys

from podium.commands._arguments import add_break_claim, version_number
from podium.commands._project import opened
from podium.text import one_line

NAME = "rollback"
HELP = "make an earlier champion champion again"
ORDER = 30
EXAMPLE = 'podium rollback --reason "too slow"', "go back to the previous champion"
EXAMPLES = """\
  podium rollback --reason "confuses 1 and 7 on the new scanner"    the previous champion
  podium rollback --to 3 --reason "the last good one"               version 3, which was champion once

The earlier champion is loaded, its files are checked, and it must still give the stored predictions for the images
in it. Exit code 1: it does not (then the nearest one that does is named), or there is none; nothing moved."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and the reason."""
    parser.add_argument("--to", metavar="VERSION", type=version_number, help="default: the previous champion")
    parser.add_argument("--reason", required=True, help="why; stored in the ledger permanently")
    add_break_claim(parser)


def run(arguments: argparse.Namespace) -> None:
    """Roll back, and print to which version."""
    with opened() as (tracking, name):
        from podium import paths
        from podium.config.params import load
        from podium.promotion import champion, git_tags
        from podium.serving import presence

        tags = git_tags.of(load(paths.PARAMS).ledger.git_tags, paths.root())
        broken = arguments.break_claim
        done = champion.rollback(tracking, name, arguments.reason, arguments.to, tags, break_claims=broken)
        servers = presence.sentences(tracking, name) if done.entry is not None else []
    for note in done.notes:
        print(f"podium: {one_line(note)}", file=sys.stderr)
    if done.entry is None:
        print(f"{done.version} is the champion already")
    else:
        print(f"{done.version} is the champion again, in place of version {done.entry.source}")
    print("".join(f"server {one}\n" for one in servers), end="")
