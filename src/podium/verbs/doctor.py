"""`podium doctor data`."""

import argparse
from types import ModuleType

from podium.verbs import doctor_data

NAME = "doctor"
HELP = "look for what is wrong with the images before hours of search are spent on them"
EXAMPLES = """\
  podium doctor data                 examine the images of params.yaml, write a report with thumbnails
  podium doctor data --out report    somewhere else than mlruns/doctor
  podium doctor data --log           into MLflow too, as a run of its own

Exit code 2: something that params.yaml says to refuse, or no usable image; nothing in data/ is touched."""

SUBJECTS: dict[str, ModuleType] = {"data": doctor_data}
"""What can be examined: each has HELP, add_arguments(parser) and run(arguments)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to examine, each with arguments of its own."""
    subjects = parser.add_subparsers(metavar="SUBJECT", required=True)
    for name, module in SUBJECTS.items():
        below = subjects.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(below)
        below.set_defaults(examine=module.run)


def run(arguments: argparse.Namespace) -> None:
    """Examine it."""
    arguments.examine(arguments)
