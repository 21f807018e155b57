"""The program `podium`: what people do by hand before and after `dvc repro`.

Each file of `podium.commands` is a command. Exit codes: 0 done, 1 refused or not true, 2 wrong input.
"""

import argparse
import pkgutil
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Protocol, cast

import shtab

from podium import commands as package
from podium import process


class Command(Protocol):
    """What a module of podium.commands declares. A new command is a new file there, and nothing else."""

    NAME: str
    HELP: str
    """One line, for the list of commands."""
    ORDER: int
    """Its place in that list, lowest first."""
    EXAMPLE: tuple[str, str]
    """A command line and what it does, for `podium --help`."""
    EXAMPLES: str
    """Command lines with what they do, then the exit codes that are special."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Carry it out. Raises PodiumError, whose exit code becomes the program's."""


INTRODUCTION = "Run it in the project's root: register.name and tracking.uri come from params.yaml there."
EXIT_CODES = "exit codes: 0 done, 1 refused or not true, 2 wrong input. `podium COMMAND --help` says more."


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the command line (None: this process's) and exit."""
    process.run(lambda: _run(arguments))


def commands() -> list[Command]:
    """Every command, in the order of the help."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    found = [cast(Command, import_module(f"{package.__name__}.{name}")) for name in names]
    return sorted(found, key=lambda command: (command.ORDER, command.NAME))


def command_parser() -> argparse.ArgumentParser:
    """What the program understands."""
    raw = argparse.RawDescriptionHelpFormatter
    found = commands()
    parser = argparse.ArgumentParser("podium", description="What people do by hand before and after `dvc repro`.")
    parser.formatter_class = raw
    parser.epilog = "\n\n".join([INTRODUCTION, _examples(command.EXAMPLE for command in found), EXIT_CODES])
    shtab.add_argument_to(parser, help="print the completion script of a shell: bash, zsh or tcsh")
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in found:
        epilog = f"examples:\n{command.EXAMPLES}"
        one = below.add_parser(
            command.NAME, help=command.HELP, description=command.HELP, epilog=epilog, formatter_class=raw
        )
        command.add_arguments(one)
        one.set_defaults(command=command)
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    parsed = command_parser().parse_args(arguments)
    parsed.command.run(parsed)


def _examples(lines: Iterable[tuple[str, str]]) -> str:
    pairs = list(lines)
    width = max(len(line) for line, _ in pairs)
    return "\n".join(["examples:", *(f"  {line:<{width}}    {what}" for line, what in pairs)])


if __name__ == "__main__":
    main()
