"""`podium report [--open] [--rebuild]`."""

import argparse
import webbrowser

NAME = "report"
HELP = "one page about the last run: what won, why, what it cost, what to try next"
EXAMPLES = """\
  podium report            where the page of the last `dvc repro` is; made now where there is none yet
  podium report --open     show it in the browser
  podium report --rebuild  make it anew from data/, such as after a search; what is of an earlier one is left out

The page is one file, data/report/index.html, that needs no network: attach it to a mail."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to show it, and whether to make it anew."""
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--rebuild", action="store_true", help="make it anew even where there is one")


def run(arguments: argparse.Namespace) -> None:
    """Make the page where it has to be made, say where it is, and show it."""
    from podium import paths
    from podium.report.build import NAME as PAGE
    from podium.report.build import build
    from podium.report.gather import Folders

    path = paths.REPORT / PAGE
    if arguments.rebuild or not path.is_file():
        path = build(Folders.of_project(), paths.REPORT)
    print(path)
    if arguments.open and not webbrowser.open(path.resolve().as_uri()):
        print("no browser was found here: open that file in one")
