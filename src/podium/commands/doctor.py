"""`podium doctor [SUBJECT]`."""

import argparse
from types import ModuleType

from podium.commands import doctor_data
from podium.errors import PodiumError

NAME = "doctor"
HELP = "what would fail on this machine and in this project, each with its remedy"
EXAMPLES = """\
  podium doctor                      versions, CUDA, disk, ports, params.yaml, mlruns/, tracking, locks, git, DVC
  podium doctor data                 examine the images of params.yaml, write a report with thumbnails
  podium doctor data --out report    somewhere else than mlruns/doctor
  podium doctor data --log           into MLflow too, as a run of its own

Exit code 1: something would fail. A `note` is worth knowing and fails nothing. Exit code 2 of `doctor data`: something
that params.yaml says to refuse, or no usable image. Nothing in data/ is touched."""

SUBJECTS: dict[str, ModuleType] = {"data": doctor_data}
"""What else can be examined: each has HELP, add_arguments(parser) and run(arguments)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to examine, each with arguments of its own; without a subject machine and project."""
    parser.set_defaults(examine=_machine_and_project)
    subjects = parser.add_subparsers(metavar="SUBJECT")
    for name, module in SUBJECTS.items():
        below = subjects.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(below)
        below.set_defaults(examine=module.run)


def run(arguments: argparse.Namespace) -> None:
    """Examine it."""
    arguments.examine(arguments)


def _machine_and_project(arguments: argparse.Namespace) -> None:
    from podium.environment.finding import table
    from podium.environment.run import checkup

    findings = checkup()
    print(table(findings))
    failing = [f.subject for f in findings if f.level == "fail"]
    if failing:
        raise PodiumError(f"{len(failing)} would fail: {', '.join(failing)}")
