"""`podium report [--open] [--rebuild]`."""

import argparse
import webbrowser

NAME = "report"
HELP = "one page about the last run: what won, why, what it cost, what to try next"
ORDER = 10
EXAMPLE = "podium report --open", "what won, why, what it cost, what to try next"
EXAMPLES = """\
  podium report            where the page of the last `dvc repro` is; made now if there is none yet
  podium report --open     show it in the browser
  podium report --rebuild  rebuild it from data/, such as after a search; results of an earlier one are left out

The page is one self-contained file, data/report/index.html, that needs no network."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to show it, and whether to rebuild it."""
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--rebuild", action="store_true", help="rebuild it even if there is one")


def run(arguments: argparse.Namespace) -> None:
    """Build the page if needed, print its path, and show it."""
    from podium import paths
    from podium.report.render import NAME as PAGE
    from podium.report.render import build
    from podium.report.report_data import Folders

    path = paths.REPORT / PAGE
    if arguments.rebuild or not path.is_file():
        path = build(Folders.of_project(), paths.REPORT)
    print(path)
    if arguments.open and not webbrowser.open(path.resolve().as_uri()):
        print("no browser was found: open that file in one")
