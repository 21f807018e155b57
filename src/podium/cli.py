"""The command `podium`: what people do by hand after `dvc repro`. Exit codes: 0 done, 1 refused or not true, 2 wrong
input.
"""

import argparse
from collections.abc import Sequence
from typing import Protocol

import shtab

from podium import entry
from podium.commands import (
    doctor,
    gc,
    history,
    lineage,
    predict,
    preset,
    profile,
    promote,
    relocate,
    report,
    reproduce,
    rollback,
    serve,
    sync,
    verify,
)


class Verb(Protocol):
    """What a module of podium.commands has; a new one is a file there and a name below."""

    NAME: str
    HELP: str
    """One line, for the list of verbs."""
    EXAMPLES: str
    """Commands with what they do, then the exit codes that are special."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own arguments."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Do it. Raises PodiumError, whose exit code becomes the command's."""


VERBS: tuple[Verb, ...] = (
    report,
    promote,
    rollback,
    history,
    predict,
    serve,
    lineage,
    verify,
    reproduce,
    relocate,
    profile,
    sync,
    gc,
    doctor,
    preset,
)

EPILOG = """\
Run it in the project's root: register.name and tracking.uri come from params.yaml there.

examples:
  podium report --open                   what won, why, what it cost, what to try next
  podium promote                         make what was registered last the champion, if the gate sees evidence
  podium rollback --reason "too slow"    go back to the champion before
  podium history                         who was champion when, and why
  podium predict scan.png                ask the champion
  podium serve                           the same over HTTP
  podium lineage 7                       where version 7 comes from
  podium reproduce 7                     make it again, bit for bit
  podium doctor                          what would fail on this machine and in this project
  podium doctor data                     what is wrong with the images of params.yaml
  podium preset                          params.yaml for other images: which there are
  podium profile                         where the time of a training goes
  podium sync --check                    does MLflow show exactly what the studies hold?
  podium gc --dry-run                    checkpoints that nobody needs

exit codes: 0 done, 1 refused or not true, 2 wrong input. `podium VERB --help` says more."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the command line (None: this process's) and exit."""
    entry.run(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parsed = command_parser().parse_args(arguments)
    parsed.verb.run(parsed)


def command_parser() -> argparse.ArgumentParser:
    """What the command understands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "podium", description="What people do by hand before and after `dvc repro`.", epilog=EPILOG
    )
    parser.formatter_class = raw
    shtab.add_argument_to(parser, help="print the completion script of a shell: bash, zsh or tcsh")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        examples = f"examples:\n{verb.EXAMPLES}"
        below = verbs.add_parser(verb.NAME, help=verb.HELP, description=verb.HELP, epilog=examples, formatter_class=raw)
        verb.add_arguments(below)
        below.set_defaults(verb=verb)
    return parser


if __name__ == "__main__":
    main()
